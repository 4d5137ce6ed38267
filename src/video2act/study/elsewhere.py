"""Results of a study that were made on other machines: what their `results.json` holds is not run again here.

Trainings of different seeds do not depend on each other. So machines may share a study by arms and seeds, without a
folder that all of them see.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from video2act.config.checks import check, shown
from video2act.config.files import build
from video2act.config.plain import damage_named, read_json
from video2act.envs import expand_suites
from video2act.study.jobs import StudyJob, StudyPlan
from video2act.study.named import Named
from video2act.study.results import Results

REMEDY = "name a results.json that `video2act study` wrote"


@dataclass(frozen=True)
class MachinePart:
    """What one machine did of a study."""

    seeds: dict[str, list[int]]
    """arm -> training seeds"""
    made_from: dict[str, str]
    """datasets and video models -> their fingerprints"""
    compute: dict[str, Any]

    @classmethod
    def read(cls, content: dict[str, Any]) -> "MachinePart":
        seeds = {str(arm): [int(seed) for seed in found] for arm, found in content["seeds"].items()}
        made_from = {str(place): str(found) for place, found in content["made_from"].items()}
        spent = content["compute"]
        compute = {
            "cpu_seconds": {str(kind): float(seconds) for kind, seconds in spent["cpu_seconds"].items()},
            "interrupted": {
                "attempts": int(spent["interrupted"]["attempts"]),
                "seconds": float(spent["interrupted"]["seconds"]),
            },
            "machines": [{"cpu": str(each["cpu"]), "cores": int(each["cores"])} for each in spent["machines"]],
            "versions": {str(name): str(version) for name, version in spent["versions"].items()},
        }
        return cls(seeds, made_from, compute)


@dataclass(frozen=True)
class Elsewhere:
    """The content of a `results.json` that was made elsewhere."""

    path: Path
    outcomes: Results
    sources: tuple[MachinePart, ...]
    """itself, and those that it was made with"""
    named: tuple[Named, ...]
    """when its primary contrast was named"""


def commands(plan: StudyPlan, arm: str) -> list[str]:
    """The commands that make an arm's evaluation, as one could type them. `{seed}` stands for the training seed. Files
    and folders of the user are seen from the yaml file."""
    seed = plan.config.seeds[0]
    jobs = plan.needed([(arm, seed)]).values()
    outs = {job.out: _own_out(job, seed) for job in jobs}
    made = list[str]()
    for job in jobs:
        words = [outs.get(word) or _seen_from(plan.folder, word) for word in job.words]
        if job.kind in ("train", "train-video") and "--seed" in words:
            words[words.index("--seed") + 1] = "{seed}"
        made.append(" ".join(words))
    return made


def _own_out(job: StudyJob, seed: int) -> str:
    """The folder of a job, without an arm's name: another arm may share the training."""
    own = {"train": "policy", "eval": "evaluation"}.get(job.kind)
    return own or re.sub(rf"_seed{seed}$", "_seed{seed}", job.out)


def _seen_from(folder: Path, word: str) -> str:
    return os.path.relpath(word, folder) if os.path.isabs(word) else word


def read_elsewhere(paths: Sequence[Path], plan: StudyPlan, *, part: str | None) -> tuple[Elsewhere, ...]:
    """The files of other machines.

    Args:
        part: the slice that is run here.
    Raises:
        FileNotFoundError, ValueError: one is none, is damaged, is of another study or slice, made an arm with other
            commands, or tells of an arm's training seed what another one does not.
    """
    found = list[Elsewhere]()
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is no file; {REMEDY}")
        with damage_named(path, REMEDY):
            content = read_json(path)
            name, slice_of, made = content["study"], content["slice"], dict(content.get("commands", {}))
            outcomes = {
                str(arm): {int(seed): _successes(scenes) for seed, scenes in seeds.items()}
                for arm, seeds in content["scenes"].items()
            }
            sources = _sources(content, outcomes)
            named = build(tuple[Named, ...], content.get("named", []), where=str(path))
        check(name == plan.config.name, f"{path} is of the study {name!r}, not of {plan.config.name!r}; leave it out")
        asked = [f"the slice {each}" if each else "the whole study" for each in (slice_of, part)]
        check(slice_of == part, f"{path} is of {asked[0]}, and {asked[1]} is asked for; leave it out")
        made_here = [arm for arm in outcomes if arm in plan.config.arms and not plan.config.arms[arm].results]
        kept: Results = {}
        for arm in made_here:
            _check_made(path, arm, made.get(arm), now=commands(plan, arm))
            kept[arm] = {seed: won for seed, won in outcomes[arm].items() if seed in plan.config.seeds}
            _check_scenes(path, plan, arm, kept[arm])
        for other in found:
            _check_agree(path, kept, other)
        found.append(Elsewhere(path, kept, sources, named))
    return tuple(found)


