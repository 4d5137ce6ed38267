"""What all published video models have in common behind `VideoBackbone`; each family adds what is its own.

Frames -> causal video VAE, normalised as the model's authors do -> latents -> the transformer's first blocks ->
features. The VAE runs in float32: it is small, and its rounding would be in every latent. A backbone is made for
looking (blocks behind `feature_layer` and the VAE's decoder are not loaded) or `whole`, to be trained and to imagine.
"""

import inspect
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from video2act.config import PretrainedBackboneConfig, TuningConfig
from video2act.interfaces import VideoBackbone
from video2act.system2.backbones import adapter
from video2act.system2.backbones.checkpoint import check_checkpoint, fill
from video2act.system2.backbones.sources import Component, component
from video2act.system2.backbones.tap import Tap, described, empty, fold, load_transformer
from video2act.system2.backbones.text_encoders import text_width
from video2act.text.cache import EmbeddingsOfAFamily, TextEmbeddings, TextEncoder, default_folder
from video2act.types import Video

Embedding = dict[str, Tensor]
"""of a batch of instructions: `tokens` [b n d], and what else the family's encoder gives"""


@dataclass(frozen=True)
class Parts:
    """Where the networks of a model come from."""

    root: Path
    transformer: Component
    vae: Component


class PretrainedBackbone(VideoBackbone):
    """A `VideoBackbone` with published weights.

    Args:
        config: which model, where it is, where it is tapped.
        parts: its files; found by `find`.
        whole: also load what only `velocity` and `decode` need: the blocks behind `feature_layer` and the decoder.
            Then the transformer's weights can be trained.
    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or does not fit its config or the family.
    """

    TRANSFORMER: ClassVar[Any]
    """diffusers' class"""
    VAE: ClassVar[Any]
    BLOCKS: ClassVar[tuple[str, ...]] = ("transformer_blocks",)
    """attributes with the transformer's blocks, in the order in which they run"""
    RETURNS_PAIR: ClassVar[bool] = False
    """blocks return video and text"""
    MAX_TOKENS: ClassVar[int]
    """longest instruction, of models whose config does not say"""

    config: PretrainedBackboneConfig

    def __init__(self, config: PretrainedBackboneConfig, parts: Parts, *, whole: bool = False):
        super().__init__()
        self.config = config
        self.parts = parts
        self.root = parts.root
        self.is_whole = whole
        self.dtype = getattr(torch, config.dtype)
        self._check_family(parts)
        is_modulated = config.feature_norm == "modulated"
        self.transformer: Any = load_transformer(
            self.TRANSFORMER,
            parts.transformer,
            lists=self.BLOCKS,
            layer=None if whole else config.feature_layer,
            is_modulated=is_modulated,
            dtype=self.dtype,
        )
        self.vae: Any = self._load_vae(parts.vae, whole)
        self.tap = Tap(
            self.transformer,
            self.BLOCKS,
            returns_pair=self.RETURNS_PAIR,
            layer=config.feature_layer,
            is_modulated=is_modulated,
        )
        self.text = self._text(parts)
        self.transformer.requires_grad_(whole)
        self.eval()

    @classmethod
    def find(cls, root: Path) -> Parts:
        """The files in a folder of diffusers' layout."""
        return Parts(
            root,
            component(root, "transformer", expected_class=cls.TRANSFORMER.__name__),
            component(root, "vae", expected_class=cls.VAE.__name__),
        )

    def learn(self, tuning: TuningConfig) -> None:
        """Choose which of the transformer's weights are trained; the VAE and the text encoder never are.

        What is trained is in float32, whatever the config's dtype: in bfloat16 small steps are lost.
        """
        if tuning.method == "lora":
            adapter.inject(self.transformer, tuning)
        elif tuning.method == "full":
            self.transformer.float().requires_grad_(True)
            self.dtype = torch.float32
        if tuning.gradient_checkpointing:
            self.transformer.enable_gradient_checkpointing()

    def merge(self, folder: Path) -> None:
        """Add a LoRA to the weights.

        Raises:
            FileNotFoundError, ValueError: the folder is incomplete, or its adapter is of another model.
        """
        tensors, scale = adapter.read_adapter(folder)
        adapter.merge(
            self.transformer,
            empty(self.TRANSFORMER, self.parts.transformer.config),
            adapter=tensors,
            scale=scale,
            source=folder,
        )

    def train(self, mode: bool = True) -> "PretrainedBackbone":
        """Only the transformer ever leaves evaluation mode."""
        super().train(mode)
        self.vae.eval()
        return self

    # what a family tells

    @property
    def feature_dim(self) -> int:
        """Channels of the features."""
        config = self.transformer.config
        return config.num_attention_heads * config.attention_head_dim

    @property
    def max_tokens(self) -> int:
        """Tokens of the longest instruction; shorter ones are padded to it."""
        return self.MAX_TOKENS

    def text_dim(self, transformer: dict[str, Any]) -> int:
        """Width of the text tokens that a transformer of this config reads."""
        return transformer["text_embed_dim"]

    @abstractmethod
    def text_encoder(self) -> TextEncoder:
        """The encoder of the model's instructions."""

    @abstractmethod
    def normalise(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """What the VAE gives -> what the transformer was trained on."""

    @abstractmethod
    def restore(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """The inverse of `normalise`."""

    @abstractmethod
    def run(self, noisy: Video, noise_level: Float[Tensor, "b t"], *, text: Embedding) -> Float[Tensor, "b c t h w"]:
        """The transformer's whole forward pass at `noisy = (1 - level) * latents + level * noise`, to the flow."""

    @abstractmethod
    def geometry(self, transformer: dict[str, Any], vae: dict[str, Any]) -> dict[str, tuple[int, int]]:
        """What the model's own configs say -> (found, what the family has)."""

    # VideoBackbone

    def encode(self, pixels: Video) -> Video:
        """Raises ValueError for a frame count or size that the model does not take."""
        _, _, t, h, w = pixels.grid.shape
        group, patch = self.config.frames_per_feature, self.config.patch_px
        if (t - 1) % group or h % patch or w % patch:
            raise ValueError(
                f"{self.config.name} takes 1 + a multiple of {group} frames of a multiple of {patch} px, "
                f"got {t} frames of {h} x {w} px"
            )
        with as_configured(pixels.grid):
            moments = self.vae.encode(pixels.grid.float()).latent_dist
            return Video(self.normalise(moments.mode().float()), pixels.fps / self.config.frames_per_latent)

    def decode(self, latents: Video) -> Video:
        """Raises ValueError for a backbone that was loaded without its decoder."""
        self._check_whole("decode")
        with as_configured(latents.grid):
            pixels = self._decode(self.restore(latents.grid.float()))
        return Video(pixels.float(), latents.fps * self.config.frames_per_latent)

    def features(self, latents: Video, instruction: list[str]) -> Video:
        """At the config's noise level; with noise, always the same, so that features are a function of the video."""
        level = self.config.noise_level
        noisy = latents
        if level:
            generator = torch.Generator().manual_seed(0)
            noise = torch.randn(latents.grid.shape[1:], generator=generator).to(latents.grid)
            noisy = Video((1 - level) * latents.grid + level * noise, latents.fps)
        b, _, t, h, w = noisy.grid.shape
        text = self._embed(instruction, latents.grid.device)
        with self._mixed_as_configured(latents.grid), self.tap() as recorder:
            self.run(noisy, noisy.grid.new_full((b, t), level), text=text)
            tokens = recorder.take().float()
        if self.config.feature_norm == "layer":
            tokens = nn.functional.layer_norm(tokens, tokens.shape[-1:])
        grid = self.config.grid
        return Video(
            fold(tokens, -(-t // grid.latents_per_token), h=h // grid.patch, w=w // grid.patch),
            latents.fps / grid.latents_per_token,
        )

    def velocity(self, noisy: Video, noise_level: Float[Tensor, "b t"], *, instruction: list[str]) -> Video:
        """Raises ValueError for a backbone that was cut, or for noise levels that the model does not know."""
        self._check_whole("velocity")
        return Video(self.run(noisy, noise_level, text=self._embed(instruction, noisy.grid.device)).float(), noisy.fps)

    # loading

    def _load_vae(self, part: Component, whole: bool) -> nn.Module:
        vae: Any = described(self.VAE, part)
        check_checkpoint(vae, part.checkpoint)
        if not whole:
            vae.decoder = None
            vae.post_quant_conv = None
        fill(vae, part.checkpoint, dtype=torch.float32)
        return vae

    def _text(self, parts: Parts) -> TextEmbeddings:
        named = Path(self.config.text_cache).expanduser() if self.config.text_cache else None
        width = self.text_dim(with_defaults(self.TRANSFORMER, parts.transformer))
        found = self.encoder_width()
        if found is None:
            missing = f"{self.root} has none"
            if named:
                return TextEmbeddings(named, None, width=width, missing=missing)
            return EmbeddingsOfAFamily(self.text_folder(), self.config.dtype, width=width, missing=missing)
        if found != width:
            raise ValueError(
                f"the text encoder in {self.root} gives tokens of width {found}, but "
                f"{parts.transformer.path} expects {width}; "
                f"they belong to different models"
            )
        encoder = self.text_encoder()
        return TextEmbeddings(named or self.text_folder() / str(encoder.fingerprint), encoder, width=width, missing="")

    def text_folder(self) -> Path:
        """Where embeddings lie if the config does not say: in it, a folder for each encoder."""
        return default_folder(self.config.name)

    def encoder_width(self) -> int | None:
        """Width of the text encoder that comes with the model; None if it comes without."""
        return text_width(self.root / "text_encoder")

    def _check_family(self, parts: Parts) -> None:
        transformer, vae = with_defaults(self.TRANSFORMER, parts.transformer), with_defaults(self.VAE, parts.vae)
        try:
            geometry = self.geometry(transformer, vae)
        except (ArithmeticError, LookupError, TypeError) as error:
            raise ValueError(
                f"{parts.transformer.path} and {parts.vae.path} do not tell how large the model's patches are "
                f"({type(error).__name__}: {error}); download them again"
            ) from error
        for what, (found, expected) in geometry.items():
            if found != expected:
                raise ValueError(
                    f"{self.root} is not of the family {self.config.name!r}: {what} {found}, expected {expected} "
                    f"({parts.transformer.path}, {parts.vae.path}); choose the family that fits"
                )

    # running

    def _decode(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 frames height width"]:
        return self.vae.decode(latents).sample

    def check_instruction(self, instruction: str) -> None:
        self.text(instruction)

    def _embed(self, instruction: list[str], device: torch.device) -> Embedding:
        each = [self.text(sentence) for sentence in instruction]
        stacked = {name: torch.stack([self.pad(name, one[name]) for one in each]).to(device) for name in each[0]}
        stacked["mask"] = torch.stack([_mask(one, self.max_tokens) for one in each]).to(device)
        return {
            name: tensor.to(self.dtype) if tensor.is_floating_point() else tensor for name, tensor in stacked.items()
        }

    def pad(self, name: str, tensor: Tensor) -> Tensor:
        """Tokens of one sentence -> `max_tokens`, with zeros behind: what these models show their transformers."""
        if name not in ("tokens", "mask"):
            return tensor
        padded = tensor.new_zeros(self.max_tokens, *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        return padded

    def _mixed_as_configured(self, grid: Tensor) -> torch.autocast:
        """As configured also where weights that learn are float32: then operations run in the config's dtype."""
        configured = getattr(torch, self.config.dtype)
        return torch.autocast(grid.device.type, configured, enabled=self.dtype != configured)

    def _check_whole(self, what: str) -> None:
        if not self.is_whole:
            raise ValueError(
                f"{what} needs the whole model, but this one was cut after block "
                f"{self.config.feature_layer}, to look only; "
                f"load it with whole=True"
            )


def _mask(one: Embedding, length: int) -> Tensor:
    return one["mask"] if "mask" in one else torch.arange(length) < len(one["tokens"])


def as_configured(grid: Tensor) -> torch.autocast:
    """No mixed precision: the config says in which precision a published model looks. Training (`velocity`) may mix."""
    return torch.autocast(grid.device.type, enabled=False)


def is_one_level(noise_level: Float[Tensor, "b t"]) -> bool:
    """Whether all frames of each clip have one noise level."""
    return bool((noise_level == noise_level[:, :1]).all())


def one_level(noise_level: Float[Tensor, "b t"], model: str) -> Float[Tensor, "b"]:
    """The level of each clip, for a model that knows no other.

    Raises:
        ValueError: frames of a clip differ: the model cannot be trained to continue a clean past.
    """
    if not is_one_level(noise_level):
        low, high = float(noise_level.min()), float(noise_level.max())
        raise ValueError(
            f"{model} knows one noise level per clip, got levels from {low:.1f} to {high:.1f} within one; it "
            f"can be trained on "
            f"whole noisy clips, not to continue a clean past: for that choose wan22, ltx or cosmos"
        )
    return noise_level[:, 0]


def with_defaults(network: Any, part: Component) -> dict[str, Any]:
    """A network's config, with the defaults of its class where the file is silent.

    Raises:
        ValueError: a count is not a positive whole number.
    """
    parameters = inspect.signature(network.__init__).parameters.values()
    for parameter in parameters:
        value = part.config.get(parameter.name, 1)
        # an axis may be absent, and then is None; diffusers gives most of its counts a default
        is_count = parameter.annotation in (int, "int") and type(parameter.default) is int and parameter.default > 0
        if is_count and (type(value) is not int or value < 1):
            raise ValueError(
                f"{part.path} says {parameter.name}={value!r}, expected a whole number above 0, as "
                f"{parameter.default} is; "
                f"download it again"
            )
    defaults = {
        parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty
    }
    return defaults | part.config
