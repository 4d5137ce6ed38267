"""Do the streams of a policy show boundaries and motion, or only positions?

    python benchmarks/boundaries.py runs/demo/policy                       # 40 scenes of the policy's environment
    python benchmarks/boundaries.py runs/demo/policy --data data/push      # frames of demonstrations

Two correlations over the cells of a stream's map, the mean over scenes: with what the pixels say (their own Sobel
gradients, or their change within the clip), and with the map of a plain grey picture. The map of grey is made without
subtracting the grey reference, since with it that map is zero everywhere. It follows position alone, but a camera that
stands still shows edges at fixed positions, and a trained model expects them there: `pixels and grey` says how far even
the pixels' own map agrees with it. `scene alone` correlates what of both maps differs from scene to scene. `as read` is
the first column once more, of the features as the former's norm hands them on.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")

import numpy as np
import torch
import tyro
from einops import rearrange

from video2act.clips import FrameHistory
from video2act.data import LeRobotDataset
from video2act.envs import make_environment, make_expert
from video2act.policy import Video2Act
from video2act.system2 import System2
from video2act.types import Observation, Video
from video2act.viz.pictures import correlation, magnitude, pixel_map

FIRST_SEED = 3000
"""neither demonstrations nor evaluations begin here"""


@dataclass(frozen=True)
class Settings:
    """What is compared."""

    run: tyro.conf.Positional[Path]
    """folder with the policy"""
    data: Path | None = None
    """LeRobotDataset v3.0 whose frames are shown; left out, the expert acts in `env`"""
    env: str = "metaworld:push-v3"
    scenes: int = 40


@dataclass(frozen=True)
class Found:
    """Mean correlations of one stream."""

    pixels: float
    as_read: float
    """with the pixels, after the norm of the former"""
    grey: float
    pixels_and_grey: float
    scene_alone: float
    grey_energy: float
    """of a plain grey picture, as a share of a scene's"""


def recorded_clips(policy: Video2Act, path: Path, scenes: int) -> list[tuple[dict[str, Video], str]]:
    """Clips that end at different moments of different episodes, with their instructions."""
    assert policy.config.system2 is not None
    data, clips = LeRobotDataset(path), []
    for number in range(scenes):
        episode = number % len(data)
        frames = {camera: data.frames(episode, camera) for camera in policy.config.all_cameras}
        length = len(next(iter(frames.values())))
        history = FrameHistory(policy.config.system2.streams)
        sentence = data.episode(episode).instruction[0]
        for step in range((7 + 11 * number) % length + 1):
            images = {camera: pictures[step] for camera, pictures in frames.items()}
            history.append(Observation(images, np.zeros(0, np.float32), sentence, step / data.fps))
        clips.append((history.clips(policy.config.fps), sentence))
    return clips


def live_clips(policy: Video2Act, env: str, scenes: int) -> list[tuple[dict[str, Video], str]]:
    """As `recorded_clips`, of fresh scenes in which the expert acts."""
    assert policy.config.system2 is not None
    environment = make_environment(env, policy.config.all_cameras)
    expert, clips = make_expert(environment), []
    for number in range(scenes):
        history, observation = FrameHistory(policy.config.system2.streams), environment.reset(FIRST_SEED + number)
        expert.reset()
        history.append(observation)
        for _ in range((7 + 11 * number) % 60):
            step = environment.step(expert.act())
            observation = step.observation
            history.append(observation)
            if step.done:
                break
        clips.append((history.clips(policy.config.fps), observation.instruction))
    environment.close()
    return clips


@torch.no_grad()
def compare(policy: Video2Act, clips: list[tuple[dict[str, Video], str]]) -> dict[str, Found]:
    """Stream -> correlations of its maps."""
    system2 = policy.system2
    if system2 is None:
        raise ValueError("this policy has no System 2, so it has no streams to look at")
    kept = [policy.explain(clip, [sentence]) for clip, sentence in clips]
    plain = {name: Video(torch.zeros_like(clip.grid), clip.fps) for name, clip in clips[0][0].items()}
    of_grey = policy.explain(plain, [clips[0][1]])
    config = system2.config
    system2.config = replace(config, reference="none")
    grey = policy.explain(plain, [clips[0][1]])
    system2.config = config
    found = {}
    for stream in config.streams:
        name = stream.name
        maps = np.stack([magnitude(one[name]) for one in kept])
        size = (maps.shape[1], maps.shape[2])
        pixels = np.stack([pixel_map(clip[name], stream.filter.name, size=size) for clip, _ in clips])
        plain_map = magnitude(grey[name])
        found[name] = Found(
            _mean(maps, pixels),
            _mean(np.stack([magnitude(_as_read(system2, name, one[name])) for one in kept]), pixels),
            _mean(maps, np.broadcast_to(plain_map, maps.shape)),
            _mean(pixels, np.broadcast_to(plain_map, maps.shape)),
            _mean(maps - maps.mean(axis=0), pixels - pixels.mean(axis=0)),
            float(magnitude(of_grey[name]).mean() / maps.mean()),
        )
    return found


def _as_read(system2: System2, stream: str, video: Video) -> Video:
    """Features as the former's norm hands them on."""
    norm = getattr(system2.formers[stream], "norm_in", torch.nn.Identity())
    t, h, w = video.grid.shape[2:]
    read = norm(rearrange(video.grid, "b d t h w -> b (t h w) d"))
    return replace(video, grid=rearrange(read, "b (t h w) d -> b d t h w", t=t, h=h, w=w))


def _mean(first: np.ndarray, second: np.ndarray) -> float:
    """Over the scenes in which both maps show something."""
    return float(np.nanmean([correlation(a, b) for a, b in zip(first, second, strict=True)]))


def main(settings: Settings) -> dict[str, Found]:
    policy = Video2Act.load(settings.run)
    if settings.data is not None:
        clips = recorded_clips(policy, settings.data, settings.scenes)
    else:
        clips = live_clips(policy, settings.env, settings.scenes)
    found = compare(policy, clips)
    print("| stream | with the pixels | as read | with grey | pixels and grey | scene alone | energy of grey |")
    print("|---|---|---|---|---|---|---|")
    for name, one in found.items():
        numbers = f"{one.pixels:+.2f} | {one.as_read:+.2f} | {one.grey:+.2f} | {one.pixels_and_grey:+.2f}"
        print(f"| {name} | {numbers} | {one.scene_alone:+.2f} | {one.grey_energy:.0%} |")
    return found


if __name__ == "__main__":
    main(tyro.cli(Settings))
