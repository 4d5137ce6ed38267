"""Which video diffusion model System 2 uses, and after which block."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from video2act.config.checks import (
    Bound,
    CheckedConfig,
    CountingInt,
    Fraction,
    Layers,
    NonNegativeInt,
    Pixels,
    Positive,
    TextWidth,
    TrainingSteps,
    Width,
    check,
    check_divisible,
)
from video2act.config.files import build, read_plain

FeatureLayers = Annotated[
    tuple[NonNegativeInt, ...],
    Bound(
        "must be numbers of blocks from 0, each once, the lowest first",
        lambda layers: 0 < len(layers) <= 1024 and all(a < b for a, b in pairwise((-1, *layers))),
    ),
]
"""After how many of its blocks a video model is tapped: one number, or several, whose features are joined. 0 is what
enters the first block; blocks behind the last tap are neither loaded nor run."""

FeatureJoin = Literal["concatenate", "mixture"]
"""How the features of several layers are joined. concatenate: side by side, as wide as all of them. mixture: a sum with
weights that each former learns (arXiv 1802.05365), as wide as one."""

FeatureNorm = Literal["none", "layer", "modulated"]
"""How the features of a token are normalised before anything filters or reads them.

layer: to mean 0 and variance 1 over the channels. modulated: by the norm of the block after each tap, scaled and
shifted for the noise level; that block is loaded and run too. none: as they leave the block. A few channels then hold
most of the variance and follow position, not content (massive activations, arXiv 2505.18584), and a filter that works
channel by channel sees only those; none is for checkpoints of the released code.
"""


def _check_heads(config: "BackboneConfig | ScratchConfig") -> None:
    check_divisible(config, "hidden", "num_heads")
    head = config.hidden // config.num_heads
    check(
        head % 2 == 0,
        f"hidden={config.hidden} in num_heads={config.num_heads} heads makes heads of {head}; their positions need an "
        "even width",
    )


@dataclass(frozen=True)
class BackboneConfig(CheckedConfig):
    """The CPU-sized video model, and where it is tapped. Trained by `train-video`, kept in the run folder."""

    name: Literal["tiny"] = "tiny"
    """the only network of this form"""
    feature_layers: FeatureLayers = (2,)
    """the blocks after which it is tapped, see `FeatureLayers`"""
    feature_join: FeatureJoin = "concatenate"
    """concatenate or mixture: how several layers are joined, see `FeatureJoin`"""
    feature_norm: FeatureNorm = "layer"
    """none, layer or modulated: how features are normalised, see `FeatureNorm`"""
    hidden: Width = 128
    """width of a token"""
    depth: Layers = 4
    """transformer blocks"""
    num_heads: CountingInt = 4
    """attention heads of a block; they share `hidden`"""
    latent_channels: Width = 64
    """channels of a latent"""
    patch_px: Pixels = 8
    """pixels a side that become one latent position"""
    frames_per_latent: CountingInt = 4
    """frames merged into one latent frame, after the first, which stands alone"""
    text_dim: TextWidth = 64
    """width of the instruction's tokens"""

    def _check(self) -> None:
        layer, depth = self.feature_layers[-1], self.depth
        check(layer <= depth, f"feature_layers must lie in 0..{depth} (the number of blocks), got {layer}")
        check(
            self.feature_norm != "modulated" or layer < depth,
            f"feature_norm='modulated' takes the norm of the block after block {layer}, which is the last; "
            "choose feature_norm='layer' or lower feature_layers",
        )
        _check_heads(self)

    @property
    def frames_per_feature(self) -> int:
        """Frames merged into one frame of features, after the first."""
        return self.frames_per_latent


@dataclass(frozen=True)
class ScratchConfig(CheckedConfig):
    """A video model of Wan's networks that `train-video --preset small` trains from nothing; the defaults make 67
    million parameters, 14 of them the VAE's."""

    hidden: Width = 512
    """width of a token"""
    depth: Layers = 12
    """transformer blocks"""
    num_heads: CountingInt = 8
    """attention heads of a block; they share `hidden`"""
    vae_width: Width = 32
    """channels of the VAE's first stage"""
    text_dim: Width = 256
    """width of the instruction's tokens"""
    vae_steps: TrainingSteps = 20000
    """training steps of the VAE, before those of the transformer"""
    vae_learning_rate: Positive = 2e-4
    """peak of the VAE's training"""
    vae: str = ""
    """a folder of such a model, whose VAE is taken instead of training one"""

    def _check(self) -> None:
        _check_heads(self)
        check(self.text_dim % 4 == 0, f"text_dim must be a multiple of 4, got {self.text_dim}")


