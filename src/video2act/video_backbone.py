"""The socket of a video diffusion model: what System 2 and `train-video` need of one."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from video2act.config import BackboneConfig, PretrainedBackboneConfig, TuningConfig
from video2act.types import Video


@dataclass(frozen=True)
class Objective:
    """How a video model is trained: the noise levels of its clips, and how its errors count.

    A model may predict a flow, a velocity on the unit circle or a denoised clip: its error is a multiple of the flow's.
    So families differ in these fields and share one loss.
    """

    levels: Callable[[Float[Tensor, "b"], int], Float[Tensor, "b"]]
    """uniform numbers in (0, 1), and how many latent frames a clip has -> the noise levels of training"""
    weight: Callable[[Float[Tensor, "b t"]], Float[Tensor, "b t"]]
    """noise level -> weight of the squared error of the flow"""
    min_given: int = 0
    max_given: int | None = 0
    """a clip keeps a random number of its first latent frames clean, from `min_given` to this; None: to all but the
    last. If both are 0, a clip has one noise level"""
    is_near_first: bool = False
    """errors count less the further ahead they are, in proportion"""
    sampling_shift: float = 3.0
    """of the noise schedule in sampling (arXiv 2403.03206)"""


class VideoBackbone(nn.Module, ABC):
    """A video diffusion model, as System 2 and `train-video` use it."""

    config: BackboneConfig | PretrainedBackboneConfig
    objective: Objective

    @property
    @abstractmethod
    def width(self) -> int:
        """Channels of the hidden states."""

    @property
    def feature_dim(self) -> int:
        """Channels of what `features` returns: those of all tapped layers."""
        return self.width * len(self.config.feature_layers)

    @abstractmethod
    def learn(self, tuning: TuningConfig) -> None:
        """Choose which weights are trained."""

    @abstractmethod
    def encode(self, pixels: Video) -> Video:
        """Pixels in [-1, 1] `[b 3 t h w]` -> normalised latents, by a causal codec; fps is divided."""

    @abstractmethod
    def decode(self, latents: Video) -> Video:
        """Normalised latents -> pixels in [-1, 1]."""

    @abstractmethod
    def features(
        self, latents: Video, instruction: list[str], *, noise_level: Float[Tensor, "b t"] | None = None
    ) -> Video:
        """Hidden states after the blocks of `feature_layers`, each normalised as the config's `feature_norm` says, on a
        grid `[b d t h w]`, the channels of one layer after those of another. Frozen, deterministic.

        Args:
            noise_level: of each latent frame, which holds its noise already; None: all are clean.
        """

    @abstractmethod
    def velocity(self, noisy: Video, noise_level: Float[Tensor, "b t"], *, instruction: list[str]) -> Video:
        """The flow `noise - latents` at `noisy = (1 - level) * latents + level * noise`; one level per latent frame."""

    def hold(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The next latent frame if nothing moved; a codec whose latents span several frames may know better."""
        return latents

    def check_instruction(self, instruction: str) -> None:
        """Raises ValueError or FileNotFoundError for an instruction that the text encoder cannot read."""

    def drop_rest(self) -> None:
        """Keep only what `encode` and `features` need: what a run folder holds. The tiny model is kept whole."""

    def merge(self, folder: Path) -> None:
        """Add a LoRA to the weights. Raises ValueError for a model that takes none, or an adapter that does not fit."""
        raise ValueError(f"{folder} holds a LoRA, but {type(self).__name__} takes none; tune this video model whole")
