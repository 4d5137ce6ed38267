"""What the evaluations of an arm are of: which training, with which settings. For `compare`, and for a study's results
from elsewhere."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from video2act.evaluation.findings import RENDERER, SIMULATORS
from video2act.files.differences import differences
from video2act.files.evaluation_folder import replaced_run, run_of
from video2act.files.run_folder import CONFIG_FILE, TRAINING_FILE
from video2act.training.resuming import read_settings, readable

Evaluated = tuple[Path, dict[str, Any]]
"""the folder or file of an evaluation, and its content"""
NAMES = ("run", "out", "workers", "pool", "num_videos", "device", "episodes", "seed", "seeds", "env", "expert")
"""settings that differ without a difference in what is measured, or are compared by themselves"""
COMPARED = (*SIMULATORS, RENDERER, "torch")
"""versions of the simulators, the renderer and torch, which may change an episode"""
SHOWN = 4
"""differences of two trainings that are listed"""
UNKNOWN = -1
"""in place of a training seed"""


def run_folder(path: Path, info: dict[str, Any]) -> Path | None:
    """The run folder of an evaluation, if it is still there."""
    return run_of(path if path.is_dir() else path.parent, info)


def training_seed(path: Path, info: dict[str, Any]) -> int:
    """`UNKNOWN`: the run folder is not where it was, or does not say."""
    run = run_folder(path, info)
    found = read_settings(run / TRAINING_FILE).get("seed") if run and (run / TRAINING_FILE).is_file() else None
    return found if isinstance(found, int) else UNKNOWN


def check_own_trainings(arm: Sequence[Evaluated]) -> None:
    """Raise ValueError where an arm joins evaluations of one training: it would count as several training seeds."""
    firsts: dict[Path | str, Path] = {}
    for folder, info in arm:
        run, policy, named = run_folder(folder, info), info.get("policy_fingerprint"), info["settings"]["run"]
        is_lost = named and "://" not in named and not run and not policy
        results = [task["metrics"]["successes"] for task in info["per_task"]]
        for name in filter(None, (run and run.resolve(), policy, f"{named}: {results}" if is_lost else "")):
            if (first := firsts.setdefault(name, folder)) != folder:
                problem = f"{first} and {folder} are of one training, {run or named}"
                remedy = "Join evaluations of several trainings, or name one of these"
                raise ValueError(f"{problem}; they are not two training seeds. {remedy}")


def settings_differ(first: Evaluated, other: Evaluated) -> Iterator[str]:
    """How two evaluations were made otherwise."""
    kept = [{key: value for key, value in info["settings"].items() if key not in NAMES} for _, info in (first, other)]
    for line in differences(*kept, words=(f"in {first[0]}", f"in {other[0]}")):
        yield f"Settings differ: {line}."


def versions_differ(evaluated: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    """Which evaluations, each with its name, were made with which version, where they differ. Older ones do not tell
    all of them."""
    recorded = [(name, info["versions"]) for name, info in evaluated if isinstance(info.get("versions"), dict)]
    for package in COMPARED:
        found: dict[str, list[str]] = {}
        for name, versions in recorded:
            if version := versions.get(package):
                found.setdefault(str(version), []).append(name)
        listed = "; ".join(
            f"{version}: {_listed(names, 'evaluations', between=',')}" for version, names in found.items()
        )
        yield f"{package} differs, so arms may differ by that alone. {listed}." * (len(found) > 1)


def unknown_trainings(evaluated: Sequence[Evaluated]) -> Iterator[str]:
    """Of which trainings nothing is known: run folders are not found, or hold another policy now."""
    lost: list[str] = []
    for path, info in evaluated:
        folder, named = path if path.is_dir() else path.parent, info["settings"]["run"]
        if run := run_of(folder, info):
            is_recorded = (run / TRAINING_FILE).is_file()
            yield f"How {run} was trained is not recorded (no {TRAINING_FILE})." * (not is_recorded)
        elif other := replaced_run(folder, info):
            known = "of whose training nothing is known now"
            yield f"{other} holds another policy than the one evaluated in {path}, {known}."
        elif named and "://" not in named:
            lost.append(f"{named}, which was evaluated in {path}")
    if lost:
        said = "are not found: their trainings are" if len(lost) > 1 else "is not found: its training is"
        yield f"{_listed(lost, 'evaluations')}, {said} not compared."


def trainings_differ(evaluated: Sequence[Evaluated]) -> Iterator[str]:
    """How the trainings of others differ from that of the first, where their run folders are there."""
    first, *others = [run_folder(path, info) for path, info in evaluated]
    for other in others:
        if first is None or other is None or first.resolve() == other.resolve():
            continue
        name, found = _differences(first, other)
        found = [line for line in found if not line.startswith("seed:")]  # the pairing is told by itself
        yield f"Trainings of {first} and {other} differ in {_listed(found)} ({name})." * bool(found)


def seeds_differ(arm: Sequence[Evaluated]) -> Iterator[str]:
    """Why trainings of one arm do not differ in their seed alone, where their run folders are there."""
    first, *others = [run_folder(path, info) for path, info in arm]
    for other in others:
        if first is None or other is None:
            continue
        name, found = _differences(first, other)
        told = f"{first} and {other} count as training seeds of one arm, but "
        more = [line for line in found if not line.startswith("seed:")]
        yield f"{told}differ in more: {_listed(more)} ({name})." * bool(more)
        yield f"{told}have the same seed ({name})." * (len(more) == len(found) and name == TRAINING_FILE)


def _differences(first: Path, other: Path) -> tuple[str, list[str]]:
    """Of two run folders: the file that was compared, and how it differs."""
    name = TRAINING_FILE if all((run / TRAINING_FILE).is_file() for run in (first, other)) else CONFIG_FILE
    settings = [read_settings(run / name) for run in (first, other)]
    return name, readable(differences(*settings, words=("in the first", "in the second")))


def _listed(found: Sequence[str], what: str = "fields", *, between: str = "; ") -> str:
    more = [f"and {len(found) - SHOWN} more {what}"] * (len(found) > SHOWN)
    return between.join([*found[:SHOWN], *more])
