from video2act.viz.markdown import markdown_table


def test_a_cell_that_holds_a_bar_stays_one_cell():
    lines = markdown_table(("arm", "success"), [("a|b", 3), ("c", "4/5")]).splitlines()
    assert lines == ["| arm | success |", "|---|---|", "| a\\|b | 3 |", "| c | 4/5 |"]
