"""What a run folder holds: the one list that saving, loading, the card and the Hub's download share.

A policy is `config.json`, `stats.json`, `model.safetensors`, and `adapter/` if its video model was tuned by LoRA. A
published video model is not in it: the config names its source. The other files help people and programs, and are not
needed to act.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from video2act import config as configs
from video2act.config import PolicyConfig, PretrainedBackboneConfig
from video2act.config.checks import MAX_ITEMS, Between, CheckedConfig, Pixels, check, shown
from video2act.config.files import build
from video2act.config.nearby import nearby
from video2act.config.plain import damage_named, read_json
from video2act.files.atomic import write_text
from video2act.files.fetched import as_folder
from video2act.files.fingerprint import fingerprint

CONFIG_FILE, WEIGHTS_FILE, STATISTICS_FILE = "config.json", "model.safetensors", "stats.json"
ADAPTER = "adapter"
"""folder of the video model's LoRA"""
SCENES_FILE = "scenes.json"
"""environment -> seeds of the demonstrations, so that an evaluation can refuse to repeat them"""
INSTRUCTIONS_FILE = "instructions.json"
"""training instructions, as examples"""
MAX_INSTRUCTIONS = 1000
"""of them: a large dataset may have as many sentences as episodes"""
DATA_FILE = "data.json"
"""the datasets of the training"""
CARD_FILE = "README.md"
ENGINE_FILE = "engine.json"
"""of an exported policy"""
ROBOTS = "robots"
"""of a training on several robots: one run folder each, by the names of their embodiments"""

Made = TypeVar("Made")
FrameSizes = dict[str, tuple[Pixels, Pixels]]
"""camera -> height and width"""


Count = Annotated[int, Between(0, 10**12)]


@dataclass(frozen=True)
class TrainedDataset(CheckedConfig):
    """A dataset of the training, as `data.json` lists it."""

    name: str
    robot: str
    episodes: Count
    frames: Count
    tasks: tuple[str, ...]
    """at most the first thousand"""
    state: tuple[str, ...] = ()
    """columns of the dataset; older run folders have none"""
    action: tuple[str, ...] = ()
    frame_sizes: FrameSizes = field(default_factory=dict)
    """of the robot's cameras; older run folders have none"""
    labels: str = ""
    """how well actions were labelled that were not recorded"""
    visual_shift: str = ""
    """how the scenes look otherwise than usual"""


BACKBONE_FILE = "backbone.json"
"""of a video model that this project trained"""
TRAINING_FILE = "training.json"
"""there from the first step on; what it has trained is written at the end"""
BESIDE = (SCENES_FILE, INSTRUCTIONS_FILE, DATA_FILE)
"""files that go to the Hub with the policy, where they exist"""
POLICY_FILES = (CONFIG_FILE, STATISTICS_FILE, WEIGHTS_FILE, f"{ADAPTER}/*")
"""patterns of what a policy acts by"""
EXPORTED_FILES = ("*.json", "*.npz", "*.onnx", "*.xml", "*.bin")
SHARED = (*POLICY_FILES, *BESIDE, CARD_FILE)
"""patterns of everything that goes to the Hub and comes back"""


def policy_fingerprint(path: Path) -> str:
    """A short name for what a policy in a run folder, or an exported one, acts by."""
    patterns = EXPORTED_FILES if (path / ENGINE_FILE).is_file() else POLICY_FILES
    return fingerprint(found for name in patterns for found in sorted(path.glob(name)) if found.is_file())


def with_folders(config: PolicyConfig) -> PolicyConfig:
    """The config with every folder of a published network `as_folder`."""
    system1, system2 = config.system1, config.system2
    text, image = (
        encoder and replace(encoder, source=as_folder(encoder.source))
        for encoder in (system1.text_encoder, system1.image_encoder)
    )
    config = replace(config, system1=replace(system1, text_encoder=text, image_encoder=image))
    if system2 is None or not isinstance(system2.backbone, PretrainedBackboneConfig):
        return config
    backbone = replace(system2.backbone, source=as_folder(system2.backbone.source))
    return replace(config, system2=replace(system2, backbone=backbone))


def save_config(path: Path, config: PolicyConfig) -> None:
    """The inverse of `load_config`; folders of published networks are written `as_folder`."""
    write_text(path / CONFIG_FILE, configs.to_json(with_folders(config)))


