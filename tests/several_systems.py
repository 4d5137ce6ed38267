"""System 2s of several runs in one process, so that a test starts one process; module-level, because it travels there
by name."""

from collections.abc import Mapping
from pathlib import Path

from video2act.system2 import load_system2
from video2act.types import Tokens, Video


class SeveralSystems:
    """The instruction names the run; each is told to push."""

    def __init__(self, runs: Mapping[str, Path]):
        self._systems = {name: load_system2(run) for name, run in runs.items()}

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        (name,) = instruction
        return self._systems[name].perceive(clips, ["push"])
