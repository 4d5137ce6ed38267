"""The rows of a probe: taps of a video model, and the episodes that all of them share. Needs no torch."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from video2act.config import FilterConfig, ImagineConfig, StreamConfig, System2Config
from video2act.config.probe import ProbeOptions
from video2act.data import Dataset
from video2act.data.view import hold_out

FUTURE_FRAMES = 12
"""of the ceiling, where nothing is imagined"""


@dataclass(frozen=True)
class Arm:
    """A row of the table."""

    weights: str
    system2: System2Config
    """with the one stream"""
    ahead: int = 0
    """frames of the true future at the end of the clip"""

    @property
    def stream(self) -> StreamConfig:
        return self.system2.streams[0]

    @property
    def name(self) -> str:
        stream, layers = self.stream, "+".join(map(str, self.system2.backbone.feature_layers))
        tap = "" if self.weights == "latents" else f", block {layers}"
        past = f", {stream.num_frames - self.ahead} frames, stride {stream.stride}"
        imagine = stream.imagine
        future = f", {imagine.num_frames} imagined at level {imagine.level:g}, {imagine.keep} kept"
        true = f", {self.ahead} true future frames"
        kept = f", {stream.filter.name}" if stream.filter.name != "none" else ""
        return f"{self.weights}{tap}{past}{future * (imagine.num_frames > 0)}{true * (self.ahead > 0)}{kept}"


def arms_of(options: ProbeOptions, system2: System2Config | None) -> Iterator[Arm]:
    """The grid. Raises ValueError: the policy has no such stream, or an arm is no valid config."""
    if system2 is None:
        raise ValueError("this policy has no System 2, so it has no tap to probe; choose another preset")
    streams = {stream.name: stream for stream in system2.streams}
    if options.stream not in streams:
        raise ValueError(f"this policy has no stream {options.stream!r}; --stream is one of {', '.join(streams)}")
    stream = streams[options.stream]
    # clips of single moments have no past that an encoder could have seen, and no rhythm
    stream = replace(stream, camera=options.camera or stream.camera, encoding="window", every=1)
    layers = [tuple(int(part) for part in text.split(",")) for text in options.layers]
    words = product(
        layers or [system2.backbone.feature_layers],
        options.num_frames or (stream.num_frames,),
        options.strides or (stream.stride,),
        options.filters or (stream.filter.name,),
    )
    listed = options.imagine or (stream.imagine.num_frames,)
    ahead = max(listed) or FUTURE_FRAMES
    seen: set[str] = set()
    for layer, num_frames, stride, name in words:
        kept = stream.filter if name == stream.filter.name else FilterConfig(name)
        base = replace(stream, num_frames=num_frames, stride=stride, filter=kept, imagine=ImagineConfig())
        futures = [ImagineConfig()] if 0 in listed else []
        futures += [
            ImagineConfig(frames, level, keep)
            for frames in listed
            if frames
            for level in options.levels or (stream.imagine.level,)
            for keep in options.keep or (stream.imagine.keep,)
        ]
        for weights in options.weights:
            taps = (0,) if weights == "latents" else layer
            chosen = replace(system2, backbone=replace(system2.backbone, feature_layers=taps))
            if weights == "future":
                longer = replace(base, num_frames=num_frames + ahead)
                grid = [Arm(weights, replace(chosen, streams=(longer,)), ahead)]
            else:
                looks = futures if weights != "latents" else [ImagineConfig()]
                grid = [Arm(weights, replace(chosen, streams=(replace(base, imagine=look),))) for look in looks]
            for arm in grid:
                if arm.name not in seen:
                    seen.add(arm.name)
                    yield arm


@dataclass(frozen=True)
class Split:
    """Episodes of each repetition."""

    labelled: list[list[int]]
    held_out: list[int]

    @property
    def all(self) -> list[int]:
        return sorted({episode for one in self.labelled for episode in one} | set(self.held_out))


def split_of(options: ProbeOptions, dataset: Dataset) -> Split:
    """The last episodes of each task are held out; each repetition draws its labelled ones from the others."""
    held_out = hold_out(dataset, options.held_out)
    others = np.setdiff1d(np.arange(len(dataset)), held_out)
    drawn = [
        np.random.default_rng(seed).permutation(others)[: options.labelled].tolist()
        for seed in range(options.seed, options.seed + options.seeds)
    ]
    return Split(drawn, held_out)
