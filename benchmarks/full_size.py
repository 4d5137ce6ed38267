"""The paper's sizes with random weights on one GPU: Wan 2.2 TI2V-5B under System 2, RDT-1B's System 1.

    python benchmarks/full_size.py --out runs/full_size            # about 15 GB of disk, 12 GB of GPU memory
    python benchmarks/full_size.py --out runs/full_size --shrunken # the same path with narrow networks, on a CPU

Files of random weights are written once, in the published layout, and read as real ones would be. Then the policy
perceives and acts in bfloat16, and `full_size.json` says how much memory that took, how long, and how far bfloat16 is
from float32. An absolute bound would mean nothing with random weights, so the error is compared with that of a
reference in bfloat16 against float32: for System 2 diffusers' own whole transformer, for System 1 its float32 weights
under mixed precision. At most 1.25 times as much.
"""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
import tyro
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from video2act.config import RDT_FORM, PolicyConfig, PretrainedBackboneConfig, PretrainedConfig
from video2act.policy import Video2Act
from video2act.presets import DataSpec, make_preset
from video2act.statistics import Statistics
from video2act.system2.backbones.pretrained import PretrainedBackbone
from video2act.system2.backbones.sizes import PUBLISHED
from video2act.system2.backbones.tap import empty
from video2act.system2.backbones.wan_original import VAE22_MEAN, VAE22_STD
from video2act.text.cache import TextEmbeddings
from video2act.types import Observation, Video, VideoCondition

INSTRUCTION = "pick up the bottle and put it into the box"
GOAL_GB, ALLOWED = 12.0, 1.25
ROBOT = DataSpec(14, 14, 25.0, ("cam_high", "cam_right_wrist", "cam_left_wrist"))
SHARD_BYTES = 4 * 10**9


@dataclass(frozen=True)
class Settings:
    """What is run."""

    out: Path
    shrunken: bool = False
    repetitions: int = 10


@dataclass(frozen=True)
class Found:
    """Milliseconds are medians; memory is what the allocator held at most, in GB, 0 on a CPU."""

    device: str
    parameters: int
    video_tokens: int
    build_s: float
    build_gb: float
    peak_gb: float
    perceive_ms: float
    act_ms: float
    system2_error: float
    """relative, of the features in bfloat16 against the reference in float32"""
    system2_reference_error: float
    system1_error: float
    system1_reference_error: float

    @property
    def is_within(self) -> bool:
        pairs = ((self.system2_error, self.system2_reference_error), (self.system1_error, self.system1_reference_error))
        return self.peak_gb <= GOAL_GB and all(ours <= ALLOWED * theirs for ours, theirs in pairs)


# files of random weights in the published layout


def write_random(folder: Path, network: Any, config: dict[str, Any], dtype: torch.dtype) -> None:
    """Weights that keep signals alive: matrices of unit gain, norms of one, small biases."""
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, str] = {}
    shard: dict[str, Tensor] = {}
    number = used = 0
    tensors = list(empty(network, config).state_dict().items())
    for position, (name, like) in enumerate(tensors):
        tensor = torch.empty(like.shape, dtype=torch.float32).normal_()
        if like.ndim < 2 or "gamma" in name:
            tensor = 0.1 * tensor + ("bias" not in name)
        else:
            tensor = tensor * (0.3 if "table" in name else like[0].numel() ** -0.5)
        shard[name] = tensor.to(dtype)
        used += shard[name].nbytes
        if used > SHARD_BYTES or position == len(tensors) - 1:
            file = f"diffusion_pytorch_model-{number:05d}.safetensors"
            save_file(shard, folder / file)
            index |= dict.fromkeys(shard, file)
            shard, used, number = {}, 0, number + 1
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    (folder / "config.json").write_text(json.dumps(config | {"_class_name": network.__name__}))


