"""The options of `collect`, `info`, `view`, `bench`, `convert` and `demo`. Each field is a flag; the text below it is
its help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from video2act.config.checks import (
    Between,
    CheckedConfig,
    CountingInt,
    NonNegative,
    NonNegativeInt,
    Pixels,
    PoolName,
    Processes,
    Seed,
    check,
)
from video2act.config.frames import VisualShiftName
from video2act.config.runtime import RerunWord


@dataclass(frozen=True, kw_only=True)
class CollectOptions(CheckedConfig):
    """Record a scripted expert into a LeRobotDataset v3.0 folder. Run again to go on after an interruption."""

    env: str
    """metaworld:push-v3, aloha:transfer_cube, ...; a suite (libero:libero_object) is recorded into one dataset"""
    out: Path
    """dataset folder"""
    episodes: CountingInt = 50
    """number of episodes that the dataset will hold; of a suite, equally many of each task"""
    seed: Seed = 0
    """seed of the first episode; the others count up"""
    cameras: tuple[str, ...] | None = None
    """the environment's usual ones, if left out"""
    image_size: Pixels = 128
    """width and height of the images, pixels"""
    noise: NonNegative = 0.0
    """standard deviation of the disturbance on executed actions; recorded actions stay clean"""
    workers: Processes | None = None
    """processes; one per core of this machine, or of the Ray cluster, if left out"""
    pool: PoolName = "local"
    """where the workers run: local, or on a Ray cluster: ray (this machine's), ray://HOST:PORT. See docs/scaling.md"""
    videos_only: bool = False
    """leave the actions out, for train-video"""
    visual_shift: VisualShiftName | None = None
    """scenes look otherwise, each in its own way: colours, light, camera, distractor or mixed, as in eval"""
    max_steps: CountingInt | None = None
    """control steps after which an episode counts as failed"""


@dataclass(frozen=True, kw_only=True)
class InfoOptions(CheckedConfig):
    """Describe a dataset, a run, a video model or a preset: sizes, memory, tokens.

    Of a run also how it differs from its preset.
    """

    what: Path
    """a LeRobotDataset v3.0 folder or repo id, a policy's run folder, a video model's folder, the name of a preset, or
    environments: a list of their names"""
    check: bool = False
    """read every file of the dataset and decode every picture; lists what is wrong"""
    state: tuple[str, ...] | None = None
    """columns of the dataset that are joined to the state; observation.state, if left out"""
    action: tuple[str, ...] | None = None
    """columns of the dataset that are joined to the action; action, if left out"""


@dataclass(frozen=True, kw_only=True)
class ViewOptions(CheckedConfig):
    """Film what System 2 sees in an episode of a dataset: the camera, boundaries and motion; or show it in Rerun."""

    run: Path
    """the policy's run folder"""
    data: Path
    """dataset folder"""
    out: Path | None = None
    """the mp4 to write; with --rerun file, an .rrd"""
    episode: NonNegativeInt = 0
    """number of the episode"""
    rerun: RerunWord | None = None
    """show it in Rerun instead of filming it (extra `view`). live: in its viewer; file: as .rrd"""

    def _check(self) -> None:
        check(self.out is not None or self.rerun == "live", "name the film to write with --out, or choose --rerun live")


@dataclass(frozen=True)
class ReportOptions(CheckedConfig):
    """Write one HTML page about a training and its evaluations: success, films, what both systems see, losses, time."""

    what: Path
    """a run folder, or the folder of one evaluation or of a study"""
    out: Path | None = None
    """the page; default: report.html in that folder"""
    films: Literal["auto", "yes", "no"] = "auto"
    """play the best and the worst episode again, and show what both systems saw in them: about a minute. auto: not for
    an environment of your own (module:function), which may be a robot"""
    device: str = "cpu"
    """of the policy, for the films"""


@dataclass(frozen=True, kw_only=True)
class BenchOptions(CheckedConfig):
    """Time each stage between a camera and an action, a training step, and engines beside PyTorch."""

    run: Path | None = None
    """a policy's run folder; without it, the preset with random weights"""
    preset: str = "tiny"
    """preset of the policy"""
    device: str = "cpu"
    """cpu, cuda, ..."""
    repeats: CountingInt = 20
    """how often each piece of work is timed"""
    official: Path | None = None
    """a checkout of the released Video2Act code, whose modules are timed beside ours (docs/performance.md)"""
    out: Path | None = None
    """folder for bench.md and bench.json"""


@dataclass(frozen=True, kw_only=True)
class RoboTwinOptions(CheckedConfig):
    """Turn RoboTwin 2.0's HDF5 files, raw or as the released code prepares them, into a LeRobotDataset v3.0.
    (Checkpoints of the released code: video2act-convert-released.)"""

    folder: Path
    """TASK/CONFIG of RoboTwin, or a folder above it; of processed files, the folder that holds episode_0"""
    out: Path
    """dataset folder to write"""
    instructions: Path | None = None
    """folder with episodeN.json, for processed files without instructions"""
    task: str | None = None
    """a sentence for episodes without instructions"""
    fps: Annotated[int, Between(1, 10**4)] = 25
    """control steps per second"""
    robot: str = "aloha_agilex"
    """name of the robot in the dataset"""
    order: Literal["bgr", "rgb"] = "bgr"
    """colours of the stored JPEG: bgr, as RoboTwin writes them, with red and blue exchanged; rgb, if yours are right"""
    workers: Processes | None = None
    """processes; one per core, if left out"""


@dataclass(frozen=True, kw_only=True)
class DemoOptions(CheckedConfig):
    """The whole path: collect, train-video, train, eval. Run again to go on after an interruption."""

    out: Path
    """folder for data, models, film and summary"""
    name: str = "push"
    """push; three_tasks, one policy with three instructions; or libero, one for ten tasks, about three hours on two
    cores"""
    seed: Seed = 0
    """seed of both trainings"""
