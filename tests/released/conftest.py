"""What a conversion needs beside a checkpoint: a video model and the yaml."""

from pathlib import Path

import pytest
import torch
from released_checkpoint import FEATURES, settings_yaml, write_yaml

from video2act.config import BackboneConfig
from video2act.system2.backbones import make_backbone, save_video_model

BACKBONE = BackboneConfig(feature_layers=(1,), hidden=FEATURES, depth=2, num_heads=4, latent_channels=16, text_dim=16)


@pytest.fixture(scope="module")
def video_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("video")
    torch.manual_seed(0)
    backbone = make_backbone(BACKBONE)
    assert isinstance(backbone, torch.nn.Module)
    save_video_model(folder, backbone, weights=backbone.state_dict())
    return folder


@pytest.fixture
def yaml_file(tmp_path: Path) -> Path:
    return write_yaml(tmp_path, settings_yaml())
