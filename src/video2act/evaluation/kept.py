"""Finished episodes of an evaluation that is under way, on disk: an interrupted one goes on where it was.

    episodes/settings.json     what an episode depends on, the versions of packages included
    episodes/ENV/SEED.json     one finished episode

The folder is removed when the evaluation is complete.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from video2act.config.checks import check
from video2act.config.plain import parse_json, read_json
from video2act.evaluation.findings import EpisodeRecord, Measurements, versions
from video2act.files.atomic import disk_full_says, write_text
from video2act.files.differences import differences
from video2act.files.evaluation_folder import EPISODES_FOLDER, INFO_FILE, read_evaluation
from video2act.incidents import Incidents
from video2act.runtime.control_loop import StepRecord
from video2act.trace import Trace, trace_of

SETTINGS_FILE = "settings.json"
VERSIONS = "versions"
"""the field of settings that has the versions; an older version of this package wrote none"""

HARMLESS = ("workers", "pool", "num_videos", "out", "rerun")
"""options that change no episode"""
WHICH = ("episodes", "seed", "seeds", "env")
"""options that say which episodes, and change none of a given environment and seed"""


def folder_of(env: str) -> Path:
    """Where files of an environment lie: `metaworld:push-v3` -> `metaworld+push-v3`. No name has a plus, so no two
    environments share a folder."""
    return Path(env.replace(":", "+"))


@dataclass(frozen=True)
class FinishedEpisode:
    """One episode, and what was measured in it."""

    record: EpisodeRecord
    measured: Measurements
    steps: tuple[StepRecord, ...]
    seconds: float
    """that it took, with the expert's"""
    trace: Trace

    def to_json(self) -> str:
        measured = {part.name: getattr(self.measured, part.name) for part in fields(Measurements)}
        measured["incidents"] = {
            "newest": self.measured.incidents.to_json(),
            "counts": self.measured.incidents.counts,
        }
        steps = [list(vars(step).values()) for step in self.steps]
        trace = {name: (array.dtype.str, array.tolist()) for name, array in self.trace.arrays().items()}
        whole = {"record": asdict(self.record), "measured": measured, "steps": steps, "seconds": self.seconds}
        whole["trace"] = trace
        return json.dumps(whole) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "FinishedEpisode":
        """The inverse of `to_json`. Raises ValueError, TypeError or LookupError for another text."""
        whole = parse_json(text)
        measured = whole["measured"]
        incidents = Incidents.from_json(**measured.pop("incidents"))
        steps = tuple(StepRecord(*step) for step in whole["steps"])
        record = EpisodeRecord(**whole["record"])
        trace = {name: np.array(values, dtype) for name, (dtype, values) in whole["trace"].items()}
        measurements = Measurements(**measured, incidents=incidents)
        return cls(record, measurements, steps, float(whole["seconds"]), trace_of(trace))


class KeptEpisodes:
    """The episodes in one output folder.

    Args:
        out: the evaluation's output folder.
        settings: what `eval_info.json` says of the options.
        policy: fingerprint of the policy's weights; empty: it is known by its name alone, as a served one.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], *, policy: str):
        self.folder = out / EPISODES_FOLDER
        self._whole = json.loads(json.dumps({**settings, "policy": policy}, default=str))
        self._settings = {**self._chosen(self._whole, without=WHICH), VERSIONS: versions()}

    def differences(self) -> list[str]:
        """How the evaluation in the folder differs from this one; nothing, if no episode of it is finished.

        Raises:
            ValueError: its settings cannot be read.
        """
        if self.is_empty:
            return []
        path = self.folder / SETTINGS_FILE
        try:
            before = read_json(path)
            check(isinstance(before, dict) and isinstance(before.get(VERSIONS, {}), dict), "it holds no settings")
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}); remove {self.folder} to evaluate from the start") from error
        now = dict(self._settings)
        found = before.pop(VERSIONS, {}), now.pop(VERSIONS)
        # what was not installed then, or is not now, changed no episode
        both = [name for name in found[0] if found[0][name] and found[1].get(name)]
        then_and_now = ({name: of[name] for name in both} for of in found)
        words = ("then", "now")
        return [*differences(before, now, words=words), *differences(*then_and_now, words=words, place=VERSIONS)]

    def _chosen(self, settings: Mapping[str, Any], *, without: tuple[str, ...]) -> dict[str, Any]:
        left_out = (*HARMLESS, *without, *(("run",) if self._whole["policy"] else ()))  # a folder may have moved
        return {name: value for name, value in settings.items() if name not in left_out}

    def begin(self) -> None:
        """Raises ValueError where the folder holds another evaluation, or episodes of one. The same one is done again,
        in its place."""
        out = self.folder.parent
        if (out / INFO_FILE).is_file():
            info = read_evaluation(out)
            before = {**info["settings"], "policy": info.get("policy_fingerprint") or self._whole["policy"]}
            then, now = (self._chosen(each, without=()) for each in (before, self._whole))
            if changed := differences(then, now, words=("then", "now")):
                raise ValueError(
                    f"{out} holds another evaluation, which is finished ({'; '.join(changed)}); choose another out, or "
                    "remove it"
                )
        if changed := self.differences():
            is_upgraded = all(line.startswith(VERSIONS) for line in changed)
            what = "an evaluation that began with other packages" if is_upgraded else "another evaluation"
            again = "go on with the same ones, " * is_upgraded
            raise ValueError(
                f"{self.folder} holds finished episodes of {what} ({'; '.join(changed)}); {again}choose another "
                "out, or remove it"
            )
        write_text(self.folder / SETTINGS_FILE, json.dumps(self._settings, indent=2) + "\n")

    def write(self, episode: FinishedEpisode) -> None:
        record = episode.record
        advice = f"the episodes before it are kept in {self.folder}: free some space and run it again"
        with disk_full_says(f"episode {record.seed} of {record.env} does not fit; {advice}"):
            write_text(self._path(record.env, record.seed), episode.to_json())

    def read(self, env: str, seed: int) -> FinishedEpisode | None:
        """An episode that is finished; None for one that is not, or whose file is damaged: it is run again."""
        try:
            return FinishedEpisode.from_json(self._path(env, seed).read_text())
        except (FileNotFoundError, ValueError, TypeError, LookupError):
            return None

    @property
    def is_empty(self) -> bool:
        """No episode is finished."""
        return all(path.name == SETTINGS_FILE for path in self.folder.rglob("*.json"))

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, env: str, seed: int) -> Path:
        return self.folder / folder_of(env) / f"{seed}.json"
