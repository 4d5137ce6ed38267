"""The parts of a policy that become graphs, as modules with arrays in and arrays out.

They call the policy's own code. What a tracer cannot follow is replaced beforehand, in a copy: texts that are strings,
the kept features of grey clips, and a Fourier transform, which is a matrix where the clip's length is fixed.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.t5.modeling_t5 import T5Attention

from video2act.config import FilterConfig, StreamConfig
from video2act.layers import KeyValue, RmsNorm
from video2act.policy import Video2Act
from video2act.system1 import System1, Visibility
from video2act.system1.action_dit import ProjectedConditions
from video2act.system1.denoising import Denoising
from video2act.system2 import System2
from video2act.system2.backbones.pretrained import PretrainedBackbone
from video2act.system2.backbones.tiny import TinyBackbone
from video2act.system2.filters import make_filter, num_kept
from video2act.text.encoder import ByteTextEncoder
from video2act.text.instruction import MAX_BYTES
from video2act.types import Conditions, Tokens, Video


def exportable_copy(policy: Video2Act) -> Video2Act:
    """The same policy in float32 on the CPU, with modules that engines run fast."""
    policy = copy.deepcopy(policy).float().cpu().eval().requires_grad_(False)
    for parent in list(policy.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, RmsNorm) and child.form == "rms":
                setattr(parent, name, MeanSquareNorm(child.weight, 1e-6))
            elif isinstance(child, nn.RMSNorm):
                setattr(parent, name, MeanSquareNorm(child.weight, child.eps or torch.finfo(torch.float32).eps))
            elif isinstance(child, nn.AdaptiveAvgPool2d):
                setattr(parent, name, PoolByMatrix(child))
            elif isinstance(child, T5Attention) and child.has_relative_attention_bias:
                _tabulate_positions(child)
    return policy


def _tabulate_positions(attention: Any) -> None:
    """T5 puts distances into buckets by a logarithm, whose last bit decides at a bucket's edge and differs between
    engines: a table of all distances instead."""
    furthest = MAX_BYTES + 1
    table = attention._relative_position_bucket(
        torch.arange(-furthest, furthest + 1),
        bidirectional=not attention.is_decoder,
        num_buckets=attention.relative_attention_num_buckets,
        max_distance=attention.relative_attention_max_distance,
    )
    attention._relative_position_bucket = lambda distance, **_: table[distance + furthest]


class MeanSquareNorm(nn.Module):
    """Root-mean-square norm in the operations that engines recognise and fuse."""

    def __init__(self, weight: Tensor | None, eps: float):
        super().__init__()
        self.weight, self.eps = weight, eps

    def forward(self, x: Tensor) -> Tensor:
        normal = x / torch.sqrt(x.pow(2).mean(dim=-1, keepdim=True) + self.eps)
        return normal if self.weight is None else normal * self.weight


class PoolByMatrix(nn.Module):
    """Average pooling to a fixed size: a matrix for rows and one for columns, for the size of the first input."""

    def __init__(self, pool: nn.AdaptiveAvgPool2d):
        super().__init__()
        self._size = pool.output_size
        self._matrices: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self._matrices is None:
            rows, columns = (
                nn.functional.adaptive_avg_pool1d(torch.eye(side)[None], self._size)[0]  # type: ignore[arg-type]
                for side in x.shape[2:]
            )
            self._matrices = rows.T, columns
        rows, columns = self._matrices
        return rows @ x @ columns


class ConditionsGraph(nn.Module):
    """All that a chunk is denoised from: `ActionDiT.project` of one observation.

    Inputs: text tokens, System 2's tokens (with System 2 only), state in raw units, staleness, an image per camera
    `[1 h w 3]` in bytes. Outputs: clock, state token, keys and values of each block.
    """

    def __init__(self, policy: Video2Act):
        super().__init__()
        self.system1: System1 = policy.system1
        self.normalize_state = policy.normalize_state
        self.cameras = policy.config.cameras
        self.width = policy.config.system1.hidden
        self.has_video = policy.config.system2 is not None

    def forward(self, text: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        projected = self.project(text, *rest)
        pairs = (array for pair in projected.key_values for array in (pair.key, pair.value))
        return projected.clock, projected.state, *map(_at_least_one, pairs)

    def project(self, text: Tensor, *rest: Tensor) -> ProjectedConditions:
        video, (state, staleness, *images) = (rest[0], rest[1:]) if self.has_video else (text[:, :0], rest)
        pixels = {
            camera: image.permute(0, 3, 1, 2).float() / 127.5 - 1
            for camera, image in zip(self.cameras, images, strict=True)
        }
        seen = self.system1.look(pixels) if pixels else Tokens.empty(1, self.width, like=text)
        conditions = Conditions(Tokens.all_visible(text), seen, Tokens.all_visible(video))
        visible = Visibility.full(1, text.device)
        normalised = self.normalize_state.normalize(self.normalize_state.clip(state))
        return self.system1.project(conditions, normalised, staleness=staleness, visible=visible)


def _at_least_one(tokens: Tensor) -> Tensor:
    """Keys or values of nothing as those of one token of zeros, which gives the same answer: engines have no empty
    arrays."""
    return tokens if tokens.shape[2] else tokens.new_zeros(*tokens.shape[:2], 1, tokens.shape[3])


class StepGraph(nn.Module):
    """The denoiser, once: noisy actions, timestep, and the outputs of `ConditionsGraph`."""

    def __init__(self, system1: System1, has_action: Tensor | None):
        super().__init__()
        self.dit = system1.dit
        self.has_action = has_action

    def forward(self, noisy: Tensor, timestep: Tensor, clock: Tensor, state: Tensor, *pairs: Tensor) -> Tensor:
        key_values = tuple(KeyValue(pairs[i], pairs[i + 1], None) for i in range(0, len(pairs), 2))
        return self.dit(noisy, timestep, ProjectedConditions(key_values, clock, state, self.has_action))


class InstructionGraph(nn.Module):
    """Bytes `[1 n]` -> System 1's text tokens, and for System 2 the text that its backbone reads and the features of
    grey clips."""

    def __init__(self, policy: Video2Act, system2: "PerceiveGraph | None"):
        super().__init__()
        assert isinstance(policy.system1.text, ByteTextEncoder)
        self.text, self.text_in = policy.system1.text.encoder, policy.system1.text_in
        self.system2 = system2

    def forward(self, ids: Tensor) -> tuple[Tensor, ...]:
        mask = torch.ones_like(ids)
        text = self.text_in(self.text(input_ids=ids, attention_mask=mask).last_hidden_state)
        if self.system2 is None:
            return (text,)
        read = self.system2.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return text, read, *self.system2.grey(read)


class PerceiveGraph(nn.Module):
    """System 2: text, features of grey clips, pixels of each stream -> tokens."""

    def __init__(self, system2: System2, fps: float):
        super().__init__()
        self.system2 = system2
        self.fps = fps
        self.streams = system2.config.streams
        self.referenced = [s for s in self.streams if _has_reference(system2, s)]
        self._text: Tensor = torch.empty(0)
        self._grey: dict[str, Tensor] = {}
        self._reference = system2.reference
        system2.reference = SimpleNamespace(features=self._given_grey)  # type: ignore[assignment]
        system2.filters = {stream.name: _traceable(stream) for stream in self.streams}
        backbone = system2.backbone
        self.reads_bytes = isinstance(backbone, TinyBackbone)
        if isinstance(backbone, TinyBackbone):
            text = backbone.text
            self.text_encoder = text.encoder
            self._embed: Callable[[str], Tensor] = lambda sentence: text([sentence]).data
            backbone.text = _GivenText(self)  # type: ignore[assignment]
        elif isinstance(backbone, PretrainedBackbone):
            embed = backbone._embed
            self._embed = lambda sentence: embed([sentence], torch.device("cpu"))["tokens"]
            backbone._embed = lambda instruction, device: {"tokens": self._text}  # type: ignore[method-assign]

    def _given_grey(self, stream: StreamConfig, instruction: list[str], *, fps: float, keep: bool) -> Tensor:
        return self._grey[stream.name]

    def embed(self, instruction: str) -> tuple[Tensor, ...]:
        """What the graph reads of a sentence."""
        return (text := self._embed(instruction), *self.grey(text))

    def grey(self, text: Tensor) -> tuple[Tensor, ...]:
        self._text = text
        return tuple(
            self._reference.features(stream, [""], fps=self.system2.config.feature_rate(stream, self.fps), keep=False)
            for stream in self.referenced
        )

    def forward(self, text: Tensor, *rest: Tensor) -> Tensor:
        self._text = text
        count = len(self.referenced)
        self._grey = dict(zip((stream.name for stream in self.referenced), rest[:count], strict=True))
        clips = {
            stream.name: Video(pixels, self.fps / stream.stride)
            for stream, pixels in zip(self.streams, rest[count:], strict=True)
        }
        return self.system2.perceive(clips, [""]).data


class _GivenText(nn.Module):
    """A text encoder whose answer is an input of the graph."""

    def __init__(self, graph: PerceiveGraph):
        super().__init__()
        self._graph = [graph]  # not as a module: it holds this one

    def forward(self, instruction: list[str]) -> Tokens:
        return Tokens.all_visible(self._graph[0]._text)


def _has_reference(system2: System2, stream: StreamConfig) -> bool:
    config = system2.config
    return config.filter_on == "features" and config.reference == "grey" and stream.filter.name != "none"


def _traceable(stream: StreamConfig) -> Callable[[Video], Video]:
    config = stream.filter
    if config.name not in ("temporal_bandpass", "moft"):
        return make_filter(config)
    alone = replace(config, then="none")
    over_time = partial(_moft, keep=config.keep) if config.name == "moft" else _AsMatrix(make_filter(alone))
    if config.then == "none":
        return over_time
    then = make_filter(FilterConfig(config.then, border=config.border))
    return lambda video: then(over_time(video))


def _moft(video: Video, *, keep: float) -> Video:
    """`moft`, whose scattered mask no engine has: channels that vary as much as the last one that is kept."""
    grid = video.grid
    variance = grid.var(dim=2).mean(dim=(2, 3))
    least = variance.topk(num_kept(grid.shape[1], keep), dim=1).values[:, -1:]
    change = grid - grid.mean(dim=2, keepdim=True)
    return replace(video, grid=change * (variance >= least)[:, :, None, None, None])


class _AsMatrix:
    """A linear filter over time as a matrix, made of its answers to single frames at the first call."""

    def __init__(self, keep: Callable[[Video], Video]):
        self._keep = keep
        self._matrix: Tensor | None = None

    def __call__(self, video: Video) -> Video:
        if self._matrix is None:
            t = video.grid.shape[2]
            impulses = torch.eye(t, dtype=torch.float32)[None, :, :, None, None]
            self._matrix = self._keep(Video(impulses, video.fps)).grid[0, :, :, 0, 0]
        return replace(video, grid=(video.grid.permute(0, 1, 3, 4, 2) @ self._matrix).permute(0, 1, 4, 2, 3))


def linear_schedule(denoising: Denoising) -> tuple[list[float], Tensor]:
    """Timesteps, and a row per step (and one for the result): what noise and the predictions so far add up to.

    Solvers are linear in both, so unit vectors in their place give the coefficients.
    """
    num_steps = denoising.config.num_steps
    units = torch.eye(num_steps + 1, dtype=torch.float64)[:, None, :, None]
    timesteps: list[float] = []
    rows: list[Tensor] = []

    def denoise(noisy: Tensor, timestep: Tensor) -> Tensor:
        timesteps.append(float(timestep[0]))
        rows.append(noisy[0, :, 0])
        return units[len(timesteps)]

    rows.append(denoising.sample(denoise, units[0])[0, :, 0])
    return timesteps, torch.stack(rows)