@dataclass(frozen=True)
class Grid:
    """How a family of video models divides space and time."""

    latent_px: int
    """pixels a side of one latent position: what the video VAE merges"""
    patch: int
    """latents a side that become one token"""
    frames_per_latent: int
    """frames that the VAE merges into one latent frame, after the first"""
    latents_per_token: int = 1
    """latent frames that become one token"""


GRIDS: dict[str, Grid] = {
    "wan21": Grid(8, 2, 4),
    "wan22": Grid(16, 2, 4),
    "wan_small": Grid(8, 2, 4),
    "hunyuan": Grid(8, 2, 4),
    "cogvideox": Grid(8, 2, 4),
    "cogvideox15": Grid(8, 2, 4, latents_per_token=2),
    "ltx": Grid(32, 1, 8),
    "cosmos": Grid(8, 2, 4),
}
"""of every family of published models; loading compares it with the model's own config"""

WAN_TOKENS = 512
"""longest instruction of the Wan family, with an end mark"""


@dataclass(frozen=True)
class TuningConfig(CheckedConfig):
    """What of a video model is trained."""

    method: Literal["frozen", "lora", "full"] = "frozen"
    """lora: small matrices beside the frozen attention layers (arXiv 2106.09685); full: the whole transformer"""
    rank: Width = 16
    """lora: inner width of the small matrices"""
    alpha: Positive = 16.0
    """lora: their product counts alpha / rank times"""
    gradient_checkpointing: bool = False
    """what blocks computed is computed again when gradients need it: less memory, a third more time. Published models
    only"""


@dataclass(frozen=True)
class PretrainedBackboneConfig(CheckedConfig):
    """A published video diffusion model. Its weights stay where they are: a run folder only names them."""

    name: str
    """the family: wan21 is Wan 2.1 of 1.3 or 14 billion parameters, wan22 is Wan 2.2 TI2V-5B, wan_small one that
    `train-video` has trained from nothing, cosmos is Cosmos-Predict2; any name in `GRIDS`"""
    source: str
    """a folder (diffusers' layout, or Wan's original files) or a Hugging Face repo id"""
    feature_layers: FeatureLayers
    """the blocks after which it is tapped, see `FeatureLayers`"""
    feature_join: FeatureJoin = "concatenate"
    """concatenate or mixture: how several layers are joined, see `FeatureJoin`"""
    feature_norm: FeatureNorm = "layer"
    """none, layer or modulated: how features are normalised, see `FeatureNorm`"""
    noise_level: Fraction = 0.0
    """0: the model sees the latents as they are; above: `(1 - level) * latents + level * noise`, always the same
    noise"""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """of the transformer's weights and of the text encoder's; the VAE stays in float32"""
    text_cache: str | None = None
    """folder of text embeddings, all of one encoder; if null, one per family and encoder in the user's cache folder"""

    def _check(self) -> None:
        check(self.name in GRIDS, f"unknown video model {self.name!r}; choose from {', '.join(GRIDS)}")
        check(bool(self.source), f"the video model {self.name!r} needs a source: a folder or a Hugging Face repo id")

    @property
    def grid(self) -> Grid:
        return GRIDS[self.name]

    @property
    def patch_px(self) -> int:
        """Pixels a side that become one position of the features' grid."""
        return self.grid.latent_px * self.grid.patch

    @property
    def frames_per_latent(self) -> int:
        """Frames that become one latent frame, after the first."""
        return self.grid.frames_per_latent

    @property
    def frames_per_feature(self) -> int:
        """Frames merged into one frame of features, after the first."""
        return self.grid.frames_per_latent * self.grid.latents_per_token


def load_backbone(path: Path) -> BackboneConfig | PretrainedBackboneConfig:
    """As `load`, for a video model of either kind, told apart by its name."""
    return build(BackboneConfig | PretrainedBackboneConfig, read_plain(path), where=str(path))
