"""What makes a training this one. A resumed training must agree in it; it is kept in `training.json`, with a mark when
the training has finished.

It holds the settings that change what is learned, the policy's config, and fingerprints of the data and of all weights
that are read. It holds no folder of weights that can be read: these may move, and may be written relative or absolute.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from video2act.config import OptimizationConfig, PretrainedBackboneConfig, ScratchConfig, to_json
from video2act.data.cache_manifest import weights_fingerprint
from video2act.files import frozen
from video2act.files.atomic import write_text
from video2act.files.differences import differences
from video2act.interfaces import VideoBackbone
from video2act.policy import Video2Act
from video2act.training.metrics import METRICS_FILE

SETTINGS_FILE = "training.json"
FINISHED = "finished"

HARMLESS = ("max_minutes", "save_every", "validate_every", "num_workers")
"""settings that do not change what is learned"""


def policy_identity(policy: Video2Act) -> dict[str, Any]:
    """Identity of a new policy and of the weights that it starts from."""
    described = asdict(policy.config)
    del described["preset"]  # a name, which changes nothing
    for name in ("text_encoder", "image_encoder"):
        if encoder := described["system1"][name]:
            encoder["source"] = frozen.weights_fingerprint(encoder["source"]) or whole_path(encoder["source"])
            encoder["cache"] = whole_path(encoder["cache"])
    if policy.system2:
        config, backbone = policy.system2.config, policy.system2.backbone
        described["system2"]["backbone"] = backbone_identity(config.backbone, backbone)
    return described


def backbone_identity(config: Any, model: VideoBackbone | None = None) -> dict[str, Any]:
    """Identity of a video model.

    Args:
        model: it with the weights that a training begins with; None: they are random.
    """
    described = asdict(config)
    if isinstance(config, PretrainedBackboneConfig):
        described["text_cache"] = whole_path(config.text_cache)
        del described["source"]
    if isinstance(config, ScratchConfig):
        described["vae"] = whole_path(config.vae)
    return described if model is None else {**described, "weights": weights_fingerprint(model.state_dict())}


def whole_path(path: str | os.PathLike[str] | None) -> str:
    """The same text for a folder however it is written; a repo's name as it is."""
    text = os.path.expanduser(path or "")
    return os.path.realpath(text) if text and os.path.exists(text) else text


def settings_of(config: OptimizationConfig, identity: dict[str, Any]) -> dict[str, Any]:
    """Args: identity: what else makes a training this one."""
    settings = json.loads(to_json(config)) | json.loads(json.dumps(identity))
    return {name: value for name, value in settings.items() if name not in HARMLESS}


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write a run folder's settings."""
    write_text(folder / SETTINGS_FILE, json.dumps(settings, indent=2) + "\n")


def check_folder(folder: Path, settings: dict[str, Any], *, resume: bool) -> None:
    """Whether a training with these settings may write the folder.

    Raises:
        FileExistsError: it holds a finished training, or another one and `resume` is off.
        ValueError: it was started with other settings, or `training.json` is damaged or missing.
    """
    path, metrics = folder / SETTINGS_FILE, folder / METRICS_FILE
    before = read_settings(path) if path.is_file() else {}
    # a folder in which no step was taken is free: there is nothing to lose
    has_begun = bool(before.get(FINISHED)) or (metrics.is_file() and metrics.stat().st_size > 0)
    if has_begun and not resume:
        raise FileExistsError(f"{folder} already holds a training; resume it, or choose another folder")
    if has_begun and not path.is_file():
        raise ValueError(f"{path} is missing; restore it, or remove {folder} to train from the beginning")
    if before.get(FINISHED):
        raise FileExistsError(f"{folder} holds a finished training; choose another folder to train again")
    before = {name: value for name, value in before.items() if name in settings}
    if has_begun and (changed := differences(before, settings, words=("then", "now"))):
        problem = f"{folder} was started with other settings ({'; '.join(changed)})"
        raise ValueError(f"{problem}; resume with the same ones, or choose another folder")


def read_settings(path: Path) -> dict[str, Any]:
    """Raises ValueError for a damaged file."""
    try:
        settings = json.loads(path.read_bytes())
        if isinstance(settings, dict):
            return settings
        problem = f"it holds {type(settings).__name__}"
    except (ValueError, RecursionError) as error:
        problem = str(error)
    remedy = f"restore it, or remove {path.parent} to train from the beginning"
    raise ValueError(f"{path} is damaged ({problem[:200]}); {remedy}")
