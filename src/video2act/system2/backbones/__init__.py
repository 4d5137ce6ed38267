"""Video diffusion models, each behind `VideoBackbone`."""

from video2act.config import BackboneConfig
from video2act.interfaces import VideoBackbone
from video2act.system2.backbones.tiny import TinyBackbone


def make_backbone(config: BackboneConfig) -> VideoBackbone:
    """The backbone a config names, with random weights."""
    return TinyBackbone(config)


__all__ = ["TinyBackbone", "make_backbone"]
