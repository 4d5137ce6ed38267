"""Time and memory of one refresh of System 2 in a long episode, where its encoder goes on (`encoding="stream"`).

    python benchmarks/streaming_cost.py [--size-px 224] [--lengths 100 1000 10000]

The policy is `tiny` with random weights; frames are noise. Per length of the episode: the median time of its last
refreshes, the frames that a refresh hands over, and the bytes that the episode's history and encoder memory hold. A
window of the same clip stands beside it. Neither figure may grow with the length.
"""

import time
from collections.abc import Iterable

import numpy as np
import torch
import tyro

from video2act.clips import FrameHistory
from video2act.config import PolicyConfig
from video2act.presets import DataSpec, tiny
from video2act.system2 import System2
from video2act.system2.backbones import make_backbone
from video2act.types import Observation, Video

FPS = 20.0
MEASURED = 8
"""refreshes, the last ones of the episode"""


def measure(policy: PolicyConfig, num_frames: int, *, size_px: int) -> tuple[float, int, float]:
    """Milliseconds, frames handed over, and megabytes held, of a refresh at the end of an episode."""
    torch.manual_seed(0)
    config = policy.system2
    assert config is not None
    system2 = System2(config, make_backbone(config.backbone), token_dim=policy.system1.hidden).eval()
    every = max(4, *(stream.every for stream in config.streams))
    history, rng = FrameHistory(config.streams), np.random.default_rng(0)
    images = [rng.integers(0, 256, (size_px, size_px, 3), dtype=np.uint8) for _ in range(16)]
    times: list[float] = []
    clips: dict[str, Video] = {}
    for step in range(num_frames):
        history.append(Observation({"top": images[step % 16]}, np.zeros(1, np.float32), "push", step / FPS))
        if step % every == 0:
            started = time.perf_counter()
            clips = history.clips(FPS)
            with torch.no_grad():
                if step < num_frames - MEASURED * every:
                    system2.encode(clips)  # the blocks remember nothing
                    continue
                system2.perceive(clips, ["push"])
            times.append(time.perf_counter() - started)
    frames = max(clip.grid.shape[2] for clip in clips.values())
    return 1e3 * float(np.median(times)), frames, held_bytes(history) / 1e6


def held_bytes(history: FrameHistory) -> int:
    """Bytes of all arrays and tensors that a history reaches, each counted once."""
    seen: set[int] = set()

    def count(value: object) -> int:
        if id(value) in seen or isinstance(value, str | int | float | type(None)):
            return 0
        seen.add(id(value))
        if isinstance(value, np.ndarray):
            return value.nbytes
        if isinstance(value, torch.nn.Module):  # the encoder's weights are not the episode's
            return 0
        if isinstance(value, torch.Tensor):
            return value.untyped_storage().nbytes()
        members = value.values() if isinstance(value, dict) else value
        parts = members if isinstance(members, Iterable) else ()
        return sum(map(count, parts)) + sum(map(count, getattr(value, "__dict__", {}).values()))

    return count(history)


def main(size_px: int = 224, lengths: tuple[int, ...] = (100, 1000, 10_000)) -> None:
    sizes = {f"system2.streams.{name}.size_px": size_px for name in ("spatial", "motion")}
    config = tiny(DataSpec(1, 1, FPS, ("top",))).replace(sizes)
    streaming = config.replace({"system2.streams.motion.encoding": "stream"})
    print("| frames of the episode | encoding | ms a refresh | frames handed over | MB held |\n|---|---|---|---|---|")
    for length in lengths:
        for name, each in (("window", config), ("stream", streaming)):
            milliseconds, frames, megabytes = measure(each, length, size_px=size_px)
            print(f"| {length:,} | {name} | {milliseconds:.1f} | {frames} | {megabytes:.1f} |")


if __name__ == "__main__":
    tyro.cli(main)
