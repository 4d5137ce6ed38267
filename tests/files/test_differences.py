from video2act.files.differences import differences


def test_an_object_that_only_one_document_has_is_named_by_its_fields():
    before, now = {"system2": {"former": {"dim": 64}, "streams": list(range(200))}}, {"system2": None}
    (found,) = differences(before, now, words=("then", "now"))
    assert found == "system2: {former, streams} then, nothing now"
