"""Comparisons of policies on the same scenes, by libraries: robostats and scipy (the extra `study`).

Two questions, and a test for each. Both are paired: the arms of a comparison share training seeds and scenes.

- *Would another training find the same?* One number per training seed, the difference of the success rates; a sign-flip
  test over these numbers, which is exact, and a t interval. A seed moves success more than most methods do, so this is
  the question that decides.
- *Would these very policies do the same on other scenes?* McNemar's exact test and Tango's interval over the scenes,
  for each training seed by itself: episodes of different trainings are not repetitions of one experiment.

Rates and differences are shares: .2 is 20 points. Intervals are of 95 %.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from video2act.extras import extra

with extra("study", "a comparison of evaluations"):
    import robostats  # type: ignore[import-not-found]
    from robostats.kmodel import adjust  # type: ignore[import-not-found]
    from scipy import stats  # type: ignore[import-not-found]

LEVEL = 0.05
"""a p below it counts as a finding"""
NEAR_END = 0.05
"""where every seed is this near to 0 or to 1, a t interval would end beyond it, or have no width"""
MAX_SEEDS = 40
"""up to which seeds are counted that a difference would need"""
NUM_SIGNS = 2**16
"""patterns of signs in a sign-flip test; of more than 16 seeds these many are drawn"""

Outcomes = Mapping[int, Bool[np.ndarray, "scenes"]]
"""success of each scene, by training seed"""


@dataclass(frozen=True)
class ArmRate:
    """Success of an arm, with its interval."""

    share: float
    low: float | None
    """None: one number for each of two seeds that agree says nothing of others"""
    high: float | None
    method: str
    per_seed: dict[int, float]


@dataclass(frozen=True)
class SceneTest:
    """Two policies on the same scenes."""

    difference: float
    low: float
    high: float
    """Tango's interval"""
    p: float
    """McNemar's, exact"""
    only_first: int
    """scenes that the first alone solves"""
    only_second: int


@dataclass(frozen=True)
class Difference:
    """The success of one arm less that of another."""

    first: str
    second: str
    difference: float
    per_seed: dict[int, float]
    low: float | None
    high: float | None
    """t interval over the training seeds; None: fewer than two, or all alike"""
    p: float | None
    """of the sign-flip test over training seeds; None: fewer than two"""
    smallest_p: float
    """that so many seeds can reach"""
    seeds_needed: int | None
    """training seeds for a power of .8, if the difference and its spread are as measured, of the corrected test where
    `p_holm` is given, and more than these where their p is no finding; None: fewer than three were measured, the
    difference is 0, or more than MAX_SEEDS are needed"""
    scenes: dict[int, SceneTest]
    """by training seed"""
    p_holm: float | None = None
    """p, corrected for the comparisons beside it"""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def rate(outcomes: Outcomes) -> ArmRate:
    """Success and its interval: over training seeds by t; for one seed, or where all of them are near 0 or 1, over the
    scenes by Clopper and Pearson, counted once."""
    per_seed = {seed: float(won.mean()) for seed, won in outcomes.items()}
    shares = np.array(list(per_seed.values()))
    mean, num_scenes = float(shares.mean()), next(iter(outcomes.values())).size
    if len(shares) == 1 or max(shares) <= NEAR_END or min(shares) >= 1 - NEAR_END:
        # 400 episodes of 8 seeds are not 400 independent ones: the scenes of one seed are counted
        found = robostats.clopper_pearson(round(mean * num_scenes), num_scenes)
        return ArmRate(mean, found.lower, found.upper, "Clopper-Pearson over scenes", per_seed)
    bounds = _t_interval(shares)
    if bounds is None:
        return ArmRate(mean, None, None, "none: all seeds alike", per_seed)
    return ArmRate(mean, max(0.0, bounds[0]), min(1.0, bounds[1]), "t over training seeds", per_seed)


def sign_flip(differences: Float[np.ndarray, "seeds"]) -> float:
    """Two-sided p: how often the mean is as far from 0 if each difference could as well have the other sign. Exact up
    to 16 seeds."""
    how: dict[str, Any] = {"permutation_type": "samples", "vectorized": True, "batch": 64, "rng": 0}
    values = np.asarray(differences, float)
    return float(stats.permutation_test((values,), _means, n_resamples=NUM_SIGNS, **how).pvalue)


