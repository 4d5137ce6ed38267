"""Video diffusion models, each a `VideoBackbone`, and the folder of a trained one."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from video2act import config as configs
from video2act.config import BackboneConfig, PretrainedBackboneConfig, System2Config, TuningConfig
from video2act.files.atomic import write_text
from video2act.files.run_folder import CONFIG_FILE
from video2act.files.video_model import BACKBONE_FILE, load_video_config
from video2act.files.weights import check_file, load_weights, save_weights
from video2act.system2.backbones.published import load_published, save_tuned
from video2act.system2.backbones.tiny import TinyBackbone
from video2act.video_backbone import VideoBackbone

WEIGHTS_FILE = "model.safetensors"

WHOLE = TuningConfig("full")

AnyConfig = BackboneConfig | PretrainedBackboneConfig


def make_backbone(config: AnyConfig, whole: bool = False) -> VideoBackbone:
    """The backbone of a config: the tiny one with random weights, a published one with those of its source.

    Args:
        whole: of a published one, also load what only `velocity` and `decode` need.
    Raises:
        FileNotFoundError: the source or one of its files is missing.
        ValueError: the source holds another model than the config names, or is damaged.
    """
    return TinyBackbone(config) if isinstance(config, BackboneConfig) else load_published(config, whole)


def make_published(config: System2Config | None, run: Path | None = None) -> VideoBackbone | None:
    """A published backbone, compared with the files at its source; None for the tiny one and for none.

    Args:
        run: the folder that the config is from, for errors.
    """
    if config is None or isinstance(config.backbone, BackboneConfig):
        return None
    try:
        return make_backbone(config.backbone)
    except FileNotFoundError as error:
        if run is None:
            raise
        raise FileNotFoundError(f"{run / CONFIG_FILE}, system2.backbone.source: {error}") from error


def save_video_model(
    path: Path, backbone: VideoBackbone, *, weights: dict[str, Tensor], tuning: TuningConfig = WHOLE
) -> None:
    """Write a folder for `load_video_model`, which is also a `source` of configs.

    Args:
        weights: of the backbone, under its names. Of a published one only the transformer or its LoRA is written.
    """
    path.mkdir(parents=True, exist_ok=True)
    if not isinstance(backbone, TinyBackbone):
        save_tuned(path, backbone, weights=weights, tuning=tuning)
        return
    save_weights(path / WEIGHTS_FILE, weights)
    write_text(path / BACKBONE_FILE, configs.to_json(backbone.config))


def load_video_model(path: Path, whole: bool = False) -> tuple[AnyConfig, VideoBackbone]:
    """A folder written by `train-video` -> its config and the model, ready for use.

    Args:
        whole: as in `make_backbone`.
    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        ValueError: the weights do not fit the config; the tensors are named.
    """
    config = load_video_config(path)
    if isinstance(config, PretrainedBackboneConfig):
        config = replace(config, source=str(path))
        return config, make_backbone(config, whole)
    check_file(lambda: make_backbone(config), path / WEIGHTS_FILE)
    backbone = make_backbone(config)
    load_weights(backbone, path / WEIGHTS_FILE)
    return config, backbone.eval()


__all__ = [
    "AnyConfig",
    "TinyBackbone",
    "load_video_model",
    "make_backbone",
    "make_published",
    "save_video_model",
]
