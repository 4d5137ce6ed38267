"""The knobs of System 1: its encoders, its transformer, its denoising."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from video2act.config.checks import (
    Between,
    CheckedConfig,
    CountingInt,
    NonNegativeInt,
    Positive,
    TextWidth,
    Width,
    check,
    check_divisible,
)

NormForm = Literal["rms", "variance"]


def adaptor_depth(word: str) -> int:
    """The N of `mlpNx_gelu`, an adaptor of N linear layers with GELUs between them.

    Raises:
        ValueError: the word has another form.
    """
    found = re.fullmatch(r"mlp([1-9])x_gelu", word)
    if found is None:
        raise ValueError(f"an adaptor is written mlpNx_gelu, N from 1 to 9 linear layers, got {word!r}")
    return int(found[1])


@dataclass(frozen=True)
class DenoisingConfig(CheckedConfig):
    """How actions are noised in training and denoised in sampling; the schedules are those of diffusers."""

    schedule: Literal["flow_matching", "ddpm"] = "flow_matching"
    """how noise and actions are mixed: linearly (rectified flow, arXiv 2209.03003), or as in DDPM (arXiv 2006.11239)"""
    prediction: Literal["sample", "epsilon", "velocity"] = "sample"
    """what the network outputs: the clean actions, or (flow matching) noise - actions. epsilon, the noise, is for
    checkpoints of the released code: the first denoising step divides its errors by 0.007, so none is trained here"""
    num_steps: Annotated[int, Between(1, 1000)] = 5
    """denoising steps per chunk"""
    num_train_timesteps: Annotated[int, Between(1, 10**5)] = 1000
    """noise levels that training tells apart"""
    noise_shift: Positive = 1.0
    """training draws noise levels from `s u / (1 + (s - 1) u)`, u uniform (arXiv 2403.03206); above 1, more of them are
    high, where the conditions decide"""
    loss: Literal["mse", "smooth_l1"] = "mse"
    """squared error, or the one that large errors weigh less in"""
    noise_draws: Annotated[int, Between(1, 1000)] = 1
    """noise levels drawn per training sample; they share the projected conditions, so extra draws are cheap"""

    def _check(self) -> None:
        allowed = {"flow_matching": ("sample", "velocity"), "ddpm": ("sample", "epsilon")}
        check(
            self.prediction in allowed[self.schedule],
            f"schedule {self.schedule!r} predicts one of {allowed[self.schedule]}, got {self.prediction!r}",
        )
        check(
            self.schedule != "ddpm" or self.num_steps < self.num_train_timesteps,
            f"num_steps={self.num_steps} must be below num_train_timesteps={self.num_train_timesteps} (ddpm)",
        )


@dataclass(frozen=True)
class DitConfig(CheckedConfig):
    """The form of the action transformer. The defaults are ours; `RDT_FORM` is that of RDT-1B (arXiv 2410.07864)."""

    norm: NormForm = "rms"
    """rms; or variance, which timm 1.0.3 computes under that name and RDT-1B was trained with"""
    clock: Literal["staleness", "frequency"] = "staleness"
    """the second token: the age of the video condition; or, as in RDT-1B, the control rate, and the age is added to the
    video tokens instead"""
    sinusoids: Annotated[int, Between(0, 2**16)] = 0
    """width of the sinusoidal embedding of timestep and clock; 0: as wide as hidden"""
    sinusoid_activation: Literal["gelu", "silu"] = "gelu"
    """between the two layers that read those sinusoids"""
    state_adaptor: str = "mlp2x_gelu"
    """layers from the state to a token: `mlpNx_gelu`, N from 1 to 9"""
    action_adaptor: str = "mlp1x_gelu"
    """the same from an action to a token"""
    pools_text: bool = True
    """the mean of the instruction's tokens is added to the state token; RDT-1B only attends to the text"""
    num_text_positions: NonNegativeInt = 0
    """learned positions of text tokens, at most that many; 0: none, the text encoder's own are enough"""
    positions_per_image: NonNegativeInt = 0
    """learned positions of an image's tokens, for each camera its own; 0: none, the image encoder has its own"""

    def _check(self) -> None:
        check(self.sinusoids % 2 == 0, f"sinusoids come in pairs, got {self.sinusoids}")
        adaptor_depth(self.state_adaptor)
        adaptor_depth(self.action_adaptor)


