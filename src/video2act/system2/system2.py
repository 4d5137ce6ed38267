"""The slow system: clips -> tokens.

Per stream, in the paper's order: encode -> transformer blocks -> filter -> former; then the streams' tokens are
joined. `filter_on` puts the filter before or behind the blocks.

The path is split where gradients start. `see` is the frozen video model and the filters; its result can be cached.
`compress` is trained. `perceive` is both. With a video model that is tuned too (`learn`), gradients start at its
latents, and nothing can be cached.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from video2act.config import BackboneConfig, StreamConfig, System2Config
from video2act.files.fingerprint import rounded_fingerprint
from video2act.files.run_folder import ADAPTER, WEIGHTS_FILE, load_config
from video2act.files.weights import check_file, load_weights, read_shapes
from video2act.precision import Device, fast_precision, find_device
from video2act.system2.backbones import make_backbone, make_published
from video2act.system2.backbones.adapter import Adapter, is_adapter, read_adapter, save_adapter, taken_out
from video2act.system2.filters import make_filter
from video2act.system2.former import LayerMixture, make_former
from video2act.system2.imagination import features_of, foreseen
from video2act.system2.latents import show
from video2act.system2.reference import GreyReference
from video2act.system2.streaming import LatentStream, newest_latents
from video2act.types import EpisodeFrames, Stage, Tokens, Video, concatenate
from video2act.video_backbone import VideoBackbone


class System2(nn.Module):
    """Streams through one frozen backbone.

    Args:
        token_dim: width of the tokens, which is that of System 1.
    """

    def __init__(self, config: System2Config, backbone: VideoBackbone, *, token_dim: int):
        super().__init__()
        self.config = config
        self.backbone = backbone.requires_grad_(False).eval()
        self.is_learning = False
        self.adapter: Adapter = {}
        """the LoRA that was merged into the video model, kept to be saved again"""
        self.filters = {stream.name: make_filter(stream.filter) for stream in config.streams}
        self.reference = GreyReference(backbone)
        num_layers = len(config.backbone.feature_layers)
        is_mixed = config.backbone.feature_join == "mixture" and num_layers > 1
        names = [stream.name for stream in config.streams]
        self.mixtures = nn.ModuleDict({name: LayerMixture(num_layers) for name in names} if is_mixed else {})
        read_dim = backbone.width if is_mixed else backbone.feature_dim
        self.formers = nn.ModuleDict(
            {stream.name: make_former(stream.former, read_dim, token_dim=token_dim) for stream in config.streams}
        )
        # which stream a token comes from
        self.stream_embedding = nn.Parameter(0.02 * torch.randn(len(config.streams), token_dim))

    def train(self, mode: bool = True) -> "System2":
        """The backbone stays as it is: frozen, in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def learn(self) -> None:
        """Train the video model too, as `tuning` in the config says.

        Raises:
            ImportError: peft is needed.
            ValueError: a LoRA was loaded: a second one would be saved in its place.
        """
        if self.adapter:
            raise ValueError(
                "this policy's video model holds a LoRA that was trained before; it cannot be trained further, because "
                "only a new one would be saved. Train a new policy from the video model itself"
            )
        self.is_learning = self.config.tuning.method != "frozen"
        if self.is_learning:
            self.backbone.learn(self.config.tuning)

    def see(self, clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
        """Stream -> filtered features: boundaries and motion. Deterministic; no gradient unless the video model learns.

        Raises:
            ValueError: a stream of the config has no clip, or one of another shape.
        """
        return self.see_on("pixels", clips, instruction=instruction)

    @torch.no_grad()
    def encode(self, clips: dict[str, Video], streams: tuple[StreamConfig, ...] | None = None) -> dict[str, Video]:
        """The first part of `see`: stream -> latents, of all streams or of some."""
        latents = {}
        for stream in self.config.streams if streams is None else streams:
            pixels = self._clip(clips, stream)
            if stream.channel_order == "bgr":
                pixels = replace(pixels, grid=pixels.grid.flip(1))
            with fast_precision(pixels.grid.device):
                if stream.encoding == "stream":
                    num_latents = 1 + (stream.num_frames - 1) // self.config.backbone.frames_per_latent
                    latents[stream.name] = newest_latents(self.backbone, pixels, num_latents=num_latents)
                else:
                    latents[stream.name] = self.backbone.encode(pixels)
        return latents

    @torch.no_grad()
    def continue_stream(self, stream: LatentStream, pixels: Video) -> Video:
        """The next frames of an episode -> their latents."""
        with fast_precision(pixels.grid.device):
            return stream.push(pixels)

    def see_on(
        self, stage: Stage, videos: dict[str, Video], *, instruction: list[str], until: Stage = "seen"
    ) -> dict[str, Video]:
        """The rest of `see`: videos at `stage` -> videos at the later stage `until`."""
        if stage == "pixels" and until != "pixels":
            stage, videos = "latents", self.encode(videos)
        if stage == until:
            return videos
        videos = self._look(videos, instruction) if stage == "latents" else videos
        seen = {}
        for stream in self.config.streams:
            keep, grid = self.filters[stream.name], videos[stream.name]
            if self.config.filter_on == "features" and until == "seen":
                with self._recording(grid):
                    if self.config.reference == "grey" and stream.filter.name != "none":
                        grey = self.reference.features(stream, instruction, fps=grid.fps, keep=not self.is_learning)
                        grid = replace(grid, grid=grid.grid - grey)
                    grid = keep(grid)
            seen[stream.name] = replace(grid, grid=grid.grid.float())
        return seen

    def _look(self, latents: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
        """Stream -> features of its latents. Streams whose latents are alike in size and rate share a pass."""
        alike: dict[Any, dict[str, Video]] = {}
        for stream in self.config.streams:
            with self._recording(latents[stream.name]):
                grid = show(latents[stream.name], stream.latent_frames, size=stream.latent_size)
                grid = self.filters[stream.name](grid) if self.config.filter_on == "latents" else grid
            alike.setdefault((grid.grid.shape, grid.fps, stream.imagine), {})[stream.name] = grid
        features = {}
        for (_, fps, imagine), grids in alike.items():
            joined = Video(torch.cat([grid.grid for grid in grids.values()]), fps)
            with self._recording(joined):
                texts = instruction * len(grids)
                found = features_of(imagine, joined, instruction=texts, backbone=self.backbone)
            parts = found.grid.chunk(len(grids))
            features |= {name: replace(found, grid=part) for name, part in zip(grids, parts, strict=True)}
        return features

    @contextmanager
    def _recording(self, video: Video) -> Iterator[None]:
        """Gradients only where the video model learns; bfloat16 where the device multiplies it natively."""
        with fast_precision(video.grid.device), torch.set_grad_enabled(self.is_learning and torch.is_grad_enabled()):
            yield

    def compress(self, seen: dict[str, Video]) -> Tokens:
        """Trained: filtered features -> tokens, the streams one after another."""
        joined = []
        for number, stream in enumerate(self.config.streams):
            video = seen[stream.name]
            if stream.name in self.mixtures:
                video = self.mixtures[stream.name](video)
            tokens = self.formers[stream.name](video)
            joined.append(Tokens(tokens.data + self.stream_embedding[number], tokens.mask))
        return concatenate(*joined)

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        """Slow: clips, on any device -> tokens `[b n token_dim]` on its own."""
        device = self.stream_embedding.device
        return self.compress(self.see({name: clip.to(device) for name, clip in clips.items()}, instruction))

    @torch.no_grad()
    def foresee(self, clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
        """Stream -> the frames that it imagines, as pixels; empty where none looks ahead, or the video model was loaded
        without its decoder."""
        streams = [stream for stream in self.config.streams if stream.imagine.num_frames]
        if not getattr(self.backbone, "is_whole", True):
            return {}
        latents = self.encode(clips, tuple(streams))
        given = {"instruction": instruction, "backbone": self.backbone}
        return {stream.name: foreseen(stream, latents[stream.name], **given) for stream in streams}

    def check_instruction(self, instruction: str) -> None:
        """Raises as `VideoBackbone.check_instruction`."""
        self.backbone.check_instruction(instruction)

    # files

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """Prefixes of the names of weights that stay at the video model's source, not in a run folder."""
        if isinstance(self.config.backbone, BackboneConfig):
            return ()
        return ("backbone.vae.",) if self.config.tuning.method == "full" else ("backbone.",)

    def fingerprint(self) -> str:
        """A short name for the weights that a run folder keeps: the same on every device, and with coarser formers. Two
        trainings have two, also on one published video model."""
        weights = self.state_dict()
        own = {name: tensor for name, tensor in weights.items() if not name.startswith(self.elsewhere)}
        return rounded_fingerprint(own | self._adapter_in(weights))

    def save_adapter(self, folder: Path, weights: dict[str, Tensor]) -> None:
        """Write the LoRA of the video model, if it has one.

        Args:
            folder: the run folder.
            weights: System 2's, under its names.
        """
        if self.config.tuning.method == "lora":
            save_adapter(folder / ADAPTER, self._adapter_in(weights), tuning=self.config.tuning)

    def _adapter_in(self, weights: dict[str, Tensor]) -> Adapter:
        """The LoRA of the video model, beside its weights or merged."""
        transformer = "backbone.transformer."
        own = {name.removeprefix(transformer): tensor for name, tensor in weights.items() if is_adapter(name)}
        return taken_out(own) or self.adapter

    def merge_adapter(self, folder: Path) -> None:
        """The inverse of `save_adapter`. Raises FileNotFoundError or ValueError: it is missing, or does not fit."""
        if self.config.tuning.method == "lora":
            self.backbone.merge(folder / ADAPTER)
            self.adapter = read_adapter(folder / ADAPTER)[0]

    def _clip(self, clips: dict[str, Video], stream: StreamConfig) -> Video:
        name = stream.name
        if name not in clips:
            raise ValueError(f"stream {name!r} has no clip; got {', '.join(clips) or 'none'}")
        shape = tuple(clips[name].grid.shape[1:])
        num_frames = stream.num_frames
        if stream.encoding == "stream":  # any number that fills latents, counted from the start of the episode
            clip = clips[name]
            first = clip.first if isinstance(clip, EpisodeFrames) else 0
            num_frames = shape[1] - (first + shape[1] - 1) % self.config.backbone.frames_per_latent
        expected = (3, num_frames, *stream.frame_px)
        if shape != expected:
            raise ValueError(
                f"stream {name!r} takes clips of [channels, frames, height, width] = {list(expected)}, got "
                f"{list(shape)}"
            )
        return clips[name]


def load_system2(path: Path | str, device: Device = "cpu") -> System2:
    """System 2 of a run folder without System 1, for another process or machine. A `Perceiver`.

    Raises:
        FileNotFoundError, ValueError: as `Video2Act.load`; or the policy has no System 2.
    """
    path, device = Path(path), find_device(device)
    policy = load_config(path)
    config = policy.system2
    if config is None:
        raise ValueError("this policy has no System 2, so there is nothing to run apart from System 1")
    read_shapes(path / WEIGHTS_FILE)  # report a missing file before reading a video model of gigabytes
    backbone = make_published(config, path)

    def make() -> System2:
        return System2(config, backbone or make_backbone(config.backbone), token_dim=policy.system1.hidden)

    check_file(make, path / WEIGHTS_FILE, part="system2.")
    system2 = make()
    load_weights(system2, path / WEIGHTS_FILE, elsewhere=system2.elsewhere, part="system2.")
    system2.merge_adapter(path)
    return system2.to(device).eval().requires_grad_(False)
