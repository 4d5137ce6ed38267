import json
from pathlib import Path

import pytest
import torch

from video2act.limits import Limits
from video2act.normalize import Mode, Normalizer
from video2act.statistics import Statistics, load_statistics, statistics_to_json

STATISTICS = Statistics(
    mean=(1.0, -2.0, 5.0),
    std=(0.5, 3.0, 0.0),
    min=(0.0, -9.0, 5.0),
    max=(4.0, 7.0, 5.0),
    q01=(0.5, -5.0, 5.0),
    q99=(1.5, 5.0, 5.0),
)
MODES: tuple[Mode, ...] = ("mean_std", "min_max", "quantile", "identity")
RAW = torch.tensor([[0.0, -9.0, 5.0], [4.0, 7.0, 5.0], [1.0, -2.0, 5.5]])


@pytest.mark.parametrize("mode", MODES)
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
    quantile = Normalizer(STATISTICS, "quantile").normalize(torch.tensor([[0.5, 5.0, 5.0], [1.0, 0.0, 5.0]]))
    assert torch.allclose(quantile[:, :2], torch.tensor([[-1.0, 1.0], [0.0, 0.0]]))
    assert torch.equal(Normalizer(STATISTICS, "identity").normalize(RAW), RAW)


@pytest.mark.parametrize("mode", ["mean_std", "min_max", "quantile"])
def test_a_dimension_that_never_varied_is_shifted_not_scaled(mode: Mode):
    normalised = Normalizer(STATISTICS, mode).normalize(RAW)[:, 2]
    assert torch.allclose(normalised, torch.tensor([0.0, 0.0, 0.5]))


def vector(*dimensions: tuple[float, float], names: tuple[str, ...] = ()) -> Statistics:
    """Dimensions by mean and deviation; they range over three deviations on either side."""
    mean, std = zip(*dimensions, strict=True)
    low, high = ([m + side * s for m, s in dimensions] for side in (-3, 3))
    return Statistics(mean, std, tuple(low), tuple(high), tuple(low), tuple(high), names)


SCALED: tuple[Mode, ...] = ("mean_std", "min_max", "quantile")


@pytest.mark.parametrize("mode", SCALED)
class TestParked:
    """A joint that trembles by 1e-5 rad was scaled up until 1e-4 rad counted more than 0.05 rad of a real one."""

    @pytest.mark.parametrize("deviation", [2e-6, 1e-5, 1e-4, 3e-4])
    @pytest.mark.parametrize("place", [0.0, 0.3, -1.5694])
    def test_it_counts_less_than_a_joint_that_moves(self, mode: Mode, deviation: float, place: float):
        normalizer = Normalizer(vector((0.2, 0.3), (place, deviation), (1.0, 0.2)), mode)
        moved = normalizer.normalize(torch.tensor([[0.25, place, 1.0], [0.2, place + 1e-4, 1.0]]))
        still = normalizer.normalize(torch.tensor([0.2, place, 1.0]))
        real, parked = (moved - still).abs().amax(dim=1)
        assert parked < real

    def test_half_a_robot_may_be_parked(self, mode: Mode):
        normalizer = Normalizer(vector(*[(0.0, 1e-5)] * 7, *[(0.0, 0.3)] * 7), mode)
        assert normalizer.scale[:7].min() > 2e-3

    def test_units_of_every_size_keep_their_own_scale(self, mode: Mode):
        """Metres beside degrees and a gripper of 0 to 255; changes of a millimetre; a height above the floor."""
        for dimensions in (
            [(0.0, 0.001)] * 3 + [(0.0, 0.003)] * 3 + [(128.0, 100.0)],
            [(10.0, 30.0)] * 6 + [(0.5, 0.4)],
            [(0.9, 0.02), (0.0, 0.1), (0.0, 0.1)],
        ):
            normalizer = Normalizer(vector(*dimensions), mode)
            spread = torch.tensor([s for _, s in dimensions]) * (1 if mode == "mean_std" else 3)
            assert torch.allclose(normalizer.scale, spread)
            assert normalizer.parked() == []

    @pytest.mark.parametrize("deviation", [0.0, 1e-17, 1e-8])
    def test_rounding_is_no_movement(self, mode: Mode, deviation: float):
        """A constant column at 0.3 has a deviation of 1e-17, by which it was divided."""
        normalizer = Normalizer(vector((0.3, deviation), (0.0, 0.5)), mode)
        assert normalizer.scale[0] == 1
        assert normalizer.normalize(torch.tensor([0.31, 0.0]))[0] == pytest.approx(0.01, abs=1e-6)

    def test_it_is_named_with_its_spread_and_its_scale(self, mode: Mode):
        normalizer = Normalizer(vector((0.2, 0.3), (0.5, 1e-5), names=("elbow", "wrist")), mode)
        (line,) = normalizer.parked()
        spread = "1e-05" if mode == "mean_std" else "3e-05"
        assert line.startswith(f"wrist hardly moves: it varies by {spread} around 0.5, and is scaled by ")

    def test_without_a_floor_every_spread_counts(self, mode: Mode):
        normalizer = Normalizer(vector((0.2, 0.3), (0.5, 1e-5)), mode, floor=0.0)
        assert normalizer.scale[1] < 4e-5
        assert normalizer.parked() == []


