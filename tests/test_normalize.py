import json
from pathlib import Path

import pytest
import torch

from video2act.normalize import Mode, Normalizer, Statistics, load_statistics, statistics_to_json

STATISTICS = Statistics(mean=(1.0, -2.0, 5.0), std=(0.5, 3.0, 0.0), min=(0.0, -9.0, 5.0), max=(4.0, 7.0, 5.0))
RAW = torch.tensor([[0.0, -9.0, 5.0], [4.0, 7.0, 5.0], [1.0, -2.0, 5.5]])


@pytest.mark.parametrize("mode", ["mean_std", "min_max", "identity"])
def test_restoring_undoes_normalising(mode: Mode):
    normalizer = Normalizer(STATISTICS, mode)
    assert torch.allclose(normalizer.restore(normalizer.normalize(RAW)), RAW, atol=1e-6)
    chunk = RAW.expand(2, 3, 3)
    assert torch.equal(normalizer.normalize(chunk)[1], normalizer.normalize(RAW))


def test_each_mode_has_its_range():
    assert torch.allclose(
        Normalizer(STATISTICS, "min_max").normalize(RAW)[:2, :2], torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    )
    assert torch.allclose(Normalizer(STATISTICS, "mean_std").normalize(RAW)[2, :2], torch.zeros(2))
    assert torch.allclose(Normalizer(STATISTICS, "mean_std").normalize(RAW)[0, 0], torch.tensor(-2.0))
    assert torch.equal(Normalizer(STATISTICS, "identity").normalize(RAW), RAW)


@pytest.mark.parametrize("mode", ["mean_std", "min_max"])
def test_a_dimension_that_never_varied_is_shifted_not_scaled(mode: Mode):
    normalised = Normalizer(STATISTICS, mode).normalize(RAW)[:, 2]
    assert torch.allclose(normalised, torch.tensor([0.0, 0.0, 0.5]))


def test_the_map_travels_with_the_weights():
    normalizer = Normalizer(STATISTICS, "min_max")
    other = Normalizer(Statistics(*[(0.0,) * 3] * 4), "min_max")
    other.load_state_dict(normalizer.state_dict())
    assert torch.equal(other.normalize(RAW), normalizer.normalize(RAW))
    assert list(normalizer.parameters()) == []


def test_statistics_of_unequal_sizes_are_refused():
    with pytest.raises(ValueError, match=r"must have one size, got \[1, 2\]"):
        Statistics((0.0,), (1.0, 1.0), (0.0,), (1.0,))


class TestFile:
    def test_round_trip(self, tmp_path: Path):
        statistics = {"state": STATISTICS, "action": Statistics((0.1,), (0.2,), (-0.3,), (1e-7,))}
        (tmp_path / "stats.json").write_text(statistics_to_json(statistics))
        assert load_statistics(tmp_path / "stats.json") == statistics

    def test_a_missing_file_is_named(self, tmp_path: Path):
        with pytest.raises(FileNotFoundError, match=r"stats\.json does not exist; a run folder holds"):
            load_statistics(tmp_path / "stats.json")

    @pytest.mark.parametrize(
        "text",
        [
            "{",
            "[]",
            json.dumps({"state": {"mean": [0.0]}}),
            json.dumps({"state": [0.0]}),
            json.dumps({"state": {"mean": 1.0, "std": 1.0, "min": 1.0, "max": 1.0}}),
            json.dumps({"state": {"mean": [0.0], "std": [1.0], "min": [0.0], "max": [1.0], "colour": [1.0]}}),
        ],
    )
    def test_a_damaged_file_is_named(self, tmp_path: Path, text: str):
        (tmp_path / "stats.json").write_text(text)
        with pytest.raises(ValueError, match=r"stats\.json does not hold statistics"):
            load_statistics(tmp_path / "stats.json")
