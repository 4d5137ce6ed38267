"""The record of a labelled dataset, as `info` and `train` read it."""

import json
from pathlib import Path

import pytest

from video2act.data.dataset_files import DatasetError
from video2act.data.labels import DimensionError, Labels, load_labels

LABELS = Labels((0, 1), 4, 1, (DimensionError("x", 3.0, 0.3, 10.0, 1.0), DimensionError("y", 8.0, 0.4, 20.0, 1.0)))


def write(root: Path, record: object) -> Path:
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "video2act.json").write_text(json.dumps(record))
    return root


def test_what_is_recorded_comes_back(tmp_path: Path):
    assert load_labels(write(tmp_path, {"environment": "own:task", **LABELS.record()})) == LABELS
    assert LABELS.error == pytest.approx(0.125**0.5)
    assert LABELS.mean_error == 1.0


def test_recorded_actions_have_no_record(tmp_path: Path):
    assert load_labels(tmp_path) is None
    assert load_labels(write(tmp_path / "recorded", {"environment": "own:task"})) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"errors": [{"name": "x"}]},
        {"errors": None},
        {"episodes": ["one"]},
        {"num_held_out": None},
        {"errors": [{"name": "x", "raw": 1, "normalised": "low", "mean_raw": 1, "mean_normalised": 1}]},
    ],
)
def test_a_damaged_record_is_named(changed: dict[str, object], tmp_path: Path):
    record = LABELS.record()
    root = write(tmp_path / "damaged", {"labels": record["labels"] | changed})
    with pytest.raises(DatasetError, match=r"(?s)video2act.json: the record 'labels' cannot be read .*label again"):
        load_labels(root)
