"""What `DatasetWriter.create` begins can be read back."""

import pytest

from video2act.data import DatasetWriter
from video2act.data.lerobot_format import Feature


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cameras": ("a\nb",)}, "at most 200 printable letters, got 'observation.images.a"),
        ({"cameras": ("c" * 230,)}, "a camera's name may have 181 bytes, .* has 230"),
        ({"cameras": ("\N{GREEK SMALL LETTER PI}" * 100,)}, "a camera's name may have 181 bytes, .* has 200"),
        ({"state_names": ("x", "y\t", "grip")}, "names of observation.state must have at most 200 printable"),
        ({"action_names": ("dx", "y" * 250)}, "names of action must have at most 200 printable letters"),
        ({"robot": "my\narm"}, "robot_type and the names of features must have at most 200 printable letters"),
        ({"image_size": (64, 2**15)}, "expected at most 16384 px a side"),
        ({"image_size": 2**13, "storage": "image"}, "8192 x 8192 px; images have at most"),
        ({"extra": {"action": Feature("float32", (2,))}, "action_names": ()}, "may not be named 'action'"),
        ({"extra": {"note": Feature("string", (2,))}}, "'note' cannot be stored: texts are written one a row"),
        ({"extra": {"note": Feature("binary", (1,))}}, "'note' .* dtype is 'binary', expected a kind of number"),
        ({"extra": {"day": Feature("date32[day]", (1,))}}, "'day' .* expected a kind of number"),
        ({"extra": {"force": Feature("float", (1,))}}, "'force' .* has several meanings"),
    ],
)
def test_what_the_reader_would_refuse_is_not_begun(tmp_path, changes, message):
    """A session was recorded, and could then not be opened."""
    with pytest.raises(ValueError, match=message):
        create(tmp_path / "set", **changes)
    assert not (tmp_path / "set").exists()


def create(root, **changes):
    words = {"fps": 10.0, "robot": "arm", "cameras": ("front",), "image_size": 64}
    return DatasetWriter.create(
        root, **words | {"state_names": ("x", "y", "grip"), "action_names": ("dx", "dy")} | changes
    )