def _successes(scenes: str) -> Bool[np.ndarray, "scenes"]:
    check(set(scenes) <= set("01"), f"scenes: expected digits 0 and 1, got {shown(scenes)}")
    return np.array([won == "1" for won in scenes])


def _sources(content: dict[str, Any], outcomes: Results) -> tuple[MachinePart, ...]:
    """Who made what: the machine that wrote the file, and those whose results it had."""
    others = tuple(map(MachinePart.read, content.get("elsewhere", ())))
    theirs = {(arm, seed) for source in others for arm, seeds in source.seeds.items() for seed in seeds}
    own = {arm: [seed for seed in seeds if (arm, seed) not in theirs] for arm, seeds in outcomes.items()}
    return (MachinePart.read({**content, "seeds": {arm: seeds for arm, seeds in own.items() if seeds}}), *others)


def _check_made(path: Path, arm: str, then: Any, *, now: list[str]) -> None:
    if then is None:
        raise ValueError(f"{path} does not tell by which commands arm {arm} was made; leave it out")
    differ = [f"{was} (then), {now_is} (now)" for was, now_is in zip_longest(then, now) if was != now_is]
    remedy = "so its seeds are not of the same arm; take the yaml file of then, or leave it out"
    check(not differ, f"{path}: arm {arm} was made by other commands: {'; '.join(differ)}; {remedy}")


def _check_scenes(path: Path, plan: StudyPlan, arm: str, outcomes: dict[int, Bool[np.ndarray, "scenes"]]) -> None:
    number = plan.config.scenes.episodes * len(expand_suites(plan.config.arms[arm].env or plan.config.env))
    for seed, won in outcomes.items():
        check(len(won) == number, f"{path}: arm {arm}, seed {seed} has {len(won)} scenes, not {number}; {REMEDY}")


def _check_agree(path: Path, kept: Results, other: Elsewhere) -> None:
    for arm, seeds in kept.items():
        for seed, won in seeds.items():
            again = other.outcomes.get(arm, {}).get(seed, won)
            problem = f"{path} and {other.path} both hold arm {arm}, seed {seed}, with other successes; leave one out"
            check(np.array_equal(won, again), problem)


def joined(here: Results, elsewhere: Sequence[Elsewhere]) -> Results:
    """All results; what is done here counts as it is here."""
    arms = dict.fromkeys([*here, *(arm for other in elsewhere for arm in other.outcomes)])
    parts = [*reversed([other.outcomes for other in elsewhere]), here]
    found = {arm: {seed: won for part in parts for seed, won in part.get(arm, {}).items()} for arm in arms}
    return {arm: dict(sorted(seeds.items())) for arm, seeds in found.items() if seeds}


def elsewhere_notes(elsewhere: Sequence[Elsewhere], here: Results, *, made_from: dict[str, str]) -> Iterator[str]:
    """What comes from elsewhere, and what it was made from that is another here.

    Args:
        made_from: datasets and video models of this machine -> their fingerprints.
    """
    for other in elsewhere:
        listed = [f"{arm} (seeds {', '.join(map(str, seeds))})" for arm, seeds in other.outcomes.items() if seeds]
        yield f"From {other.path}: {'; '.join(listed) or 'nothing of this study'}."
        for arm, seeds in other.outcomes.items():
            twice = [seed for seed, won in here.get(arm, {}).items() if not np.array_equal(seeds.get(seed, won), won)]
            if twice:
                told = ", ".join(map(str, twice))
                yield f"{arm}, seed {told}: done here, too, with other successes than in {other.path}; these count."
        for place in sorted({place for source in other.sources for place in source.made_from}):
            then = {source.made_from[place] for source in other.sources if place in source.made_from}
            now = {made_from.get(place, "")} - {""}
            if len(then | now) > 1:
                yield f"{place} of {other.path} is another than here, or several: its arms were made from these."


def named_first(elsewhere: Sequence[Elsewhere]) -> tuple[Named, ...]:
    """The primary contrasts of the machine that was the first to name one."""
    return min((other.named for other in elsewhere if other.named), key=lambda named: named[0].time, default=())
