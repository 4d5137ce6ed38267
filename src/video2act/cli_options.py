"""Options of verbs that do one of several things: what `video2act convert` and `video2act cache` are told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from video2act.config import System2Options

AS_IN_PRESET = System2Options()


@dataclass(frozen=True)
class FillCache:
    """Let System 2 see every frame of datasets. Run again to go on. For several processes: accelerate launch."""

    data: tuple[Path, ...]
    """dataset folders"""
    out: Path | None = None
    """the cache's folder, for train --cache; if left out, where train looks for it"""
    preset: str = "tiny"
    """of the policy"""
    video_model: Path | None = None
    """a folder written by train-video, or of the published video model that the preset names"""
    cameras: tuple[str, ...] | None = None
    """what the policy looks through, System 2's first; all of the dataset's, if left out"""
    stage: Literal["latents", "features", "seen"] = "seen"
    """latents of the video VAE; features after the video model's blocks; seen, which is features filtered"""
    encoding: Literal["window", "stream"] = "window"
    """window encodes each clip for itself; stream lets the video VAE go on through an episode. Training must say the same"""
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """of what is stored"""
    max_gib: float | None = None
    """refuse to write more"""
    embodiments: tuple[str, ...] | None = None
    """of datasets of different robots: which robot each is of, as for train"""
    system2: System2Options = AS_IN_PRESET


@dataclass(frozen=True)
class VerifyCache:
    """Compare a cache with its checksums, and, with --data, with what System 2 sees now."""

    folder: Positional[Path]
    """the cache"""
    data: tuple[Path, ...] = ()
    """dataset folders; without them, only checksums are compared"""
    preset: str = "tiny"
    """of the policy"""
    video_model: Path | None = None
    """as it was filled with"""
    cameras: tuple[str, ...] | None = None
    """as it was filled with"""
    sample: int = 2
    """episodes to look at again"""
    embodiments: tuple[str, ...] | None = None
    """as it was filled with"""
    system2: System2Options = AS_IN_PRESET


@dataclass(frozen=True)
class RoboTwinData:
    """Turn RoboTwin 2.0's HDF5 files, raw or as the released code prepares them, into a LeRobotDataset v3.0."""

    folder: Positional[Path]
    """TASK/CONFIG of RoboTwin, or a folder above it; of processed files, the folder that holds episode_0"""
    out: Path
    """dataset folder to write"""
    instructions: Path | None = None
    """folder with episodeN.json, for processed files that come without"""
    task: str | None = None
    """a sentence for episodes without instructions"""
    fps: int = 25
    """control steps per second"""
    robot: str = "aloha_agilex"
    """its name in the dataset"""
    order: Literal["bgr", "rgb"] = "bgr"
    """colours of the stored JPEG: bgr, as RoboTwin writes them, with red and blue exchanged; rgb, if yours are right"""
    workers: int | None = None
    """processes; one per core, if left out"""


def collect(
    env: str,
    out: Path,
    *,
    episodes: int = 50,
    seed: int = 0,
    cameras: tuple[str, ...] | None = None,
    image_size: int = 128,
    noise: float = 0.0,
    workers: int | None = None,
    videos_only: bool = False,
    max_steps: int | None = None,
) -> None:
    """Record a scripted expert into a LeRobotDataset v3.0 folder. Run again to go on after an interruption.

    Args:
        env: metaworld:push-v3, aloha:transfer_cube, ...
        out: dataset folder.
        episodes: how many the dataset shall hold.
        seed: of the first episode; the others count up.
        cameras: the environment's usual ones, if left out.
        image_size: pixels.
        noise: standard deviation of the disturbance on executed actions; recorded actions stay clean.
        workers: processes; one per core, if left out.
        videos_only: leave the actions out, for train-video.
        max_steps: control steps after which an episode counts as failed.
    """
    from video2act.programs import collect as program

    done = program.collect(
        env,
        out,
        episodes=episodes,
        seed=seed,
        cameras=cameras,
        image_size=image_size,
        noise=noise,
        workers=workers,
        videos_only=videos_only,
        max_steps=max_steps,
    )
    print(
        f"{done.dataset}: {done.num_episodes} episodes, {done.num_recorded} recorded now in {done.duration_s:.0f} s; "
        f"the expert failed on {len(done.failed_seeds)} seeds, which were left out"
    )


def info(what: Positional[Path], check: bool = False) -> None:
    """Describe a dataset, a video model, or the video model of a preset: parameters, memory, tokens.

    Args:
        what: a LeRobotDataset v3.0 folder or repo id, the name of a preset, or a video model's folder.
        check: read every file of the dataset and decode every picture; lists what is wrong.
    """
    from video2act.programs import info as program

    print(program.check(what) if check else program.describe(what), end="")
