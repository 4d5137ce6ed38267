"""CogVideoX 1.0 (2B, 5B) and 1.5: text and video tokens in one sequence, text first.

Not flow matching: it was trained on `alpha * latents + sigma * noise` with `alpha^2 + sigma^2 = 1`, to predict
`alpha * noise - sigma * latents`, with one noise level per clip. A mixture `(1 - level) * latents + level * noise` is
such a sum up to a factor, so levels and flows are converted exactly; the model's input is the nearest of its 1000
timesteps. Its VAE convolves causally, but its group norms see chunks of 8 frames. In version 1.5 a token is two latent
frames.
"""

from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from jaxtyping import Float
from torch import Tensor

from video2act.config import PretrainedBackboneConfig
from video2act.files.tensor_files import read_json
from video2act.system2.backbones.pretrained import Embedding, Parts, PretrainedBackbone
from video2act.system2.objectives import circle_error, each_of, one_level
from video2act.types import Video
from video2act.video_backbone import Objective

SCHEDULERS = ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler")


class CogVideoXBackbone(PretrainedBackbone):
    """`VideoBackbone` over `CogVideoXTransformer3DModel`."""

    TRANSFORMER = CogVideoXTransformer3DModel
    VAE = AutoencoderKLCogVideoX
    RETURNS_PAIR = True
    SEES_PADDING = True
    OF_THE_TEXT = ("patch_embed.text_proj", "time_embedding")

    def __init__(self, config: PretrainedBackboneConfig, parts: Parts, *, whole: bool = False):
        super().__init__(config, parts, whole=whole)
        self.levels = self._levels()
        """of each timestep, as `sigma / (alpha + sigma)`"""
        self.objective = Objective(each_of(self.levels), circle_error)

    def compression(self, vae: dict[str, Any]) -> tuple[int, int]:
        return 2 ** (len(vae["block_out_channels"]) - 1), int(vae["temporal_compression_ratio"])

    @property
    def max_tokens(self) -> int:
        return self.transformer.config.max_text_seq_length

    def _decode(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 frames height width"]:
        # its decoder takes pairs of latent frames, and one alone in front: with an even number the first stands twice
        if latents.shape[2] % 2:
            return super()._decode(latents)
        return super()._decode(torch.cat([latents[:, :, :1], latents], dim=2))[:, :, self.config.frames_per_latent :]

    def run(self, noisy: Video, noise_level: Float[Tensor, "b t"], *, text: Embedding) -> Float[Tensor, "b c t h w"]:
        level = one_level(noise_level, "CogVideoX")
        timestep = (self.levels.to(level)[None] - level[:, None]).abs().argmin(dim=1)
        # the same mixture on the unit circle
        scale = ((1 - level) ** 2 + level**2).sqrt()[:, None, None, None, None]
        alpha, sigma = (1 - level)[:, None, None, None, None] / scale, level[:, None, None, None, None] / scale
        mixture = noisy.grid / scale
        # two latent frames make a token: of an odd number, the first stands twice
        num_extra = -mixture.shape[2] % self.config.grid.latents_per_token
        padded = torch.cat([mixture[:, :, :1].expand(-1, -1, num_extra, -1, -1), mixture], dim=2).transpose(1, 2)
        output = self.transformer(
            padded.to(self.dtype), text["tokens"], timestep, image_rotary_emb=self._rotary(padded), return_dict=False
        )[0]
        velocity = output.transpose(1, 2)[:, :, num_extra:].float()
        noise, latents = sigma * mixture + alpha * velocity, alpha * mixture - sigma * velocity
        return noise - latents

    def _levels(self) -> Float[Tensor, "n"]:
        path = self.root / "scheduler" / "scheduler_config.json"
        config = read_json(path)
        name = config.get("_class_name")
        if name not in SCHEDULERS:
            raise ValueError(f"{path} describes a {name}; CogVideoX was trained with one of {', '.join(SCHEDULERS)}")
        alpha_squared = getattr(diffusers, name).from_config(config).alphas_cumprod.double()
        alpha, sigma = alpha_squared.sqrt(), (1 - alpha_squared).sqrt()
        return (sigma / (alpha + sigma)).float()

    def _rotary(self, grid: Float[Tensor, "b t c h w"]) -> Any:
        """Cosines and sines of positions for the 5B models, which know their training size; the 2B adds its own."""
        config = self.transformer.config
        if not config.use_rotary_positional_embeddings:
            return None
        _, t, _, h, w = grid.shape
        size = (h // config.patch_size, w // config.patch_size)
        trained = (config.sample_height // config.patch_size, config.sample_width // config.patch_size)
        if config.patch_size_t is None:
            crop = centred_crop(size, trained)
            return get_3d_rotary_pos_embed(config.attention_head_dim, crop, size, t, device=grid.device)
        if size[0] > trained[0] or size[1] > trained[1]:
            raise ValueError(
                f"this CogVideoX was trained on at most {trained} tokens a side, got {size}; use a smaller size_px"
            )
        return get_3d_rotary_pos_embed(
            config.attention_head_dim,
            None,
            size,
            t // config.patch_size_t,
            grid_type="slice",
            max_size=trained,
            device=grid.device,
        )


def centred_crop(size: tuple[int, int], trained: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last corner (h, w) of a grid within the one of training, scaled to fit and centred."""
    scale = min(trained[0] / size[0], trained[1] / size[1])
    height, width = (round(scale * side) for side in size)
    top, left = round((trained[0] - height) / 2), round((trained[1] - width) / 2)
    return (top, left), (top + height, left + width)
