"""The fast system: text, image and System 2's tokens -> a denoised action chunk.

It knows System 2 only as `Tokens`. Everything here is in normalised units; the policy around it normalises.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from video2act.config import System1Config
from video2act.system1.action_dit import ActionDiT, ProjectedConditions
from video2act.system1.denoising import Denoising
from video2act.system1.encoders import ImageEncoder
from video2act.text import ByteTextEncoder
from video2act.types import Conditions, Tokens, concatenate


@dataclass(frozen=True)
class Visibility:
    """What each sample of a batch may use; False hides it. Training hides at random."""

    text: Bool[Tensor, "b"]
    image: Bool[Tensor, "b"]
    video: Bool[Tensor, "b"]
    state: Bool[Tensor, "b"]

    @classmethod
    def full(cls, batch: int, device: torch.device) -> "Visibility":
        shown = torch.ones(batch, dtype=torch.bool, device=device)
        return cls(shown, shown, shown, shown)


class System1(nn.Module):
    """Encoders and denoiser."""

    def __init__(self, config: System1Config, cameras: tuple[str, ...], state_dim: int, action_dim: int, horizon: int):
        super().__init__()
        self.config = config
        self.cameras = cameras
        self.action_shape = (horizon, action_dim)
        self.text = ByteTextEncoder(config.text_dim)
        self.text_in = nn.Linear(config.text_dim, config.hidden)
        self.image = nn.ModuleList(ImageEncoder(config.image_channels, config.hidden) for _ in cameras)
        self.dit = ActionDiT(action_dim, state_dim, horizon, config.hidden, config.depth, config.num_heads)
        self.denoising = Denoising(config.denoising)

    def gather(
        self, instruction: list[str], images: dict[str, Float[Tensor, "b 3 _h _w"]] | None, video: Tokens, visible: Visibility
    ) -> Conditions:
        """Encode text and images and put them beside System 2's tokens, hiding what is not visible. No images, no tokens."""
        text = self.text(instruction)
        text = Tokens(self.text_in(text.data), text.mask & visible.text[:, None])
        image = Tokens.empty(len(instruction), self.config.hidden, like=text.data)
        if images is not None:
            encoded = [encoder(images[camera]) for camera, encoder in zip(self.cameras, self.image, strict=True)]
            image = concatenate(image, *encoded)
        image = Tokens(image.data, image.mask & visible.image[:, None])
        return Conditions(text, image, Tokens(video.data, video.mask & visible.video[:, None]))

    def project(
        self, conditions: Conditions, state: Float[Tensor, "b s"], staleness: Float[Tensor, "b"], visible: Visibility
    ) -> ProjectedConditions:
        """Everything the denoiser reads again and again, computed once."""
        return self.dit.project(conditions, state, visible.state[:, None].to(state), staleness)

    def loss(
        self,
        actions: Float[Tensor, "b horizon a"],
        action_is_pad: Bool[Tensor, "b horizon"],
        conditions: ProjectedConditions,
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """The denoising loss over real actions: what lies past the end of an episode does not count."""
        draws = self.config.denoising.noise_draws
        clean = actions.repeat_interleave(draws, dim=0)
        is_real = ~action_is_pad.repeat_interleave(draws, dim=0)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        uniform = torch.rand(len(clean), generator=generator).to(clean)
        noisy, timestep, target = self.denoising.add_noise(clean, noise, uniform)
        # padding is pure noise to the network: repeated actions, noised one by one, would tell the real ones what they are
        noisy = torch.where(is_real[..., None], noisy, noise)
        predicted = self.dit(noisy, timestep, conditions).float()
        if self.config.denoising.loss == "smooth_l1":
            # beta in normalised units: quadratic for the fine errors that decide a grasp, linear for outliers
            error = nn.functional.smooth_l1_loss(predicted, target, reduction="none", beta=0.1)
        else:
            error = nn.functional.mse_loss(predicted, target, reduction="none")
        per_action = error.mean(dim=2)
        return (per_action * is_real).sum() / is_real.sum().clamp(min=1)

    def sample(self, conditions: ProjectedConditions, noise: Float[Tensor, "b horizon a"]) -> Float[Tensor, "b horizon a"]:
        """Denoise a chunk; the conditions' keys and values are reused at every step."""
        return self.denoising.sample(lambda noisy, timestep: self.dit(noisy, timestep, conditions).float(), noise)