def write_source(folder: Path, shrunken: bool) -> None:
    transformer, vae = PUBLISHED["Wan-AI/Wan2.2-TI2V-5B-Diffusers"]
    if shrunken:
        transformer = transformer | {"num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 32, "num_layers": 3}
        vae = vae | {"base_dim": 4, "decoder_base_dim": 4}
    write_random(folder / "transformer", WanTransformer3DModel, transformer, torch.bfloat16)
    vae = vae | {"latents_mean": list(VAE22_MEAN), "latents_std": list(VAE22_STD)}
    write_random(folder / "vae", AutoencoderKLWan, vae, torch.float32)


def write_siglip(folder: Path, shrunken: bool) -> None:
    size: dict[str, Any] = {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
    }
    if shrunken:
        size = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = SiglipVisionModel(SiglipVisionConfig(image_size=384, patch_size=14, **size))
    model.to(torch.bfloat16).save_pretrained(folder)  # type: ignore[arg-type]


def remember(folder: Path, width: int) -> None:
    """An embedding of the instruction in the text cache: T5-XXL and UMT5-XXL are not loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    path = TextEmbeddings(folder, None, width=width, missing="").path(INSTRUCTION)
    assert path is not None
    save_file({"tokens": torch.randn(12, width, generator=torch.Generator().manual_seed(0))}, path)


def prepared(settings: Settings) -> PolicyConfig:
    """The preset over the files, which are written if they are not there."""
    name = "shrunken" if settings.shrunken else "files"
    root = settings.out / name
    if not (root / "complete").is_file():
        write_source(root / "wan", settings.shrunken)
        write_siglip(root / "siglip", settings.shrunken)
        remember(root / "text2", 4096)
        remember(root / "text1", 4096)
        (root / "complete").touch()
    config = make_preset("wan22_5b_rdt_1b", ROBOT)
    assert config.system2 is not None
    assert isinstance(config.system2.backbone, PretrainedBackboneConfig)
    backbone = replace(config.system2.backbone, source=str(root / "wan"), text_cache=str(root / "text2"))
    text = PretrainedConfig("", width=4096, max_tokens=1024, cache=str(root / "text1"))
    system1 = replace(
        config.system1,
        text_encoder=text,
        image_encoder=PretrainedConfig(str(root / "siglip"), width=24 if settings.shrunken else 1152),
    )
    system2 = replace(config.system2, backbone=backbone)
    if settings.shrunken:
        dit = replace(RDT_FORM, num_image_positions=729 * len(ROBOT.cameras))
        system1 = replace(system1, hidden=32, depth=2, num_heads=4, dit=dit)
        former = replace(config.system2.streams[0].former, num_tokens=8, num_heads=4)
        streams = tuple(
            replace(s, former=former, size_px=64, num_frames=min(17, s.num_frames)) for s in config.system2.streams
        )
        system2 = replace(system2, backbone=replace(backbone, feature_layers=(2,)), streams=streams)
    return replace(config, system1=system1, system2=system2)


# measuring


class Clock:
    def __init__(self, device: torch.device):
        self.device = device

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return perf_counter()

    def median_ms(self, run: Any, repetitions: int) -> float:
        run()  # what is only done once
        times = []
        for _ in range(repetitions):
            started = self.now()
            run()
            times.append(1000 * (self.now() - started))
        return float(np.median(times))

    def peak_gb(self) -> float:
        return torch.cuda.max_memory_allocated() / 1e9 if self.device.type == "cuda" else 0.0


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.float().cpu() - expected.float().cpu()).norm() / expected.float().norm().cpu())


def clips_of(config: PolicyConfig, device: torch.device) -> dict[str, Video]:
    generator = torch.Generator().manual_seed(0)
    assert config.system2 is not None
    shapes = {s.name: (1, 3, s.num_frames, *s.frame_px) for s in config.system2.streams}
    return {
        name: Video(2 * torch.rand(shape, generator=generator) - 1, config.fps).to(device)
        for name, shape in shapes.items()
    }


@contextmanager
def hooked(module: nn.Module) -> Iterator[list[Any]]:
    left: list[Any] = []
    handle = module.register_forward_hook(lambda module, given, out: left.append(out))
    yield left
    handle.remove()


@torch.no_grad()
def reference_features(backbone: PretrainedBackboneConfig, latents: Video, text: Tensor, dtype: torch.dtype) -> Tensor:
    """What leaves a block of diffusers' whole transformer, normalised, as `[b d t h w]`."""
    device = latents.grid.device
    transformer: Any = WanTransformer3DModel.from_pretrained(f"{backbone.source}/transformer", torch_dtype=dtype)
    transformer.to(device)
    padded = torch.zeros(1, 512, text.shape[1], device=device, dtype=dtype)
    padded[0, : len(text)] = text.to(padded)
    with hooked(transformer.blocks[backbone.feature_layers[-1] - 1]) as left:
        transformer(latents.grid.to(dtype), torch.zeros(1, device=device), padded)
    _, _, t, h, w = latents.grid.shape
    tokens = torch.nn.functional.layer_norm(left[0].float(), left[0].shape[-1:])  # the presets' `feature_norm`
    return tokens.view(1, t, h // 2, w // 2, -1).permute(0, 4, 1, 2, 3).cpu()


@torch.no_grad()
def system1_actions(policy: Video2Act, observation: Observation, condition: VideoCondition, mixed: bool) -> Tensor:
    policy.seed(0)
    with torch.autocast(policy.device.type, torch.bfloat16, enabled=mixed):
        return torch.from_numpy(policy.act(observation, condition).actions)


def measure(settings: Settings) -> Found:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = prepared(settings)
    clock = Clock(device)
    unit = {
        name: Statistics((0.0,) * size, (1.0,) * size, (-1.0,) * size, (1.0,) * size)
        for name, size in (("state", 14), ("action", 14))
    }
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    started = clock.now()
    torch.manual_seed(0)
    policy = Video2Act(config, unit).eval()
    # its last layer starts at zero, and a policy that always says zero has no rounding error
    with torch.no_grad():
        for parameter in policy.system1.dit.parameters():
            if parameter.ndim >= 2 and not parameter.any():
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    system2 = policy.system2
    assert system2 is not None
    exact = {name: tensor.clone() for name, tensor in policy.system1.state_dict().items()}
    policy = policy.to_bfloat16().to(device)
    build_s, build_gb = clock.now() - started, clock.peak_gb()

    clips = clips_of(config, device)
    rng = np.random.default_rng(0)
    images = {camera: rng.integers(0, 256, (480, 640, 3), dtype=np.uint8) for camera in config.cameras}
    observation = Observation(images, rng.normal(size=14).astype(np.float32), INSTRUCTION, 0.0)
    perceive_ms = clock.median_ms(lambda: policy.perceive(clips, [INSTRUCTION]), settings.repetitions)
    condition = VideoCondition(policy.perceive(clips, [INSTRUCTION]), 0.0, 0)
    act_ms = clock.median_ms(lambda: policy.act(observation, condition), settings.repetitions)
    peak_gb = clock.peak_gb()

    coarse = system1_actions(policy, observation, condition, mixed=False)
    with torch.no_grad():
        latents = system2.backbone.encode(clips["motion"])
        features = system2.backbone.features(latents, [INSTRUCTION]).grid.float().cpu()
    assert isinstance(system2.backbone, PretrainedBackbone)
    text = system2.backbone.text(INSTRUCTION)["tokens"]
    parameters = sum(parameter.numel() for parameter in policy.parameters())
    num_tokens = condition.tokens.data.shape[1]

    # references, one after another: each is as large as what was measured
    policy.system2 = None
    policy.system1.float().load_state_dict(exact)
    policy.is_coarse = False
    fine_condition = replace(condition, tokens=replace(condition.tokens, data=condition.tokens.data.float()))
    fine = system1_actions(policy, observation, fine_condition, mixed=False)
    mixed = system1_actions(policy, observation, fine_condition, mixed=True)
    del policy, exact
    gc.collect()
    torch.cuda.empty_cache()
    backbone = system2.config.backbone
    assert isinstance(backbone, PretrainedBackboneConfig)
    del system2
    gc.collect()
    torch.cuda.empty_cache()
    expected = reference_features(backbone, latents, text, torch.float32)
    theirs = reference_features(backbone, latents, text, torch.bfloat16)
    return Found(
        torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        parameters,
        num_tokens,
        build_s,
        build_gb,
        peak_gb,
        perceive_ms,
        act_ms,
        relative(features, expected),
        relative(theirs, expected),
        relative(coarse, fine),
        relative(mixed, fine),
    )


def main(settings: Settings) -> Found:
    found = measure(settings)
    said = json.dumps(asdict(found) | {"goal_gb": GOAL_GB, "allowed": ALLOWED, "is_within": found.is_within}, indent=2)
    (settings.out / "full_size.json").write_text(said + "\n")
    print(said)
    return found


if __name__ == "__main__":
    main(tyro.cli(Settings))