def check_no_address(path: Path) -> None:
    """Raises ValueError for the address of a served policy, where a folder is wanted."""
    if found := re.match(r"(wss?):/+(.*)", str(path)):  # a Path keeps one of its slashes
        address = f"{found[1]}://{found[2]}"
        uses = f'`video2act eval {address} --env ...`, or in Python Runner(RemotePolicy("{address}"))'
        raise ValueError(f"{address} is the address of a served policy, and a folder is wanted here; use {uses}")


def load_config(path: Path) -> PolicyConfig:
    """The config of a run folder. Raises FileNotFoundError: there is no such folder, or it has none. For a training on
    several robots the message lists their folders; ValueError: the file is not a policy's config, or this is the
    address of a served policy."""
    if not path.is_dir():
        check_no_address(path)
        problem = "is a file" if path.exists() else "does not exist"
        raise FileNotFoundError(
            f"{path} {problem}{nearby(path)}; a run folder holds {CONFIG_FILE}, {WEIGHTS_FILE} and {STATISTICS_FILE}"
        )
    robots = sorted((path / ROBOTS).glob(f"*/{CONFIG_FILE}"))
    if robots and not (path / CONFIG_FILE).is_file():
        listed = ", ".join(str(robot.parent) for robot in robots)
        raise FileNotFoundError(f"{path} is of several robots; name the folder of one of them: {listed}")
    if (path / TRAINING_FILE).is_file() and not any((path / name).exists() for name in (CONFIG_FILE, WEIGHTS_FILE)):
        problem = f"{path} holds a training that has not finished, and no policy yet ({CONFIG_FILE})"
        raise FileNotFoundError(f"{problem}; go on with the same train command and --resume")
    if (path / "meta" / "info.json").is_file():
        raise FileNotFoundError(f"{path} is a dataset, and a policy's run folder is wanted (with {CONFIG_FILE})")
    if (path / BACKBONE_FILE).is_file() and not (path / CONFIG_FILE).is_file():
        raise FileNotFoundError(f"{path} is a video model, and a policy's run folder is wanted (with {CONFIG_FILE})")
    return configs.load(PolicyConfig, path / CONFIG_FILE, complete=as_it_was_trained)


def check_weights_exist(path: Path) -> None:
    """Raise FileNotFoundError where a folder has no weights."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: this folder has no weights; is training still running?")


def load_instructions(run: Path) -> tuple[str, ...]:
    """The training instructions; none if the run folder has no list."""
    return _read(run / INSTRUCTIONS_FILE, lambda found: build(tuple[str, ...], found, where="it"), otherwise=())


def load_training_seeds(run: Path, env: str) -> list[int]:
    """Seeds of an environment in the training data; none if they are not recorded."""

    def seeds(found: Any) -> list[int]:
        check(isinstance(found, dict), f"expected a map, got {shown(found)}")
        listed = found.get(env, [])
        is_list = isinstance(listed, list) and all(type(seed) is int for seed in listed)
        check(is_list, f"expected a list of seeds for {env}, got {shown(listed)}")
        return listed

    return _read(run / SCENES_FILE, seeds, otherwise=[])


def load_trained_datasets(run: Path) -> tuple[TrainedDataset, ...]:
    """The datasets of the training; none if they are not recorded."""

    def datasets(found: Any) -> tuple[TrainedDataset, ...]:
        for entry in found if isinstance(found, list) else ():
            if isinstance(entry, dict) and isinstance(entry.get("tasks"), list):
                entry["tasks"] = entry["tasks"][:MAX_ITEMS]
        return build(tuple[TrainedDataset, ...], found, where="it")

    return _read(run / DATA_FILE, datasets, otherwise=())


def load_frame_sizes(run: Path) -> FrameSizes:
    """Height and width of each camera's frames in the training data; none where an older training did not record
    them."""
    return {camera: size for data in load_trained_datasets(run) for camera, size in data.frame_sizes.items()}


def sizes_of(cameras: Iterable[str], recorded: Mapping[str, tuple[int, int]]) -> FrameSizes:
    """Those of some cameras; without the cameras whose size is not recorded."""
    return {camera: recorded[camera] for camera in cameras if camera in recorded}


def _read(path: Path, make: Callable[[Any], Made], *, otherwise: Made) -> Made:
    """What is made of a file of `BESIDE`; `otherwise` where there is none. Raises ValueError: it is damaged."""
    if not path.is_file():
        return otherwise
    with damage_named(path, "copy the run folder again"):
        return make(read_json(path))


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