@pytest.mark.parametrize("mode", SCALED)
class TestClipping:
    def test_what_is_far_outside_the_training_range_comes_back(self, mode: Mode):
        normalizer = Normalizer(vector((0.0, 1.0), (0.3, 1e-5), (0.0, 0.0), names=("a", "b", "c")), mode)
        inside = torch.tensor([5.9, 0.3, 0.5])
        assert torch.equal(normalizer.clip(inside), inside)
        assert normalizer.outside(inside.numpy()) == ""
        outside = torch.tensor([-60.0, 0.4, 7.0])
        normalised = normalizer.normalize(normalizer.clip(outside))
        assert normalised.abs().max() <= 6
        assert normalised[1:].abs().max() <= 1.05
        text = normalizer.outside(outside.numpy())
        assert text.startswith(
            "a = -60 (trained on -3 to 3), b = 0.4 (trained on 0.3 to 0.3), c = 7 (trained on 0 to 0)"
        )

    def test_a_part_keeps_the_map_of_the_whole(self, mode: Mode):
        whole = Normalizer(vector((0.0, 1.0), (0.3, 1e-5), (0.0, 0.5), names=("a", "b", "c")), mode)
        part = whole.of_dimensions((1, 0))
        raw = torch.tensor([7.0, -0.2, 99.0])
        for own, other in ((part.normalize, whole.normalize), (part.clip, whole.clip), (part.restore, whole.restore)):
            assert torch.equal(own(raw[[1, 0]]), other(raw)[[1, 0]])
        assert part.parked() == whole.parked()


class TestByHand:
    """Scales and limits of a robot in numbers. Its dimensions: a joint, a smaller one, a parked one that trembles by
    1e-5 around -1.6, one that never moves, and a rate of 0 to 2000 that trembles by 1e-3."""

    ROBOT = Statistics(
        mean=(0.1, 0.0, -1.6, 0.3, 1000.0),
        std=(0.4, 0.2, 1e-5, 1e-17, 1e-4),
        min=(-1.0, -0.5, -1.60002, 0.3, 1000.0),
        max=(1.0, 0.3, -1.59998, 0.3, 1000.0005),
        q01=(-0.8, -0.4, -1.60001, 0.3, 1000.0),
        q99=(0.8, 0.2, -1.59999, 0.3, 1000.0005),
        names=("shoulder", "elbow", "wrist", "tool", "rate"),
    )

    @pytest.mark.parametrize(
        ("mode", "shift", "scale"),
        [
            # the upper median of the three that move is 0.2: the wrist's floor is 0.002
            ("mean_std", (0.1, 0.0, -1.6, 0.3, 1000.0), (0.4, 0.2, 0.002, 1.0, 1.0)),
            ("min_max", (0.0, -0.1, -1.6, 0.3, 1000.00025), (1.0, 0.4, 0.004, 1.0, 1.0)),
            ("quantile", (0.0, -0.1, -1.6, 0.3, 1000.00025), (0.8, 0.3, 0.003, 1.0, 1.0)),
            ("identity", (0.0,) * 5, (1.0,) * 5),
        ],
    )
    def test_shift_and_scale(self, mode: Mode, shift: tuple[float, ...], scale: tuple[float, ...]):
        normalizer = Normalizer(self.ROBOT, mode)
        assert normalizer.shift.tolist() == pytest.approx(shift, rel=1e-6)
        assert normalizer.scale.tolist() == pytest.approx(scale, rel=1e-5)
        raw = torch.tensor([0.5, -0.3, -1.5, 0.4, 1001.0])
        expected = [(r - a) / b for r, a, b in zip(raw.tolist(), shift, scale, strict=True)]
        assert normalizer.normalize(raw).tolist() == pytest.approx(expected, rel=1e-3)

    def test_a_floor_of_half_of_a_typical_dimension(self):
        assert Normalizer(self.ROBOT, "mean_std", floor=0.5).scale.tolist() == pytest.approx((0.4, 0.2, 0.1, 1.0, 1.0))

    def test_without_a_floor_what_is_a_millionth_of_its_size_is_rounding_still(self):
        assert Normalizer(self.ROBOT, "mean_std", floor=0.0).scale.tolist() == pytest.approx((0.4, 0.2, 1e-5, 1.0, 1.0))

    @pytest.mark.parametrize("place", [-1.6, 1.6])
    def test_far_from_zero_a_parked_joint_is_scaled_by_a_thousandth_of_its_place(self, place: float):
        parked = Statistics((0.0, place), (0.01, 1e-5), (-0.03, place - 1e-5), (0.03, place + 1e-5))
        assert Normalizer(parked, "mean_std").scale.tolist() == pytest.approx((0.01, 0.00160001))
        assert Normalizer(parked, "mean_std", floor=0.0).scale.tolist() == pytest.approx((0.01, 1e-5))

    def test_of_few_dimensions_the_typical_one_is_the_upper_median(self):
        for moving, scale in ((1, 1e-5), (2, 0.004), (3, 0.002), (4, 0.003)):
            spreads = (1e-5, 0.4, 0.2, 0.3)[:moving]
            sizes = tuple(3 * spread for spread in spreads)
            none = (0.0,) * moving
            statistics = Statistics(none, spreads, tuple(-size for size in sizes), sizes)
            assert Normalizer(statistics, "mean_std").scale[0].item() == pytest.approx(scale)

    def test_half_the_range_is_allowed_on_either_side_and_a_whole_scale_where_there_is_none(self):
        normalizer = Normalizer(self.ROBOT, "mean_std")
        low, high = normalizer.clip(torch.full((5,), -1e6)), normalizer.clip(torch.full((5,), 1e6))
        assert low.tolist() == pytest.approx([-2.0, -0.9, -1.60202, -0.7, 999.0], abs=1e-4)
        assert high.tolist() == pytest.approx([2.0, 0.7, -1.59798, 1.3, 1001.0005], abs=1e-4)

    @pytest.mark.parametrize(("side", "number"), [(-1, -2.001), (1, 2.001)])
    def test_one_number_outside_is_named_on_either_side(self, side: int, number: float):
        raw = torch.tensor([number, 0.0, -1.6, 0.3, 1000.0]).numpy()
        assert Normalizer(self.ROBOT, "mean_std").outside(raw) == f"shoulder = {number:.4g} (trained on -1 to 1)"

    @pytest.mark.parametrize(("closed_share", "scale"), [(0.5e-4, 0.5), (2e-4, 1e-4)])
    def test_quantiles_that_are_one_number_give_way_to_the_range(self, closed_share: float, scale: float):
        """A gripper that is closed in 99 % of all frames; one that trembles while it is, does move."""
        gripper = Statistics((0.0,), (0.1,), (0.0,), (1.0,), (0.0,), (closed_share,))
        normalizer = Normalizer(gripper, "quantile", floor=0.0)
        assert normalizer.scale.item() == pytest.approx(scale)
        assert normalizer.shift.item() == pytest.approx(0.5 if scale == 0.5 else 1e-4)


