"""What a run folder holds: the one list that saving, loading, the card and the Hub's download share.

A policy is `config.json`, `stats.json`, `model.safetensors`, and `adapter/` if its video model was tuned by LoRA. A
published video model is not in it: the config names its source. The other files help people and programs, and are not
needed to act.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from video2act import config as configs
from video2act.config import PolicyConfig
from video2act.config.checks import CheckedConfig, Pixels, check, shown
from video2act.config.files import build
from video2act.config.plain import read_json

CONFIG_FILE, WEIGHTS_FILE, STATISTICS_FILE = "config.json", "model.safetensors", "stats.json"
ADAPTER = "adapter"
"""folder of the video model's LoRA"""
SCENES_FILE = "scenes.json"
"""environment -> seeds of the demonstrations, so that an evaluation can refuse to repeat them"""
INSTRUCTIONS_FILE = "instructions.json"
"""training instructions, as examples"""
DATA_FILE = "data.json"
"""the datasets of the training"""
CARD_FILE = "README.md"
ROBOTS = "robots"
"""of a training on several robots: one run folder each, by the names of their embodiments"""

FrameSizes = dict[str, tuple[Pixels, Pixels]]
"""camera -> height and width"""


@dataclass(frozen=True)
class Part(CheckedConfig):
    """What is read of a dataset's entry in `data.json`."""

    frame_sizes: FrameSizes = field(default_factory=dict)


BESIDE = (SCENES_FILE, INSTRUCTIONS_FILE, DATA_FILE)
"""files that go to the Hub with the policy, where they exist"""
SHARED = (CONFIG_FILE, STATISTICS_FILE, WEIGHTS_FILE, f"{ADAPTER}/*", *BESIDE, CARD_FILE)
"""patterns of everything that goes to the Hub and comes back"""


def load_config(path: Path) -> PolicyConfig:
    """The config of a run folder. Raises FileNotFoundError: the folder has none. For a training on several robots the
    message lists their folders; ValueError: the file is not a policy's config."""
    robots = sorted((path / ROBOTS).glob(f"*/{CONFIG_FILE}"))
    if robots and not (path / CONFIG_FILE).is_file():
        listed = ", ".join(str(robot.parent) for robot in robots)
        raise FileNotFoundError(f"{path} is of several robots; name the folder of one of them: {listed}")
    return configs.load(PolicyConfig, path / CONFIG_FILE, complete=as_it_was_trained)


def check_weights_exist(path: Path) -> None:
    """Raise FileNotFoundError where a folder has no weights."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: this folder has no weights; is training still running?")


def load_instructions(run: Path) -> tuple[str, ...]:
    """The training instructions; none if the run folder has no list."""
    path = run / INSTRUCTIONS_FILE
    return build(tuple[str, ...], read_beside(path, list), where=str(path))


def load_training_seeds(run: Path, env: str) -> list[int]:
    """Seeds of an environment in the training data; none if they are not recorded."""
    path = run / SCENES_FILE
    seeds = read_beside(path, dict).get(env, [])
    check(
        isinstance(seeds, list) and all(type(seed) is int for seed in seeds),
        f"{path}: expected a list of seeds for {env}, got {shown(seeds)}; copy the run folder again",
    )
    return seeds


def load_frame_sizes(run: Path) -> FrameSizes:
    """Height and width of each camera's frames in the training data; none where an older training did not record them.

    Raises:
        ValueError: the file describes something else.
    """
    path, sizes = run / DATA_FILE, FrameSizes()
    for part in read_beside(path, list):
        recorded = part.get("frame_sizes", {}) if isinstance(part, dict) else part
        sizes |= build(Part, {"frame_sizes": recorded}, where=str(path)).frame_sizes
    return sizes


def sizes_of(cameras: Iterable[str], recorded: Mapping[str, tuple[int, int]]) -> FrameSizes:
    """Those of some cameras; without the cameras whose size is not recorded."""
    return {camera: recorded[camera] for camera in cameras if camera in recorded}


def read_beside(path: Path, kind: type[list] | type[dict]) -> Any:
    """The list or the map in a file of `BESIDE`; empty where there is none. Raises ValueError: it is damaged."""
    try:
        found = read_json(path) if path.is_file() else kind()
        problem = "" if isinstance(found, kind) else f"expected a {kind.__name__}, got {shown(found)}"
    except ValueError as error:
        found, problem = kind(), str(error)[:200]
    check(not problem, f"{path} is damaged ({problem}); copy the run folder again")
    return found


OLD_FRAMES: dict[str, dict[str, Any]] = {
    "area": {},
    "pad": {"resample": "bicubic", "max_enlargement": 0.0},
    "lanczos": {"fit": "stretch", "resample": "lanczos", "max_enlargement": 0.0},
}


def as_it_was_trained(config: dict[str, Any]) -> None:
    """A run folder holds every field; one without `feature_norm` is older than it, and was trained on raw features.
    Older ones name what is done with frames by `resize` and `image_fit`, and count the positions of all images."""
    system2 = config.get("system2")
    dit = config["system1"]["dit"] if isinstance(config.get("system1"), dict) else {}
    if "num_image_positions" in dit:
        dit["positions_per_image"] = dit.pop("num_image_positions") // max(1, len(config["cameras"]))
    if "image_fit" in config:
        config["image"] = OLD_FRAMES[config.pop("image_fit")]
    for stream in system2["streams"] if isinstance(system2, dict) else ():
        if "resize" in stream:
            stream["frame"] = OLD_FRAMES[stream.pop("resize")]
    if isinstance(system2, dict):
        system2.setdefault("reference", "none")
    backbone = system2.get("backbone") if isinstance(system2, dict) else None
    if isinstance(backbone, dict):
        backbone.setdefault("feature_norm", "none")
