"""Which video diffusion model System 2 looks through, and where it is tapped."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from video2act.config.files import check, load_one_of


@dataclass(frozen=True)
class BackboneConfig:
    """The CPU-sized video model, and where it is tapped. Trained by `train-video`, kept in the run folder."""

    name: Literal["tiny"] = "tiny"
    feature_layer: int = 2
    """number of transformer blocks that run; features are what leaves the last of them, or, for 0, what enters the first"""
    hidden: int = 128
    depth: int = 4
    num_heads: int = 4
    latent_channels: int = 64
    patch_px: int = 8
    """pixels a side that become one latent position"""
    frames_per_latent: int = 4
    """frames merged into one latent frame, after the first, which stands alone"""
    text_dim: int = 64

    def __post_init__(self) -> None:
        choices = get_args(get_type_hints(BackboneConfig)["name"])
        check(self.name in choices, f"unknown backbone {self.name!r}; choose from {', '.join(choices)}")
        for name in ("hidden", "depth", "num_heads", "latent_channels", "patch_px", "frames_per_latent", "text_dim"):
            check(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")
        check(
            0 <= self.feature_layer <= self.depth,
            f"feature_layer must lie in 0..{self.depth} (the number of blocks), got {self.feature_layer}",
        )
        check(self.hidden % self.num_heads == 0, f"hidden={self.hidden} is not divisible by num_heads={self.num_heads}")

    @property
    def frames_per_feature(self) -> int:
        """Frames merged into one frame of features, after the first."""
        return self.frames_per_latent


@dataclass(frozen=True)
class ScratchConfig:
    """A video model of Wan's networks that `train-video --preset small` trains from nothing; the defaults make 65 million
    parameters."""

    hidden: int = 512
    depth: int = 12
    num_heads: int = 8
    vae_width: int = 32
    """channels of the VAE's first stage"""
    text_dim: int = 256
    vae_steps: int = 20000
    """training steps of the VAE, before those of the transformer"""
    vae_learning_rate: float = 2e-4
    vae: str = ""
    """a folder of such a model, whose VAE is taken instead of training one"""

    def __post_init__(self) -> None:
        for name in ("hidden", "depth", "num_heads", "vae_width", "text_dim"):
            check(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")
        check(self.hidden % self.num_heads == 0, f"hidden={self.hidden} is not divisible by num_heads={self.num_heads}")
        check(
            self.hidden // self.num_heads % 2 == 0,
            f"a head of {self.hidden // self.num_heads} is not even; positions need it",
        )
        check(self.text_dim % 4 == 0, f"text_dim must be a multiple of 4, got {self.text_dim}")
        check(self.vae_steps >= 0, f"vae_steps must not be negative, got {self.vae_steps}")
        check(self.vae_learning_rate > 0, f"vae_learning_rate must be positive, got {self.vae_learning_rate}")


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


@dataclass(frozen=True)
class TuningConfig:
    """What of a video model is trained."""

    method: Literal["frozen", "lora", "full"] = "frozen"
    """lora: small matrices beside the frozen attention layers (arXiv 2106.09685); full: the whole transformer"""
    rank: int = 16
    """lora: inner width of the small matrices"""
    alpha: float = 16.0
    """lora: their product counts alpha / rank times"""
    gradient_checkpointing: bool = False
    """what blocks computed is computed again when gradients need it: less memory, a third more time. Published models only"""

    def __post_init__(self) -> None:
        check(self.method in ("frozen", "lora", "full"), f"method must be frozen, lora or full, got {self.method!r}")
        check(self.rank >= 1, f"rank must be at least 1, got {self.rank}")
        check(self.alpha > 0, f"alpha must be positive, got {self.alpha}")


@dataclass(frozen=True)
class PretrainedBackboneConfig:
    """A published video diffusion model. Its weights stay where they are: a run folder only names them."""

    name: str
    """the family: wan21 is Wan 2.1 of 1.3 or 14 billion parameters, wan22 is Wan 2.2 TI2V-5B, wan_small one that `train-video`
    has trained from nothing, cosmos is Cosmos-Predict2; any name in `GRIDS`"""
    source: str
    """a folder (diffusers' layout, or Wan's original files) or a Hugging Face repo id"""
    feature_layer: int
    """number of transformer blocks that are loaded and run; features leave the last of them, or, for 0, enter the first"""
    noise_level: float = 0.0
    """0: the model sees the latents as they are; above: `(1 - level) * latents + level * noise`, always the same noise"""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """of the transformer's weights and of the text encoder's; the VAE stays in float32"""
    text_cache: str | None = None
    """folder of text embeddings, all of one encoder; if null, one per family and encoder in the user's cache folder"""

    def __post_init__(self) -> None:
        check(self.name in GRIDS, f"unknown video model {self.name!r}; choose from {', '.join(GRIDS)}")
        check(bool(self.source), f"the video model {self.name!r} needs a source: a folder or a Hugging Face repo id")
        check(self.feature_layer >= 0, f"feature_layer must not be negative, got {self.feature_layer}")
        check(0 <= self.noise_level < 1, f"noise_level must lie in [0, 1), got {self.noise_level}")
        check(self.dtype in ("bfloat16", "float32"), f"dtype must be bfloat16 or float32, got {self.dtype!r}")

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


@dataclass(frozen=True)
class System2Options:
    """How a preset's published video model is looked through. For presets over published models and `small`; what is None is as
    the preset says."""

    feature_layer: int | None = None
    """number of transformer blocks that are loaded and run"""
    noise_level: float | None = None
    """0: the model sees the latents as they are; up to, not including, 1: mixed with noise, always the same"""
    text_cache: str | None = None
    """folder of text embeddings, all of one encoder; if None, one per family and encoder in the user's cache folder"""

    def applied(self, backbone: Any) -> Any:
        """The config of a video model with what is chosen here; `backbone` is None where there is none.

        Raises:
            ValueError: something is chosen, and the model is not a published one.
        """
        chosen = {name: value for name, value in vars(self).items() if value is not None}
        if not chosen or isinstance(backbone, PretrainedBackboneConfig):
            return replace(backbone, **chosen) if chosen else backbone
        kinds = {BackboneConfig: "the tiny video model", ScratchConfig: "a video model from nothing"}
        kind = kinds.get(type(backbone), "no video model")
        said = ", ".join(f"system2.{name.replace('_', '-')}={value}" for name, value in chosen.items())
        raise ValueError(
            f"this preset is over {kind}, and {said} is for published ones; leave it out, or choose another preset"
        )


def load_backbone(path: Path) -> BackboneConfig | PretrainedBackboneConfig:
    """As `load`, for a video model of either kind, told apart by its name."""
    return load_one_of(path, BackboneConfig, PretrainedBackboneConfig)
