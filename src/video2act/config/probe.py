"""The options of `probe`. Each field is a flag; the text below it is its help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from video2act.config.checks import Between, Bound, CountingInt, NonNegativeInt, Positive, Seed, check
from video2act.config.system2 import FilterName
from video2act.config.training_options import DataOptions, PolicyStart

Tapped = Literal["trained", "random", "latents", "still", "future"]


@dataclass(frozen=True, kw_only=True)
class ProbeOptions(PolicyStart, DataOptions):
    """How much features say about the next actions, by tap: a small head is trained offline on a few episodes.

    Every list is varied with every other; a list that is left out keeps the stream's own value. A run blind, without
    features, stands beside.
    """

    out: Path
    """folder for table.md, probe.json and probe.png. Run again to go on"""
    video_model: Path | None = None
    """as for train"""
    stream: str = "motion"
    """the stream that is varied; it is read alone"""
    camera: str | None = None
    """the camera that it reads; the stream's own, if left out"""
    weights: tuple[Tapped, ...] = ("trained", "random", "latents", "still", "future")
    """trained; random: the same model untrained, behind its codec; latents: the codec's, no block; still: trained, and
    shown a clip of copies of the newest frame; future: trained, and shown the true future in place of an imagined one,
    which is the ceiling"""
    layers: tuple[str, ...] = ()
    """blocks after which the model is tapped: 2, or 1,2,3 for several at once"""
    num_frames: tuple[CountingInt, ...] = ()
    """frames of a clip"""
    strides: tuple[CountingInt, ...] = ()
    """control steps between two frames"""
    imagine: tuple[NonNegativeInt, ...] = ()
    """future frames that are imagined"""
    levels: tuple[Annotated[float, Bound("must lie in (0, 1]", lambda level: 0 < level <= 1)], ...] = ()
    """noise levels of the imagined frames"""
    keep: tuple[Literal["past", "future", "all"], ...] = ()
    """which positions are read, where frames are imagined"""
    filters: tuple[FilterName, ...] = ()
    """filters of the stream"""
    predict: tuple[str, ...] = ()
    """dimensions of the state that are predicted in place of the next actions, such as a simulator's true velocities;
    the head then gets features and instruction alone"""
    labelled: CountingInt = 10
    """episodes that the head is trained on"""
    held_out: CountingInt = 20
    """episodes that it is tested on: the last ones of each task"""
    seeds: CountingInt = 3
    """repetitions: each draws the labelled episodes and the head's first weights anew, the same for every row"""
    seed: Seed = 0
    """of the first repetition"""
    every: CountingInt = 4
    """control steps between two moments of an episode that are used"""
    num_steps: Annotated[int, Between(20, 10**6)] = 300
    """training steps of a head"""
    gib: Positive = 4.0
    """memory for the features of one row"""

    def _check(self) -> None:
        super()._check()
        check(bool(self.weights), "name at least one of --weights: trained, random, latents, still, future")
        for text in self.layers:
            is_listed = all(part.strip().isdecimal() for part in text.split(","))
            check(is_listed, f"layers are numbers, or several with commas between them (1,2,3), got {text!r}")
