"""What the evaluations of a study found: success of each scene, by arm and training seed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from video2act.envs import expand_suites, num_scenes
from video2act.files.evaluation_folder import INFO_FILE, env_of, read_evaluation
from video2act.study.jobs import StudyPlan
from video2act.study.origins import (
    UNKNOWN,
    Evaluated,
    check_own_trainings,
    seeds_differ,
    settings_differ,
    training_seed,
    trainings_differ,
    unknown_trainings,
    versions_differ,
)

Results = dict[str, dict[int, Bool[np.ndarray, "scenes"]]]
"""arm -> training seed -> success of each scene"""
Evaluations = dict[str, dict[int, Evaluated]]
"""the same for the evaluations themselves"""


def read_evaluations(plan: StudyPlan, folder: Path) -> Evaluations:
    """Those that are done; an arm without any is left out."""
    found: Evaluations = {}
    for (arm, seed), place in plan.results.items():
        if (folder / place).is_file():
            found.setdefault(arm, {})[seed] = folder / place, read_evaluation(folder / place)
    return found


def results_of(plan: StudyPlan, done: Evaluations) -> Results:
    """What the evaluations found.

    Raises:
        ValueError: one was made on other scenes, or in another environment.
    """
    scenes = range(plan.config.scenes.seed, plan.config.scenes.seed + plan.config.scenes.episodes)
    found: Results = {}
    for arm, evaluated in done.items():
        wanted = expand_suites(plan.config.arms[arm].env or plan.config.env)
        for seed, (place, info) in evaluated.items():
            theirs = tuple(map(env_of, info["per_task"]))
            if theirs != wanted:
                problem = f"{place} was evaluated in {', '.join(theirs)}, arm {arm} is in {', '.join(wanted)}"
                raise ValueError(f"{problem}; name an evaluation in the same, or set the arm's env")
            found.setdefault(arm, {})[seed] = scene_results(info, scenes, where=place)
    return found


def size_note(plan: StudyPlan, done: Evaluations) -> str:
    """Which evaluations showed images of which size, where they differ: those of an older version showed 128 px."""
    shown: dict[str, list[str]] = {}
    for arm, evaluated in done.items():
        for seed, (_, info) in evaluated.items():
            settings = info["settings"]
            height, width = settings.get("image_size") or (128, 128)  # the usual size
            if settings.get("recorded_sizes", ()) is not None:  # it has cameras
                shown.setdefault(f"{height} x {width} px", []).append(f"{plan.config.title(arm)} (seed {seed})")
    listed = "; ".join(f"{size}: {', '.join(names)}" for size, names in shown.items())
    note = f"Simulators rendered images of several sizes, so arms may differ by that alone. {listed}."
    return note * (len(shown) > 1)


def version_notes(plan: StudyPlan, done: Evaluations) -> tuple[str, ...]:
    """Which evaluations were made with another simulator, renderer or torch."""
    named = [(f"{plan.config.title(arm)} (seed {seed})", done[arm][seed][1]) for arm in done for seed in done[arm]]
    return tuple(versions_differ(named))


def left_out_note(plan: StudyPlan, folder: Path) -> str:
    """Which evaluations in the study's folder do not count, because the file names their arm or seed no more."""
    places = sorted(path.relative_to(folder) for path in folder.glob(f"evaluations/*/{INFO_FILE}"))
    names = [place.parent.name for place in places if str(place) not in plan.results.values()]
    return f"Done, but not counted, since the file does not name them (any more): {', '.join(names)}." * bool(names)


def origin_notes(plan: StudyPlan, done: Evaluations) -> tuple[str, ...]:
    """What results from elsewhere were made otherwise than the study's other evaluations, or of another training seed.

    Raises:
        ValueError: several of an arm are of one training.
    """
    notes, compared = list[str](), set[frozenset[Path]]()
    for arm, made in plan.config.arms.items():
        if arm not in done or not (made.results or made.policy):
            continue
        check_own_trainings(list(done[arm].values()))
        notes += unknown_trainings(list(done[arm].values()))
        notes += seeds_differ(list(done[arm].values()))
        for seed, evaluated in done[arm].items():
            if (found := training_seed(*evaluated)) not in (UNKNOWN, seed):
                said = f"{evaluated[0]} is of training seed {found}, and counts as {seed}."
                notes.append(f"{plan.config.title(arm)}: {said}")
            beside = next((done[name][seed] for name in done if name != arm and seed in done[name]), None)
            pair = frozenset((evaluated[0], beside[0])) if beside else frozenset()
            if beside and pair not in compared:
                compared.add(pair)
                notes += settings_differ(beside, evaluated) if made.results else ()
                notes += trainings_differ([beside, evaluated])
    return tuple(filter(None, dict.fromkeys(notes)))


def scene_results(info: dict[str, Any], scenes: Sequence[int], *, where: Path) -> Bool[np.ndarray, "scenes"]:
    """Success in every scene, task after task, from the content of an `eval_info.json`.

    Raises:
        ValueError: it was made on other scenes.
    """
    won: list[bool] = []
    for task in info["per_task"]:
        metrics = task["metrics"]
        theirs, ours = metrics["seeds"], list(scenes)
        if len(set(theirs)) < len(theirs):
            twice = next(seed for seed in theirs if theirs.count(seed) > 1)
            raise ValueError(f"{where} holds seed {twice} more than once; evaluate again, each seed once")
        if (limit := num_scenes(env_of(task))) is not None and len(theirs) > limit:
            problem = f"{where} counts scenes of {env_of(task)} twice: it has {limit}, and {len(theirs)} were evaluated"
            raise ValueError(f"{problem}; evaluate again, at most {limit} episodes")
        if theirs != ours:
            raise ValueError(
                f"{where} was evaluated on {len(theirs)} seeds from {theirs[0]}, and {len(ours)} from {ours[0]} are "
                "wanted here; evaluate all on the same, a changed study in another folder"
            )
        won += metrics["successes"]
    return np.array(won, bool)
