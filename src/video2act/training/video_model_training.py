"""The training of a video model, from its first weights to its folder. `programs/train_video.py` checks its input."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from video2act.config import (
    BackboneConfig,
    FrameConfig,
    PretrainedBackboneConfig,
    ScratchConfig,
    TuningConfig,
    VideoTrainConfig,
)
from video2act.data import Dataset
from video2act.data.clip_sampler import ClipSampler
from video2act.data.fingerprint import of_datasets
from video2act.data.sentences import hand_over
from video2act.files.atomic import write_text
from video2act.files.weights import check_memory
from video2act.system2.backbones import TinyBackbone, load_video_model, make_backbone, save_video_model
from video2act.system2.backbones.pretrained import PretrainedBackbone
from video2act.system2.backbones.published import TRANSFORMER, save_transformer
from video2act.system2.backbones.scratch import Reconstruction, latent_statistics, write_base
from video2act.system2.backbones.sources import component
from video2act.system2.video_training import diffusion_loss
from video2act.training.identity import backbone_identity
from video2act.training.loop import TrainingLoop
from video2act.training.pause import Deadline
from video2act.training.together import processes
from video2act.training.video_clips import RATES, wide_sizes
from video2act.training.video_report import VideoReport, print_report, validate
from video2act.types import Video
from video2act.video_backbone import VideoBackbone

REPORT_FILE = "video_report.json"
BASE, VAE_TRAINING = "base", "vae_training"
"""folders in which a model from nothing grows"""


@dataclass(frozen=True)
class TrainedVideoModel:
    """A video model's folder, wherever a path is wanted, and what the model learned."""

    folder: Path
    report: VideoReport

    def __fspath__(self) -> str:
        return str(self.folder)


