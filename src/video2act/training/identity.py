"""What makes a training this one. A resumed training must agree in it; it is kept in `training.json`.

It holds the settings that change what is learned, the policy's config, and fingerprints of the data and of all weights
that are read. It holds no folder of weights that can be read: these may move, and may be written relative or absolute.
"""

import os
from dataclasses import asdict
from typing import Any

from video2act.config import PretrainedBackboneConfig, ScratchConfig
from video2act.files.fingerprint import tensors_fingerprint
from video2act.files.frozen import source_fingerprint
from video2act.policy import Video2Act
from video2act.video_backbone import VideoBackbone


def policy_identity(policy: Video2Act) -> dict[str, Any]:
    """Identity of a new policy and of the weights that it starts from."""
    described = asdict(policy.config)
    del described["preset"]  # a name, which changes nothing
    for name in ("text_encoder", "image_encoder"):
        if encoder := described["system1"][name]:
            encoder["source"] = source_fingerprint(encoder["source"]) or whole_path(encoder["source"])
            encoder["cache"] = whole_path(encoder["cache"], is_folder=True)
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
        described["text_cache"] = whole_path(config.text_cache, is_folder=True)
        del described["source"]
    if isinstance(config, ScratchConfig):
        described["vae"] = whole_path(config.vae)
    return described if model is None else {**described, "weights": tensors_fingerprint(model.state_dict())}


def whole_path(path: str | os.PathLike[str] | None, *, is_folder: bool = False) -> str:
    """The same text for a folder however it is written, and, where it may be none, a repo's name as it is."""
    text = os.path.expanduser(path or "")
    return os.path.realpath(text) if text and (is_folder or os.path.exists(text)) else text