@dataclass(frozen=True)
class PretrainedConfig(CheckedConfig):
    """A frozen encoder from transformers. Its weights stay where they are: a run folder names them and does not hold
    them."""

    source: str
    """folder or repo id, e.g. google/t5-v1_1-xxl; empty for text whose embeddings are all in the cache"""
    width: Width
    """width of its tokens"""
    cache: str = ""
    """text: folder of embeddings computed before, one folder per encoder; empty: computed when asked for, and kept in
    memory"""
    max_tokens: CountingInt = 1024
    """text: the longest instruction; a longer one is refused, not cut"""

    def _check(self) -> None:
        has_origin = bool(self.source or self.cache)
        check(has_origin, "an encoder needs a source (folder or repo id) or, for text, a cache folder")


@dataclass(frozen=True)
class System1Config(CheckedConfig):
    """The fast system: encoders of text and image, and the action diffusion transformer."""

    hidden: Width = 128
    """width of a token"""
    depth: Annotated[int, Between(0, 256)] = 4
    """blocks; even ones attend to text, odd ones to image and video (RDT-1B)"""
    num_heads: Width = 4
    """attention heads of a block; they share `hidden`"""
    text_dim: TextWidth = 64
    """width of the small text encoder that is trained along; unused with `text_encoder`"""
    image_channels: Width = 16
    """channels after the first convolution of the small image encoder; unused with `image_encoder`"""
    denoising: DenoisingConfig = DenoisingConfig()
    dit: DitConfig = DitConfig()
    text_encoder: PretrainedConfig | None = None
    """a frozen T5 in place of the small encoder"""
    text_adaptor: str = "mlp1x_gelu"
    """from the text encoder's width to hidden"""
    image_encoder: PretrainedConfig | None = None
    """a frozen SigLIP in place of the small encoder"""
    image_adaptor: str = "mlp2x_gelu"
    """from SigLIP's width to hidden; the small encoder needs none"""
    embodiment: str = ""
    """how the robot's numbers lie in the unified vector of 128 (`embodiment.py`); empty: the robot's own vector"""
    max_delay_steps: NonNegativeInt = 0
    """training-time real-time chunking (arXiv 2512.05964): training shows the first actions of a chunk as they are, 0
    to this many, and asks for the others; 0: never. A plan can then continue one that is being executed without
    guidance"""

    def _check(self) -> None:
        channels, depth, positions = self.image_channels, self.depth, self.dit.num_text_positions
        check(channels % 8 == 0, f"image_channels must be a multiple of 8 (its norm has 8 groups), got {channels}")
        check(depth >= 2, f"depth must be at least 2 (one block for text, one for image and video), got {depth}")
        check_divisible(self, "hidden", "num_heads")
        is_paired = self.dit.sinusoids > 0 or self.hidden % 2 == 0
        check(is_paired, f"hidden must be even (sinusoids come in pairs), got {self.hidden}")
        adaptor_depth(self.text_adaptor)
        adaptor_depth(self.image_adaptor)
        longest = self.text_encoder.max_tokens if self.text_encoder and positions else 0
        check(longest <= positions, f"text of up to {longest} tokens does not fit num_text_positions={positions}")


RDT_FORM = DitConfig(
    norm="variance",
    clock="frequency",
    sinusoids=256,
    sinusoid_activation="silu",
    state_adaptor="mlp3x_gelu",
    action_adaptor="mlp3x_gelu",
    pools_text=False,
    num_text_positions=1024,
    positions_per_image=27 * 27,
)