class VideoObjective(nn.Module):
    """The backbone under its own loss."""

    def __init__(self, backbone: VideoBackbone):
        super().__init__()
        self.backbone = backbone
        # what FSDP wraps by default: the blocks of a published transformer
        self._no_split_modules = getattr(getattr(backbone, "transformer", None), "_no_split_modules", None)

    def forward(self, pixels: Video, instruction: list[str], generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            latents = self.backbone.encode(pixels)
        return diffusion_loss(self.backbone, latents, instruction=instruction, generator=generator)


def train_video_model(
    backbone: BackboneConfig | PretrainedBackboneConfig | ScratchConfig,
    datasets: Sequence[Dataset],
    *,
    out: Path,
    config: VideoTrainConfig,
    sampler: ClipSampler,
    held_out: ClipSampler,
    resume: bool,
    tuning: TuningConfig,
    frame: FrameConfig,
    deadline: Deadline,
) -> TrainedVideoModel:
    """Arguments, result and errors as for `video2act.train_video`.

    Args:
        sampler, held_out: clips to train on, and to report on.
    """
    identity = {
        "backbone": backbone_identity(backbone),
        "data": of_datasets(datasets),
        "camera": sampler.footage[0].camera,
        "tuning": asdict(tuning),
        "frame": asdict(frame),
        RATES: sorted({float(dataset.fps) / config.stride for dataset in datasets}),
        **wide_sizes(sampler.sizes),
    }
    if isinstance(backbone, ScratchConfig):
        growing: dict[str, Any] = {"identity": identity, "resume": resume, "deadline": deadline}
        source = grow_base(out, backbone, config=config, sampler=sampler, **growing)
    else:
        source = backbone
    if isinstance(source, BackboneConfig):
        check_memory(lambda: make_backbone(source))
    torch.manual_seed(config.seed)
    model = make_backbone(source, whole=True)
    if isinstance(model, TinyBackbone):
        fit_generator = np.random.default_rng([config.seed, 0])
        model.codec.fit([sampler.random(8, (config.seed, int(i)))[0] for i in fit_generator.integers(2**31, size=16)])
    elif isinstance(model, PretrainedBackbone):
        if not isinstance(backbone, ScratchConfig):
            identity["backbone"] = backbone_identity(backbone, model)
        model.learn(tuning)

    elsewhere = ("backbone.",) if isinstance(model, PretrainedBackbone) else ()
    with TrainingLoop(
        VideoObjective(model),
        config,
        folder=out,
        resume=resume,
        identity=identity,
        elsewhere=elsewhere,
        deadline=deadline,
    ) as loop:
        rank, device = loop.accelerator.process_index, loop.accelerator.device
        if isinstance(model, PretrainedBackbone):
            # one process computes and writes the embeddings, the others then find them; nothing needs the encoder
            # afterwards
            with loop.accelerator.main_process_first():
                hand_over(datasets, model.text.prepare)

        def inputs(step: int) -> tuple[Video, list[str], torch.Generator]:
            pixels, instruction = sampler.random(config.batch_size, (config.seed, 1, step, rank))
            return pixels.to(device), instruction, loop.generator(step)

        for one in sampler.footage if loop.is_main else ():
            print(f"note: {one.store}")
        loop.run(inputs, "video model")
        weights = {name.removeprefix("backbone."): tensor for name, tensor in loop.averaged_weights().items()}
        report = VideoReport(0.0, 0, 0.0, [])
        if loop.is_main:
            if isinstance(backbone, ScratchConfig) and isinstance(source, PretrainedBackboneConfig):
                finish_grown(out, model, weights=weights)
                learned = make_backbone(replace(source, source=str(out)), whole=True)
            else:
                save_video_model(out, model, weights=weights, tuning=tuning)
                learned = load_video_model(out, whole=True)[1]
            report = validate(learned.to(device), held_out, out=out, device=device)
            write_text(out / REPORT_FILE, json.dumps(asdict(report), indent=2) + "\n")
            print_report(report)
            print(f"video model: {out}   report: {out / REPORT_FILE}   clip: {out / 'prediction.mp4'}")
        loop.finish()
        if loop.is_main:
            shutil.rmtree(out / BASE, ignore_errors=True)
    return TrainedVideoModel(out, report)


# a model from nothing


def grow_base(
    out: Path,
    backbone: ScratchConfig,
    *,
    config: VideoTrainConfig,
    sampler: ClipSampler,
    identity: dict[str, Any],
    resume: bool,
    deadline: Deadline,
) -> PretrainedBackboneConfig:
    """Train the VAE, and put a transformer of random weights beside it: a model as published ones are, but for its
    learning."""
    base = out / BASE
    chosen = PretrainedBackboneConfig("wan_small", str(base), feature_layers=(backbone.depth,), dtype="float32")
    # the second, where a training was stopped after its end
    grown = next((root for root in (base, out) if (root / TRANSFORMER).is_dir()), None)
    if resume and grown:
        return replace(chosen, source=str(grown))
    check_memory(lambda: Reconstruction(backbone))
    torch.manual_seed(config.seed)
    module = Reconstruction(backbone)
    if backbone.vae:
        component(Path(backbone.vae), "vae", expected_class=AutoencoderKLWan.__name__)  # raises if it is damaged
        vae: Any = AutoencoderKLWan.from_pretrained(Path(backbone.vae) / "vae", local_files_only=True)
        statistics = (list(vae.config.latents_mean), list(vae.config.latents_std))
        if processes().is_main_process:
            _write_base(base, backbone, vae=vae.state_dict(), statistics=statistics)
        processes().wait_for_everyone()
        return chosen
    settings = replace(config, num_steps=backbone.vae_steps, learning_rate=backbone.vae_learning_rate)
    where: dict[str, Any] = {"folder": out / VAE_TRAINING, "resume": resume, "identity": identity}
    with TrainingLoop(module, settings, **where, deadline=deadline) as loop:
        rank, device = loop.accelerator.process_index, loop.accelerator.device

        def inputs(step: int) -> tuple[Video, torch.Generator]:
            return sampler.random(config.batch_size, (config.seed, 2, step, rank))[0].to(device), loop.generator(step)

        loop.run(inputs, "video VAE")
        weights = {name.removeprefix("vae."): tensor.cpu() for name, tensor in loop.averaged_weights().items()}
        module.vae.load_state_dict(weights)
        clips = [sampler.random(config.batch_size, (config.seed, 3, i))[0] for i in range(16)]
        statistics = latent_statistics(module.vae.eval(), clips)
        if loop.is_main:
            _write_base(base, backbone, vae=weights, statistics=statistics)
        loop.finish()
    return chosen


def _write_base(base: Path, backbone: ScratchConfig, *, vae: dict[str, Tensor], statistics: Any) -> None:
    growing = base.with_name(f"{BASE}.tmp")
    shutil.rmtree(growing, ignore_errors=True)
    write_base(growing, backbone, vae=vae, statistics=statistics)
    shutil.rmtree(base, ignore_errors=True)  # of a training that was killed before it had begun
    growing.rename(base)


def finish_grown(out: Path, model: Any, *, weights: dict[str, Tensor]) -> None:
    """The whole model as one folder of diffusers' layout; the transformer comes last, and without it there is no
    model."""
    for part in ("vae", "text_encoder", "tokenizer"):
        shutil.copytree(out / BASE / part, out / part, dirs_exist_ok=True)
    shutil.copy(out / BASE / "model_index.json", out)
    save_transformer(out / TRANSFORMER, model, weights=weights)
