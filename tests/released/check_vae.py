"""The video VAE of Wan 2.2, by the loader of its original file: clips -> latents."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan

from golden import Golden, Report, under
from published_models import original_vae, wan22_vae
from video2act.system2.backbones import wan_original
from video2act.system2.backbones.checkpoint import fill
from video2act.system2.backbones.tap import empty

TOLERANCE = 2e-5


def check_vae_encoder(golden: Golden, report: Report) -> None:
    """Compares NAME with its latents NAME.latent. The fixture has no decoder, so a random one is added."""
    tensors = golden.tensors()
    weights = under(tensors, "sd.")
    width = golden.description["config"]["dim"]
    decoder = {name: tensor for name, tensor in original_vae(wan22_vae(width, width)).items() if name not in weights}
    with tempfile.TemporaryDirectory() as folder:
        torch.save(weights | decoder, Path(folder) / "Wan2.2_VAE.pth")
        component = wan_original.vae(Path(folder))
        vae: Any = empty(AutoencoderKLWan, component.config)
        fill(vae, component.checkpoint, dtype=torch.float32)
    mean, std = (torch.tensor(vae.config[f"latents_{which}"])[:, None, None, None] for which in ("mean", "std"))
    for name in sorted(name.removesuffix(".latent") for name in tensors if name.endswith(".latent")):
        if name not in tensors:
            continue
        clip = tensors[name] if tensors[name].ndim == 5 else tensors[name][None]
        with torch.no_grad():
            latents = (vae.encode(clip).latent_dist.mode() - mean) / std
        report.close(f"{name}.latent", latents, tensors[f"{name}.latent"], TOLERANCE)
