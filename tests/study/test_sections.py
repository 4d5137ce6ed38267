"""What a study's report says of its numbers, and how it draws them."""

import numpy as np
import pytest

pytest.importorskip("robostats")
from video2act.evaluation.comparison import Difference, correct, difference
from video2act.study.sections import difference_cells, goal_words, in_words

MANY = "more than 40 seeds"


def compared(*pairs: tuple[int, int]) -> Difference:
    """Two arms with these successes in 50 scenes, one pair for each training seed."""
    arms = [{seed: np.arange(50) < pair[arm] for seed, pair in enumerate(pairs)} for arm in (0, 1)]
    return difference(("a", arms[0]), ("b", arms[1]))


@pytest.mark.parametrize("pairs", [((20, 25), (25, 20), (20, 20)), ((15, 10), (15, 5), (15, 30))])
def test_of_no_difference_nothing_says_how_many_seeds_it_needs(pairs: tuple[tuple[int, int], ...]):
    """A difference of exactly 0 was said to need more than 40 seeds; so was one that floats leave a rest of."""
    found = compared(*pairs)
    assert found.difference == 0
    assert MANY not in in_words(found)
    assert "No difference was measured" in in_words(found)
    assert "a - b: +0.0 points" in in_words(found)
    assert difference_cells(found)[-1] == "-"


def test_a_small_difference_needs_more_seeds_than_are_counted():
    assert MANY in in_words(compared((21, 20), (30, 20), (10, 20)))


def test_seeds_that_cannot_tell_two_arms_apart_are_never_enough():
    """Six seeds could not tell two arms apart, and `about 6 seeds would`."""
    found = compared((40, 30), (40, 30), (40, 30), (40, 30), (40, 30), (30, 31))
    assert found.p == 0.0625
    assert "these seeds cannot tell the two apart" in in_words(found)
    assert found.seeds_needed == 7
    (corrected,) = correct([found])
    assert corrected.seeds_needed == 7
    clear = compared(*[(40 + seed, 30) for seed in range(6)])
    assert clear.p == 0.03125
    assert clear.seeds_needed == 6
    assert correct([clear, found])[0].seeds_needed == 7, "of the corrected test, which has not found it"


@pytest.mark.parametrize(("first", "second", "goal"), [(35, 25, 20.0), (34, 35, -2.0), (29, 28, 2.0), (20, 20, 0.0)])
def test_a_goal_that_is_exactly_met_is_reached(first: int, second: int, goal: float):
    """`+20.0 points. The goal was +20 points: the mean misses it.`: 20 points are a little less in floats."""
    pairs = [(first, second)] * 8
    assert "the mean reaches it" in goal_words(compared(*pairs), goal)
    assert "the mean misses it" in goal_words(compared((first - 1, second), *pairs[1:]), goal)


def test_a_contrast_is_not_judged_before_all_planned_seeds_are_done():
    """Six of eight seeds were `better`, and two could have changed that: who may stop there finds too much."""
    found = compared(*[(40 + seed, 30) for seed in range(6)])
    early = in_words(found, 20.0, num_planned=8)
    assert "+25.0 points** over 6 training seeds (95 % interval" in early
    assert early.endswith(", sign-flip p = 0.0312. 6 of 8 seeds are done; it is not judged before all are.")
    assert in_words(found, 20.0, num_planned=6).endswith("a is better. The goal was +20 points: the mean reaches it.")
    first = in_words(compared((40, 30)), num_planned=8)
    assert first.endswith("over 1 training seed. 1 of 8 seeds are done; it is not judged before all are.")
