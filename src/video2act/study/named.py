"""When the primary contrast of a study was named: a contrast that was chosen after the results says less."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from video2act.config.checks import check
from video2act.config.files import build
from video2act.config.plain import damage_named, read_json
from video2act.config.study import Contrast, StudyConfig
from video2act.files.atomic import write_text

NAMED_FILE, STUDY_FILE = "primary.json", "study.json"


@dataclass(frozen=True)
class Named:
    """A primary contrast, and what was done when it was named: training seeds of both of its arms, if it is the first
    one; evaluations, if it is another."""

    contrast: Contrast
    time: str
    num_done: int

    @property
    def words(self) -> str:
        goal = self.contrast.goal_points
        return f"{self.contrast}" + (f" (goal {goal:+g} points)" if goal is not None else "")


def check_same(folder: Path, config: StudyConfig) -> None:
    """Raise ValueError where a folder holds another study."""
    path = folder / STUDY_FILE
    if path.is_file():
        with damage_named(path, "remove it"):
            name = read_json(path)["name"]
        check(name == config.name, f"{folder} holds the study {name!r}, not {config.name!r}; choose another out")


def name_primary(
    folder: Path, contrast: Contrast, *, done: Mapping[str, Collection[int]], elsewhere: Sequence[Named] = ()
) -> None:
    """Record the primary contrast of a study's folder, if it is another one than before. Args: as `named_with`."""
    before = _read_named(folder)
    if (named := named_with(folder, contrast, done=done, elsewhere=elsewhere)) != before:
        write_text(folder / NAMED_FILE, json.dumps([asdict(each) for each in named], indent=2) + "\n")


def named_with(
    folder: Path, contrast: Contrast, *, done: Mapping[str, Collection[int]], elsewhere: Sequence[Named] = ()
) -> list[Named]:
    """The primary contrasts of a study's folder, the oldest first, with this one as the last; nothing is written.

    Args:
        done: arm -> training seeds whose evaluation is there. A contrast that is replaced before any is, is forgotten.
        elsewhere: those of another machine, whose results are among these; they count where the folder has none.
    """
    named, num_done = _read_named(folder) or list(elsewhere), sum(map(len, done.values()))
    if named and _judged(named[-1].contrast) == _judged(contrast):
        return named
    if not named:  # evaluations from elsewhere may be there; they count where they show this contrast
        num_done = len(set(done.get(contrast.arm, ())) & set(done.get(contrast.than, ())))
    kept = [each for each in named if num_done]
    return [*kept, Named(contrast, datetime.now(UTC).isoformat(timespec="seconds"), num_done)]


def _read_named(folder: Path) -> list[Named]:
    """Those that are recorded; of a folder of before, that of its last run."""
    path, last = folder / NAMED_FILE, folder / STUDY_FILE
    if not path.is_file() and last.is_file():
        with damage_named(last, "remove it"):
            time = datetime.fromtimestamp(last.stat().st_mtime, UTC).isoformat(timespec="seconds")
            return [Named(build(Contrast, read_json(last)["primary"], where=str(last)), time, 0)]
    if not path.is_file():
        return []
    with damage_named(path, "remove it, and the primary contrast counts as named now"):
        return list(build(tuple[Named, ...], read_json(path), where=str(path)))


def _judged(contrast: Contrast) -> tuple[str, str, float | None]:
    return contrast.arm, contrast.than, contrast.goal_points
