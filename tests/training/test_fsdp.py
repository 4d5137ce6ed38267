"""Trainings whose weights FSDP divides between two processes, against the same trainings with whole weights.

accelerate divides weights on accelerators only. What it is made of works on CPUs as well, so the launched programs
tell it that these are some; everything else is what `accelerate launch --config_file configs/fsdp.yaml` does.
"""

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

import published_models
from launched import launch_two
from video2act.config import PolicyConfig, PretrainedBackboneConfig, to_json

SETTINGS = yaml.safe_load((Path(__file__).parents[2] / "configs" / "fsdp.yaml").read_text())["fsdp_config"]
DIVIDED = {"ACCELERATE_USE_FSDP": "true", **{name.upper(): str(value) for name, value in SETTINGS.items()}}
"""the environment that accelerate's launcher makes of them"""

HEAD = """
import os
import sys
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from video2act.training.loop import TrainingLoop, TrainingPausedError

PartialState(cpu=True)
if "ACCELERATE_USE_FSDP" in os.environ:
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
settings = {"num_steps": 4, "batch_size": 2, "warmup_steps": 1, "mixed_precision": "no"}
out = Path(sys.argv[1])


def tell(loop):
    kinds = {type(parameter.data).__name__ for parameter in loop.module.parameters()}
    kind = f"{loop.accelerator.distributed_type.value} {' '.join(kinds)}"
    (out / f"kind_{loop.accelerator.process_index}").write_text(kind)
"""

MODULE = (
    HEAD
    + """
import torch
from safetensors.torch import save_file
from torch import nn

from video2act.config import TrainConfig


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x):
        return x + self.linear(self.norm(x))


class Module(nn.Module):
    _no_split_modules = ["Block"]

    def __init__(self):
        super().__init__()
        self.frozen, self.blocks, self.out = nn.Linear(8, 8), nn.Sequential(Block(), Block()), nn.Linear(8, 3)
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return self.out(self.blocks(self.frozen(x))).square().mean()


def train(**limit):
    torch.manual_seed(0)
    loop = TrainingLoop(Module(), TrainConfig(**settings, **limit), folder=out, resume=(out / "checkpoints").is_dir())
    tell(loop)
    # the same on all processes, so that one alone learns what two do
    loop.run(lambda step: (torch.randn(2, 8, generator=torch.Generator().manual_seed(step)),), "module")
    weights = loop.averaged_weights()
    if loop.is_main:
        save_file(weights, out / "model.safetensors")
    loop.finish()


if PartialState().num_processes > 1:
    try:
        train(max_minutes=1e-9)
    except TrainingPausedError:
        pass
train()
"""
)

PROGRAMS = (
    HEAD
    + """
from video2act.config import PolicyConfig, TrainConfig, TuningConfig, VideoTrainConfig, load
from video2act.data import open_dataset
from video2act.programs.train import train
from video2act.programs.train_video import train_video

what, data, policy = sys.argv[2], Path(sys.argv[3]), load(PolicyConfig, Path(sys.argv[4]))
lora, full = TuningConfig("lora", rank=2, alpha=4.0), TuningConfig("full", gradient_checkpointing=True)
tuning = lora if "lora" in what else full
run = TrainingLoop.run
TrainingLoop.run = lambda loop, inputs, title, **options: (tell(loop), run(loop, inputs, title, **options))


def learn(**limit):
    resume = (out / "checkpoints").is_dir()
    if what.startswith("video"):
        config = VideoTrainConfig(num_frames=5, sizes_px=(32,), learning_rate=1e-3, **settings, **limit)
        backbone = policy.system2.backbone
        train_video(open_dataset(data), out=out, training=config, backbone=backbone, resume=resume, tuning=tuning)
    else:
        beside = {"video_loss_weight": 0.5, "video_batch_size": 2} if "joint" in what else {}
        config = TrainConfig(video_learning_rate=1e-3, num_workers=0, **beside, **settings, **limit)
        tuned = policy.replace({"system2.tuning": tuning})
        others = [open_dataset(data)] if beside else []
        train(tuned, open_dataset(data), out=out, training=config, resume=resume, video_data=others)


if "ACCELERATE_USE_FSDP" in os.environ:
    try:
        learn(max_minutes=1e-9)
    except TrainingPausedError:
        pass
learn()
"""
)


def launch(program: str, out: Path, *arguments: str, **environment: str) -> list[str]:
    """One training by two processes; what their parameters are."""
    out.mkdir()
    path = out.with_suffix(".py")
    path.write_text(program)
    launch_two(path, str(out), *arguments, **environment)
    return [(out / f"kind_{rank}").read_text() for rank in range(2)]


def outcome(folder: Path) -> tuple[list[float], dict[str, Tensor]]:
    """The losses, and all weights that a training left."""
    losses = [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    files = sorted(folder.rglob("*.safetensors"))
    return losses, {
        f"{file.relative_to(folder)}/{name}": tensor for file in files for name, tensor in load_file(file).items()
    }


def check_same(divided: Path, whole: Path) -> None:
    assert json.loads((divided / "training.json").read_text())["finished"]
    (expected_losses, expected), (losses, weights) = outcome(whole), outcome(divided)
    assert len(losses) == 4
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    assert weights.keys() == expected.keys()
    differences = torch.cat([(weights[name] - tensor).abs().flatten() for name, tensor in expected.items()])
    assert (differences > 1e-5).float().mean() < 1e-3
    # where there is no gradient but rounding (a bias before a normalization), Adam makes steps of that: of up to .008
    # in all
    assert differences.max() < 1e-3


def test_divided_weights_are_averaged_gathered_and_saved(
    tmp_path: Path, fresh_accelerator: None, monkeypatch: pytest.MonkeyPatch
):
    """Copying the average all at once failed, and what was gathered lay in more memory than it fills, which no file
    takes."""
    assert launch(MODULE, tmp_path / "divided", **DIVIDED) == ["FSDP DTensor"] * 2
    (tmp_path / "whole").mkdir()
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "whole")])
    runpy.run_path(str(tmp_path / "divided.py"))
    assert (tmp_path / "whole" / "kind_0").read_text() == "NO Tensor"
    check_same(tmp_path / "divided", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["video full", "video lora", "policy full", "policy lora", "joint full", "joint lora"])
def test_every_training_goes_with_divided_weights(
    what: str, recorded: Path, small_config: PolicyConfig, tmp_path: Path
):
    source = published_models.write_wan21(tmp_path / "wan21")
    wan = PretrainedBackboneConfig("wan21", str(source), (2,), dtype="float32", text_cache=str(tmp_path / "text"))
    assert small_config.system2 is not None
    streams = tuple(replace(stream, size_px=32) for stream in small_config.system2.streams)
    policy = tmp_path / "policy.json"
    policy.write_text(
        to_json(replace(small_config, system2=replace(small_config.system2, backbone=wan, streams=streams)))
    )
    arguments = (what, str(recorded), str(policy))
    assert launch(PROGRAMS, tmp_path / "whole", *arguments) == ["MULTI_CPU Tensor"] * 2
    assert launch(PROGRAMS, tmp_path / "divided", *arguments, **DIVIDED) == ["FSDP DTensor"] * 2
    check_same(tmp_path / "divided", tmp_path / "whole")
