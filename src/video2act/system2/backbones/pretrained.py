"""What all published video models have in common behind `VideoBackbone`; each family adds what is its own.

Frames -> causal video VAE, normalised as the model's authors do -> latents -> the transformer's first blocks ->
features. The VAE runs in float32: it is small, and its rounding would be in every latent. A backbone is loaded cut
(without the blocks behind the last tap and the VAE's decoder), or `whole`, to be trained and to imagine.
"""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from video2act.config import PretrainedBackboneConfig, TuningConfig
from video2act.system2.backbones import adapter
from video2act.system2.backbones.checkpoint import check_checkpoint, fill
from video2act.system2.backbones.first_frame import use_flat_convolutions
from video2act.system2.backbones.kept_outputs import keep_outputs
from video2act.system2.backbones.sources import Component, check_alone, component
from video2act.system2.backbones.tap import Cut, Tap, described, empty, fold, load_transformer
from video2act.system2.backbones.text_encoders import diffusers_t5, text_width
from video2act.system2.imagination import seeded_noise
from video2act.text.cache import EmbeddingsOfAFamily, TextEmbeddings, TextEncoder, default_folder
from video2act.types import Video
from video2act.video_backbone import VideoBackbone

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
        whole: also load what only `velocity` and `decode` need: the blocks behind the last tap and the decoder.
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
    SEES_PADDING: ClassVar[bool] = False
    """the T5 of the model reads padding like words"""
    TEXT_DIM: ClassVar[str] = "text_embed_dim"
    """the field of the transformer's config with the width of a text token"""
    OF_THE_TEXT: ClassVar[tuple[str, ...]] = ()
    """patterns of modules that read the instruction and the noise level alone"""

    config: PretrainedBackboneConfig

    def __init__(self, config: PretrainedBackboneConfig, parts: Parts, *, whole: bool = False):
        super().__init__()
        self.config = config
        self.parts = parts
        self.root = parts.root
        self.is_whole = whole
        self.dtype = getattr(torch, config.dtype)
        self._check_family(parts)
        cut = self.cut(config)
        self.transformer: Any = load_transformer(
            self.TRANSFORMER, parts.transformer, cut=None if whole else cut, dtype=self.dtype
        )
        keep_outputs(self.transformer, self.OF_THE_TEXT)
        self.vae: Any = self._load_vae(parts.vae, whole)
        self.tap = Tap(self.transformer, cut, returns_pair=self.RETURNS_PAIR)
        self.text = self._text(parts)
        self.transformer.requires_grad_(whole)
        self.eval()

    @classmethod
    def find(cls, root: Path) -> Parts:
        """The files in a folder of diffusers' layout. Raises FileNotFoundError or ValueError: of no such model."""
        check_alone(root)
        names = {"transformer": cls.TRANSFORMER.__name__, "vae": cls.VAE.__name__}
        return Parts(root, **{part: component(root, part, expected_class=name) for part, name in names.items()})

    @classmethod
    def cut(cls, config: PretrainedBackboneConfig) -> Cut:
        """The blocks that features need."""
        return Cut(cls.BLOCKS, config.feature_layers, config.feature_norm == "modulated")

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

    def drop_rest(self) -> None:
        self.cut(self.config).apply(self.transformer)
        self.vae.decoder = self.vae.post_quant_conv = None
        self.is_whole = False

    def merge(self, folder: Path) -> None:
        """Add a LoRA to the weights.

        Raises:
            FileNotFoundError, ValueError: the folder is incomplete, or its adapter is of another model.
        """
        tensors, scale = adapter.read_adapter(folder)
        uncut = empty(self.TRANSFORMER, self.parts.transformer.config)
        adapter.merge(self.transformer, uncut, adapter=tensors, scale=scale, source=folder)

    def train(self, mode: bool = True) -> "PretrainedBackbone":
        """Only the transformer ever leaves evaluation mode."""
        super().train(mode)
        self.vae.eval()
        return self

    # what a family says

    @property
    def width(self) -> int:
        config = self.transformer.config
        return config.num_attention_heads * config.attention_head_dim

    @property
    def max_tokens(self) -> int:
        """Tokens of the longest instruction; shorter ones are padded to it."""
        return self.MAX_TOKENS

    @abstractmethod
    def compression(self, vae: dict[str, Any]) -> tuple[int, int]:
        """Pixels a side, and frames, that a VAE of this config merges."""

    def num_latents(self, transformer: dict[str, Any], vae: dict[str, Any]) -> tuple[int, int]:
        """Latent channels: those of the transformer's input, and the VAE's. More would be an image-to-video model."""
        return transformer["in_channels"], vae["latent_channels"]

    @abstractmethod
    def run(self, noisy: Video, noise_level: Float[Tensor, "b t"], *, text: Embedding) -> Float[Tensor, "b c t h w"]:
        """The transformer's whole forward pass at `noisy = (1 - level) * latents + level * noise`, to the flow."""

    def text_encoder(self) -> TextEncoder:
        """The encoder of the model's instructions; T5, where a family says nothing else."""
        return diffusers_t5(self.root, self.dtype, max_tokens=self.max_tokens, sees_padding=self.SEES_PADDING)

    def encoder_width(self) -> int | None:
        """Width of the text encoder that comes with the model; None if it comes without."""
        return text_width(self.root / "text_encoder")

    def text_folder(self) -> Path:
        """Where embeddings lie if the config does not say: in it, a folder for each encoder."""
        return default_folder(self.config.name)

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

    def normalise(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """What the VAE gives -> what the transformer was trained on."""
        mean, std, factor = self._statistics(latents)
        return (latents - mean) * factor / std

    def restore(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """The inverse of `normalise`."""
        mean, std, factor = self._statistics(latents)
        return latents * std / factor + mean

    def features(
        self, latents: Video, instruction: list[str], *, noise_level: Float[Tensor, "b t"] | None = None
    ) -> Video:
        """Clean frames at the config's noise level; with noise, always the same, so that features are a function of
        the video."""
        b, _, t, h, w = latents.grid.shape
        level = latents.grid.new_zeros(b, t) if noise_level is None else noise_level
        noisy, grid = latents, self.config.grid
        if self.config.noise_level:
            added = self.config.noise_level * (level == 0)
            noise, factor = seeded_noise(latents.grid, seed=0), added[:, None, :, None, None]
            noisy, level = Video((1 - factor) * latents.grid + factor * noise, latents.fps), level + added
        text = self._embed(instruction, latents.grid.device)
        with self._mixed_as_configured(latents.grid), self.tap() as recorders:
            self.run(noisy, level, text=text)
            layers = [recorder.take().float() for recorder in recorders]
        if self.config.feature_norm == "layer":
            layers = [nn.functional.layer_norm(tokens, (self.width,)) for tokens in layers]
        shape = {"h": h // grid.patch, "w": w // grid.patch}
        folded = [fold(tokens, -(-t // grid.latents_per_token), **shape) for tokens in layers]
        return Video(torch.cat(folded, dim=1), latents.fps / grid.latents_per_token)

    def velocity(self, noisy: Video, noise_level: Float[Tensor, "b t"], *, instruction: list[str]) -> Video:
        """Raises ValueError for a backbone that was cut, or for noise levels that the model does not know."""
        self._check_whole("velocity")
        return Video(self.run(noisy, noise_level, text=self._embed(instruction, noisy.grid.device)).float(), noisy.fps)

    def check_instruction(self, instruction: str) -> None:
        self.text(instruction)

    # loading

    def _load_vae(self, part: Component, whole: bool) -> nn.Module:
        vae: Any = described(self.VAE, part)
        check_checkpoint(vae, part.checkpoint)
        if not whole:
            vae.decoder = None
            vae.post_quant_conv = None
        fill(vae, part.checkpoint, dtype=torch.float32)
        use_flat_convolutions(vae.encoder)
        return vae

    def _text(self, parts: Parts) -> TextEmbeddings:
        named = Path(self.config.text_cache).expanduser() if self.config.text_cache else None
        width = parts.transformer.with_defaults(self.TRANSFORMER)[self.TEXT_DIM]
        found = self.encoder_width()
        if found is None:
            missing = f"{self.root} has none"
            if named:
                return TextEmbeddings(named, None, width=width, missing=missing)
            return EmbeddingsOfAFamily(self.text_folder(), self.config.dtype, width=width, missing=missing)
        if found != width:
            raise ValueError(
                f"the text encoder in {self.root} gives tokens of width {found}, but {parts.transformer.path} expects "
                f"{width}; they belong to different models"
            )
        encoder = self.text_encoder()
        return TextEmbeddings(named or self.text_folder() / str(encoder.fingerprint), encoder, width=width, missing="")

    def _check_family(self, parts: Parts) -> None:
        """Raises ValueError unless the model's own configs have the grid of the family."""
        transformer, vae = parts.transformer.with_defaults(self.TRANSFORMER), parts.vae.with_defaults(self.VAE)
        grid = self.config.grid
        try:
            (side, frames), patch = self.compression(vae), transformer["patch_size"]
            # one number for height and width, or one for each axis
            per_token = transformer.get("patch_size_t") if isinstance(patch, int) else patch[0]
            patch = patch if isinstance(patch, int) else patch[1]
            found = {
                "the VAE merges pixels a side:": (side, grid.latent_px),
                "the VAE merges frames:": (frames, grid.frames_per_latent),
                "the transformer's patch is": (patch, grid.patch),
                "the transformer's patch in time is": (per_token or 1, grid.latents_per_token),
                "the transformer's in_channels is": self.num_latents(transformer, vae),
            }
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"{parts.transformer.path} and {parts.vae.path} do not tell how large the model's patches are "
                f"({type(error).__name__}: {error}); download them again"
            ) from error
        for what, (value, expected) in found.items():
            if value != expected:
                raise ValueError(
                    f"{self.root} is not of the family {self.config.name!r}: {what} {value}, expected {expected} "
                    f"({parts.transformer.path}, {parts.vae.path}); choose the family that fits"
                )

    # running

    def _statistics(self, like: Tensor) -> tuple[Any, Any, float]:
        """Mean and deviation `[c 1 1 1]` of the VAE's latents, and a factor; 0, 1 and 1 where it names none."""
        named = dict(self.vae.config) | dict(self.vae.named_buffers(recurse=False))
        each = ((named.get("latents_mean"), 0.0), (named.get("latents_std"), 1.0))
        mean, std = (
            usual if values is None else torch.as_tensor(values).to(like)[:, None, None, None] for values, usual in each
        )
        return mean, std, named.get("scaling_factor", 1.0)

    def _decode(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 frames height width"]:
        return self.vae.decode(latents).sample

    def _embed(self, instruction: list[str], device: torch.device) -> Embedding:
        """Embeddings of a batch, padded with zeros to `max_tokens`: what these models show their transformers."""
        each = [dict(self.text(sentence)) for sentence in instruction]
        for one in each:
            one.setdefault("mask", torch.ones(len(one["tokens"]), dtype=torch.bool))
            for name in ("tokens", "mask"):
                padded = one[name].new_zeros(self.max_tokens, *one[name].shape[1:])
                padded[: len(one[name])] = one[name]
                one[name] = padded
        stacked = {name: torch.stack([one[name] for one in each]).to(device) for name in each[0]}
        return {name: part.to(self.dtype) if part.is_floating_point() else part for name, part in stacked.items()}

    def _mixed_as_configured(self, grid: Tensor) -> torch.autocast:
        """As configured also where weights that learn are float32: then operations run in the config's dtype."""
        configured = getattr(torch, self.config.dtype)
        return torch.autocast(grid.device.type, configured, enabled=self.dtype != configured)

    def _check_whole(self, what: str) -> None:
        if not self.is_whole:
            raise ValueError(
                f"{what} needs the whole model, but this one was cut after block {self.config.feature_layers[-1]}, "
                "to look only; load it with whole=True"
            )


def as_configured(grid: Tensor) -> torch.autocast:
    """No mixed precision: the config says in which precision a published model looks. Training (`velocity`) may mix."""
    return torch.autocast(grid.device.type, enabled=False)