def _means(values: np.ndarray, axis: int) -> np.ndarray:
    """Rounded: means that are equal, such as those that cancel, differ in the last bits of floats."""
    return np.asarray(np.round(np.mean(values, axis=axis), 12))


def power(difference: float, spread: float, num_seeds: int, *, level: float = LEVEL) -> float:
    """How often the sign-flip test over so many seeds finds a true difference (p < level), by simulation.

    Args:
        spread: standard deviation of the difference between training seeds.
    """
    if num_seeds < fewest_seeds(level):
        return 0.0
    rng = np.random.default_rng(0)
    samples = rng.normal(difference, spread, (400, num_seeds)).astype(np.float32)
    # `sign_flip` of all samples at once, by as many patterns: fewer could not reach the level of many comparisons
    if is_exact := 2**num_seeds <= NUM_SIGNS:
        bits = np.arange(2**num_seeds)[:, None] >> np.arange(num_seeds) & 1
    else:
        bits = rng.integers(2, size=(NUM_SIGNS, num_seeds))
    signs = (1 - 2 * bits).astype(np.float32)
    measured = np.abs(samples.sum(axis=1)) * (1 - 1e-5)  # equal sums may differ in the last bits of float32
    beyond = sum(np.sum(part @ samples.T >= measured, axis=0) for part in np.array_split(signs, 32))
    drawn = 0 if is_exact else 1  # the measured signs are one more pattern
    p = 2 * (beyond + drawn) / (len(signs) + drawn)
    return float(np.mean(p < level))


def fewest_seeds(level: float) -> int:
    """Of which the sign-flip test can find anything: with n seeds, p is at least 2 / 2**n."""
    return 1 + math.ceil(-math.log2(level))


def seeds_needed(
    difference: float, spread: float, *, level: float = LEVEL, wanted: float = 0.8, too_few: int = 0
) -> int | None:
    """The fewest seeds with that power; None: more than MAX_SEEDS.

    Args:
        too_few: seeds that have not shown the difference.
    """
    fewest = max(fewest_seeds(level), too_few + 1)
    if spread == 0 and difference != 0:
        return fewest
    low, high = fewest - 1, max(fewest, MAX_SEEDS + 1)  # low is too few, high is enough or beyond what is counted
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(difference, spread, middle, level=level) >= wanted else (middle, high)
    return high if high <= MAX_SEEDS else None


def scene_test(first: Bool[np.ndarray, "scenes"], second: Bool[np.ndarray, "others"]) -> SceneTest:
    """McNemar's exact test and Tango's 95 % interval. Raises ValueError: other numbers of scenes."""
    if first.size != second.size:
        raise ValueError(f"one policy was evaluated on {first.size} scenes, the other on {second.size}")
    found: Any = robostats.compare(robostats.pair(_records("first", first), _records("second", second)))
    low, high = found.interval.lower, found.interval.upper
    counts = found.n_a_success_b_failure, found.n_b_success_a_failure
    return SceneTest(found.delta, low, high, found.p_value, *counts)


def difference(first: tuple[str, Outcomes], second: tuple[str, Outcomes]) -> Difference:
    """The first arm less the second, over the training seeds that both have. Each comes with its name.

    Raises:
        ValueError: they share no training seed.
    """
    (name, ours), (other, theirs) = first, second
    per_seed = _seed_differences(ours, theirs)
    if not per_seed:
        raise ValueError(f"{name} and {other} share no training seed that is done")
    values = np.array(list(per_seed.values()))
    bounds, p = _t_interval(values), sign_flip(values) if len(values) > 1 else None
    low, high = (max(-1.0, bounds[0]), min(1.0, bounds[1])) if bounds else (None, None)
    return Difference(
        first=name,
        second=other,
        difference=_mean(values),
        per_seed=per_seed,
        low=low,
        high=high,
        p=p,
        smallest_p=2 / min(2 ** len(values), NUM_SIGNS + 1),
        seeds_needed=_needed(values, LEVEL, p=p),
        scenes={seed: scene_test(ours[seed], theirs[seed]) for seed in per_seed},
    )


