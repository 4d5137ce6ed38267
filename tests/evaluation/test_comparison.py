"""Statistics of comparisons, against examples that were computed by hand, and those of the literature."""

from itertools import combinations
from math import comb

import numpy as np
import pytest

pytest.importorskip("robostats")
from video2act.evaluation.comparison import (
    cannot_be_told_apart,
    correct,
    difference,
    fewest_seeds,
    holm,
    power,
    rate,
    scene_test,
    seeds_needed,
    sign_flip,
    untested_pairs,
)


def won(successes: int, scenes: int) -> np.ndarray:
    return np.arange(scenes) < successes


def table(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes of two policies, with these numbers of scenes that both, one or neither of them solves."""
    cells = [(True, True)] * both + [(True, False)] * first + [(False, True)] * second + [(False, False)] * neither
    ours, theirs = np.array(cells).T
    return ours, theirs


class TestSeeds:
    @pytest.mark.parametrize(
        ("differences", "p"),
        [
            ([0.1, 0.2, 0.3, 0.1, 0.2], 2 / 32),  # all positive: the two ends of 32 patterns
            ([0.1, 0.2, 0.3, 0.1, 0.2, 0.4, 0.1, 0.2], 2 / 256),
            ([0.3, -0.1], 4 / 4),  # |0.1| is the smaller of the two possible means
            ([0.1, 0.2, 0.3, -0.1], 6 / 16),  # sums of .5 or more: all positive, or one of the two .1 turned
            ([0.0, 0.0, 0.0], 1.0),
        ],
    )
    def test_sign_flip_counts_the_patterns(self, differences: list[float], p: float):
        assert sign_flip(np.array(differences)) == pytest.approx(p)

    def test_five_seeds_can_never_be_enough(self):
        assert sign_flip(np.array([0.5, 0.51, 0.52, 0.53, 0.54])) == 0.0625
        assert power(5.0, 0.01, 5) == 0.0

    def test_power_is_that_of_the_signs(self):
        """With six seeds only six equal signs are enough: their chance is the power."""
        from scipy.stats import norm

        assert power(0.15, 0.173, 6) == pytest.approx(norm.cdf(0.15 / 0.173) ** 6, abs=0.06)
        assert power(0.0, 0.1, 8) < 0.1
        assert power(0.5, 0.1, 8) == 1.0

    def test_seeds_that_are_needed(self):
        assert seeds_needed(0.5, 0.1) == 6
        assert seeds_needed(0.5, 0.0) == 6
        assert seeds_needed(0.01, 0.2) is None
        needed = seeds_needed(0.15, 0.15)
        assert needed is not None
        assert power(0.15, 0.15, needed) >= 0.8 > power(0.15, 0.15, needed - 2)

    def test_the_seeds_needed_are_those_of_the_corrected_test(self):
        """Beside a corrected p stood the number for the uncorrected one: six for three arms, where seven are fewest."""
        arms = {name: {seed: won(share, 20) for seed in range(6)} for name, share in (("a", 16), ("b", 8), ("c", 4))}
        pairs = [difference((a, arms[a]), (b, arms[b])) for a, b in combinations(arms, 2)]
        assert [pair.seeds_needed for pair in pairs] == [6, 6, 6]
        assert [pair.seeds_needed for pair in correct(pairs)] == [7, 7, 7]
        assert [fewest_seeds(level) for level in (0.05, 0.05 / 3, 0.05 / 6)] == [6, 7, 8]

    def test_the_seeds_needed_of_many_comparisons_are_found(self):
        """Power was computed with 1,024 patterns of signs, whose smallest p is .002: beside 26 other comparisons no
        number of seeds seemed enough."""
        level = 0.05 / 28
        assert seeds_needed(0.5, 0.01, level=level) == fewest_seeds(level) == 11
        arms = {f"a{i}": {seed: won(5 + 5 * i + seed % 2, 50) for seed in range(12)} for i in range(8)}
        pairs = correct([difference((a, arms[a]), (b, arms[b])) for a, b in combinations(arms, 2)])
        assert {pair.seeds_needed for pair in pairs} == {11}

    @pytest.mark.parametrize(("num_seeds", "level"), [(12, 0.05 / 28), (12, 0.05), (17, 0.05 / 28)])
    def test_power_is_the_share_of_samples_that_the_test_finds(self, num_seeds: int, level: float):
        samples = np.random.default_rng(1).normal(0.1, 0.1, (100 if num_seeds < 17 else 30, num_seeds))
        found = np.mean([sign_flip(sample) < level for sample in samples])
        assert power(0.1, 0.1, num_seeds, level=level) == pytest.approx(found, abs=0.12)

    def test_the_smallest_p_is_one_that_the_test_can_reach(self):
        """Of 20 seeds a smallest p of 2e-6 was named, and the test draws 65,536 patterns: it reaches 3e-5."""
        for num_seeds in (2, 16, 20):
            ours, theirs = ({seed: won(k, 10) for seed in range(num_seeds)} for k in (9, 1))
            found = difference(("ours", ours), ("theirs", theirs))
            assert found.p == pytest.approx(found.smallest_p)

    def test_a_difference_is_paired_by_seed(self):
        ours = {0: won(40, 50), 1: won(20, 50), 2: won(30, 50), 5: won(1, 50)}
        theirs = {0: won(30, 50), 1: won(15, 50), 2: won(15, 50), 9: won(50, 50)}
        found = difference(("ours", ours), ("theirs", theirs))
        assert found.per_seed == pytest.approx({0: 0.2, 1: 0.1, 2: 0.3})
        assert found.difference == pytest.approx(0.2)
        assert found.p == found.smallest_p == 0.25
        # mean .2, standard deviation .1, t(2) = 4.3027
        assert found.low == pytest.approx(0.2 - 4.3027 * 0.1 / 3**0.5, abs=1e-4)
        assert found.high == pytest.approx(0.2 + 4.3027 * 0.1 / 3**0.5, abs=1e-4)
        with pytest.raises(ValueError, match="share no training seed"):
            difference(("ours", {0: won(1, 2)}), ("theirs", {1: won(1, 2)}))

    def test_an_interval_ends_at_a_hundred_points(self):
        """Of two seeds it ran far beyond what a difference can be."""
        found = difference(("a", {0: won(10, 10), 1: won(9, 10)}), ("b", {0: won(0, 10), 1: won(1, 10)}))
        assert found.high == 1.0
        assert found.low is not None
        assert found.low >= -1.0

    def test_one_seed_has_no_test_over_seeds(self):
        found = difference(("a", {0: won(40, 50)}), ("b", {0: won(30, 50)}))
        assert (found.p, found.low, found.high, found.seeds_needed) == (None, None, None, None)
        assert found.scenes[0].only_first == 10

    @pytest.mark.parametrize("points", [(10, 20, -30, 10, -10), (3, 3, 3, 3, 3, -15), (-5, 5, 5, -5)])
    def test_differences_that_cancel_have_a_p_of_one(self, points: tuple[int, ...]):
        """Their mean was 1e-17 for the test and not 0, so patterns of signs with a mean of 0 did not reach it."""
        assert sign_flip(np.array([(each + 20) / 100 - 0.2 for each in points])) == 1


class TestScenes:
    def test_mcnemar_counts_the_scenes_that_differ(self):
        found = scene_test(*table(20, 9, 1, 20))
        assert (found.only_first, found.only_second, found.difference) == (9, 1, pytest.approx(0.16))
        # ten scenes differ; 0 or 1 on one side, or on the other
        assert found.p == pytest.approx(2 * (comb(10, 0) + comb(10, 1)) / 2**10)

    def test_tango_as_in_the_paper(self):
        """Tango 1998, the cross-over trial of soft lenses: 44 pairs, 43 both, 0 and 1 differ, 0 neither."""
        found = scene_test(*table(43, 0, 1, 0))
        assert (found.low, found.high) == (pytest.approx(-0.118, abs=1e-3), pytest.approx(0.060, abs=1e-3))

    def test_policies_that_agree_everywhere(self):
        found = scene_test(*table(30, 0, 0, 20))
        assert (found.p, found.difference) == (1.0, 0.0)
        assert found.low < 0 < found.high
        with pytest.raises(ValueError, match="on 2 scenes, the other on 3"):
            scene_test(won(1, 2), won(1, 3))


class TestRates:
    def test_seeds_that_differ_are_not_pooled(self):
        """28, 48 and 49 of 50 are not 125 of 150: that Wilson interval, 77 to 88 %, is far too narrow."""
        found = rate({0: won(28, 50), 1: won(48, 50), 2: won(49, 50)})
        assert found.method == "t over training seeds"
        assert found.share == pytest.approx(125 / 150)
        assert found.low is not None
        assert found.low < 0.5
        assert found.high == 1.0

    def test_near_the_ends_the_scenes_of_one_seed_count(self):
        found = rate({seed: won(50, 50) for seed in range(8)})
        # Clopper and Pearson: (alpha / 2) ** (1 / n)
        assert found.low == pytest.approx(0.025 ** (1 / 50))
        assert (found.high, found.method) == (1.0, "Clopper-Pearson over scenes")
        assert rate({0: won(0, 50), 1: won(1, 50)}).low == 0.0

    def test_one_seed_has_the_interval_of_its_scenes(self):
        found = rate({0: won(1, 10)})
        assert (found.low, found.high) == (pytest.approx(0.0025, abs=1e-4), pytest.approx(0.4450, abs=1e-4))

    def test_seeds_that_agree_say_nothing_of_others(self):
        assert rate({0: won(25, 50), 1: won(25, 50)}).low is None


class TestMany:
    def test_holm_by_hand(self):
        assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
        assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
        assert holm([]) == []

    def test_contrasts_that_are_missing_count_in_the_correction(self):
        """p was corrected for the contrasts that were done: the first of eleven was not corrected at all. Those of one
        seed and those of several were two families."""
        several = [difference(("a", {s: won(40 + s, 50) for s in range(8)}), ("b", {s: won(9, 50) for s in range(8)}))]
        single = [difference(("a", {0: won(10, 50)}), ("c", {0: won(0, 50)}))]
        found = correct([*several, *single], num_named=11)
        assert several[0].p == 2 / 2**8
        assert [each.p_holm for each in found] == pytest.approx([11 * 2 / 2**8, 11 * 2 / 2**10])
        assert found[0].seeds_needed == fewest_seeds(0.05 / 11)
        assert correct(several, num_named=1) == correct(several)

    def test_the_set_over_scenes_is_that_of_robostats(self):
        arms = {"good": {0: won(45, 50)}, "as_good": {0: won(44, 50)}, "bad": {0: won(5, 50)}}
        assert cannot_be_told_apart(arms) == ["good", "as_good"]

    def test_the_set_over_seeds(self):
        many, few = range(10), range(5)
        arms = {
            "good": {seed: won(45 - seed % 2, 50) for seed in many},
            "bad": {seed: won(5 + seed, 50) for seed in many},
        }
        assert cannot_be_told_apart(arms) == ["good"]
        short = {name: {seed: outcomes[seed] for seed in few} for name, outcomes in arms.items()}
        assert cannot_be_told_apart(short) == ["good", "bad"], "five seeds cannot tell anything apart"

    def test_arms_that_share_too_few_seeds_are_named_and_count(self):
        """An arm of one seed `may be the best` and nobody heard that it was tested with none. The correction passed
        over its pairs."""
        arms = {name: {seed: won(share - seed % 2, 50) for seed in range(7)} for name, share in (("a", 45), ("b", 9))}
        assert cannot_be_told_apart(arms) == ["a"]
        arms |= {"c": {0: won(20, 50)}, "d": {9: won(1, 50)}}
        assert untested_pairs(arms) == [("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")]
        assert cannot_be_told_apart(arms) == ["a", "b", "c", "d"], "six pairs, and seven seeds reach 2 / 128"
        assert untested_pairs({name: {0: won(9, 50)} for name in "ab"}) == [], "over scenes"
        assert untested_pairs({name: arms[name] for name in "ab"}) == []