def test_outliers_do_not_count_between_quantiles():
    glitch = Statistics((0.0,), (5.0,), (-1.0,), (1000.0,), (-1.0,), (1.0,))
    assert Normalizer(glitch, "quantile").normalize(torch.tensor([0.5])) == pytest.approx(0.5)
    rare = Statistics((0.0, 0.0), (0.1, 1.0), (0.0, -1.0), (1.0, 1.0), (0.0, -1.0), (0.0, 1.0))
    # a gripper that is closed in 99 % of all frames: its quantiles are one number
    assert torch.equal(Normalizer(rare, "quantile").normalize(torch.tensor([1.0, 1.0])), torch.ones(2))


def test_quantiles_that_were_not_computed_are_named():
    with pytest.raises(ValueError, match="needs statistics with q01"):
        Normalizer(Statistics((0.0,), (1.0,), (-1.0,), (1.0,)), "quantile")


def test_identity_changes_nothing():
    normalizer = Normalizer(vector((0.0, 1.0)), "identity")
    assert normalizer.clip(torch.tensor([1e6])) == 1e6
    assert normalizer.parked() == []


def test_the_map_travels_with_the_weights():
    normalizer = Normalizer(STATISTICS, "min_max")
    other = Normalizer(Statistics(*[(0.0,) * 3] * 4), "min_max")  # type: ignore[arg-type]
    other.load_state_dict(normalizer.state_dict())
    assert torch.equal(other.normalize(RAW), normalizer.normalize(RAW))
    assert list(normalizer.parameters()) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_range_that_nobody_knows_is_no_limit(mode: Mode):
    """A converted checkpoint clamped every action to [-1, 1], a range that was invented."""
    unknown = Statistics.unknown(2)
    raw = torch.tensor([[-900.0, 4.0]])
    assert torch.equal(Normalizer(unknown, mode).clip(raw), raw)
    assert not unknown.has_range
    assert Statistics((0.0,), (1.0,), (-1.0,), (1.0,)).has_range
    with pytest.raises(ValueError, match=r"limits='data\+5%' .* came without statistics; give a json file"):
        Limits.find("data+5%", lambda: unknown)


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