def _needed(values: Float[np.ndarray, "seeds"], level: float, *, p: float | None) -> int | None:
    """More than there are, where p (corrected, if the level is) is no finding. None also where fewer than three seeds,
    or no difference, were measured."""
    mean = abs(_mean(values))
    if len(values) < 3 or mean == 0:
        return None
    too_few = 0 if p is not None and p < LEVEL else len(values)
    return seeds_needed(mean, float(values.std(ddof=1)), level=level, too_few=too_few)


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p corrected for the others beside it (Holm 1979)."""
    return adjust(list(p_values), "holm")


def correct(found: Sequence[Difference], *, num_named: int | None = None) -> list[Difference]:
    """Differences with their p corrected for each other: those over training seeds, and those of one seed each over
    its scenes. The seeds needed are those of the corrected test, at `LEVEL` over the number of differences.

    Args:
        num_named: differences that were named beforehand, if more than were found. Those that are missing in a test
            count as p = 1: what is done first must not look better for it.
    """
    made, number = list(found), len(found) if num_named is None else num_named
    for group in ([i for i, each in enumerate(found) if (each.p is None) == is_single] for is_single in (False, True)):
        tested = [next(iter(found[i].scenes.values())).p if found[i].p is None else found[i].p for i in group]
        known = [p for p in tested if p is not None]
        corrected = holm([*known, *[1.0] * (number - len(known))])
        for i, p in zip(group, corrected[: len(group)], strict=True):
            needed = _needed(np.array(list(found[i].per_seed.values())), LEVEL / number, p=p)
            made[i] = replace(found[i], p_holm=p, seeds_needed=needed)
    return made


def told_by(arms: Mapping[str, Outcomes]) -> str:
    """By which tests `cannot_be_told_apart` judges these arms."""
    is_single = all(len(outcomes) == 1 for outcomes in arms.values())
    return (
        f"all pairs corrected for each other, over {'scenes of one training each' if is_single else 'training seeds'}"
    )


def cannot_be_told_apart(arms: Mapping[str, Outcomes]) -> list[str]:
    """The arms that none is shown to be better than, after Holm's correction over all pairs.

    One training seed each: over scenes, by robostats. Several: by sign-flip tests over the seeds; with few seeds and
    many pairs no arm can be told apart, which is then true. `untested_pairs` count as p = 1.
    """
    if all(len(outcomes) == 1 for outcomes in arms.values()):
        rows = [_records(name, next(iter(outcomes.values()))) for name, outcomes in arms.items()]
        found = robostats.indistinguishable_set(robostats.align(*rows))
        return [list(arms)[row] for row in found.members]
    untested = untested_pairs(arms)
    pairs = [pair for pair in combinations(arms, 2) if pair not in untested]
    tested = [(a, b, np.array(list(_seed_differences(arms[a], arms[b]).values()))) for a, b in pairs]
    corrected = holm([*(sign_flip(values) for _, _, values in tested), *[1.0] * len(untested)])[: len(tested)]
    worse = {(b if values.mean() > 0 else a) for (a, b, values), p in zip(tested, corrected, strict=True) if p < LEVEL}
    return [name for name in arms if name not in worse]


def untested_pairs(arms: Mapping[str, Outcomes]) -> list[tuple[str, str]]:
    """Pairs of arms that `cannot_be_told_apart` does not test: they share fewer than two training seeds."""
    if all(len(outcomes) == 1 for outcomes in arms.values()):
        return []  # tested over scenes
    return [(a, b) for a, b in combinations(arms, 2) if len(arms[a].keys() & arms[b].keys()) < 2]


def _seed_differences(first: Outcomes, second: Outcomes) -> dict[int, float]:
    """Difference of success for each training seed that both have."""
    return {seed: float(first[seed].mean() - second[seed].mean()) for seed in first if seed in second}


def _mean(values: Float[np.ndarray, "seeds"]) -> float:
    """Of differences that cancel, floats leave a rest: it is 0."""
    mean = float(values.mean())
    return mean if abs(mean) > 1e-12 else 0.0


def _t_interval(values: Float[np.ndarray, "seeds"]) -> tuple[float, float] | None:
    """The 95 % interval of the mean; None for fewer than two values, or equal ones."""
    if len(values) < 2 or np.ptp(values) < 1e-12:
        return None
    found = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    return float(found.low), float(found.high)


def _records(name: str, outcomes: Bool[np.ndarray, "scenes"]) -> Any:
    won = enumerate(outcomes.tolist())
    return robostats.RecordSet(robostats.EpisodeRecord(name, "task", each, scenario_id=str(n)) for n, each in won)
