"""The yaml of the released code: the keys that a conversion reads, with that code's names and defaults.

It is read once, here. A value of another type, or beyond its bounds, is an error that names the file and the key. All
other keys, such as those of the training, are left out.
"""

from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from video2act.config.checks import Between, CheckedConfig, CountingInt, Layers, Pixels, Positive, Width, check
from video2act.config.files import build, read_plain
from video2act.config.paths import dataclass_in

Settings = TypeVar("Settings", bound=CheckedConfig)
Frames = Annotated[int, Between(1, 10**4)]
FormerLayers = Annotated[int, Between(0, 256)]
Size = tuple[Pixels, Pixels]
"""height and width"""

SWITCHES: dict[str | None, bool] = {
    spelling: is_on
    for words, is_on in ((("true", "yes", "on"), True), (("false", "no", "off"), False))
    for word in words
    for spelling in (word, word.title(), word.upper())
} | {None: False}
"""yaml 1.1, which the released code reads, has these words; in yaml 1.2 `off` is a text, and no text is false"""
REMEDY = "name the yaml that the checkpoint was trained with"


@dataclass(frozen=True)
class Core(CheckedConfig):
    """`core`: the action transformer."""

    hidden_size: Width
    depth: Layers
    num_heads: CountingInt


@dataclass(frozen=True)
class Stream(CheckedConfig):
    """`raw_stream` or `motion_stream`."""

    num_frames: Frames | None = None
    video_size: Size | None = None
    extraction: str | None = None
    latent_source: str = "raw"
    latent_num_frames: Frames | None = None
    latent_frame_select: str = "last"
    cache_concat_chunks: Annotated[int, Between(0, 1000)] | None = None
    compressor_depth: FormerLayers | None = None
    compressor_heads: CountingInt | None = None


@dataclass(frozen=True)
class Streams(CheckedConfig):
    """`dual_stream_framepack`."""

    raw_stream: Stream | None = None
    motion_stream: Stream | None = None


@dataclass(frozen=True)
class Schedule(CheckedConfig):
    """`noise_scheduler`."""

    type: str = "ddpm"
    beta_schedule: str = "squaredcos_cap_v2"
    prediction_type: str = "sample"
    num_inference_timesteps: Annotated[int, Between(1, 1000)] = 5
    num_train_timesteps: Annotated[int, Between(1, 10**5)] = 1000


@dataclass(frozen=True)
class Model(CheckedConfig):
    """`model`."""

    core: Core
    lang_adaptor: str
    img_adaptor: str
    state_adaptor: str = "mlp2x_gelu"
    video_adaptor: str | None = None
    framepack_adaptor: str | None = None
    """an older name of `video_adaptor`"""
    use_dual_stream_framepack: bool = False
    dual_stream_framepack: Streams | None = None
    use_video_token_compressor: bool | None = None
    use_dual_token_compressor: bool | None = None
    """an older name of `use_video_token_compressor`"""
    token_compressor_depth: FormerLayers = 3
    token_compressor_heads: CountingInt = 8
    noise_scheduler: Schedule = Schedule()

    def _check(self) -> None:
        check(
            bool(self.video_adaptor or self.framepack_adaptor), "neither video_adaptor nor framepack_adaptor is there"
        )

    @property
    def has_formers(self) -> bool:
        named = (self.use_video_token_compressor, self.use_dual_token_compressor)
        return next((value for value in named if value is not None), True)


@dataclass(frozen=True)
class Band(CheckedConfig):
    """`motion_extraction`."""

    filter_type: str = "bandpass"
    freq_low: float = 1.0
    freq_high: float = 10.0


@dataclass(frozen=True)
class TrainedLora(CheckedConfig):
    """`train_lora`."""

    enabled: bool = False
    rank: Width = 8
    alpha: Positive | None = None
    """None: as `rank`"""


@dataclass(frozen=True)
class VideoSettings(CheckedConfig):
    """`framepack`: the video model, its frames and the band of its filter."""

    video_size: Size = (480, 832)
    fps: Positive = 16.0
    """latents a second that the released code assumes; its bands are in these Hz, whatever the video's rate"""
    motion_extraction: Band | None = None
    train_lora: TrainedLora | None = None


def read_settings(path: Path) -> tuple[Model, VideoSettings]:
    """The model's and the video's section of the released yaml (or json).

    Raises:
        FileNotFoundError, ValueError: the file is missing, or is no such yaml; the key is named.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; {REMEDY}")
    content = read_plain(path)
    model = _section(content, "noise_scheduler")
    if model is None:
        raise ValueError(f"{path} has no section with noise_scheduler; it is not a config of the released code")
    framepack = content.get("framepack") or {}
    check(isinstance(framepack, dict), f"{path}: framepack is no section, but {type(framepack).__name__}; {REMEDY}")
    # the yaml of a single stream may have no filters, and that of a frozen video model no LoRA
    parts = (_section(content, word) or {} for word in ("train_lora", "motion_extraction"))
    video = reduce(or_, (*parts, framepack))
    return read(Model, model, where=str(path)), read(VideoSettings, video, where=str(path))


def read(kind: type[Settings], plain: Any, *, where: str) -> Settings:
    """Settings from plain data; other keys are left out. Raises ValueError: a key is missing or wrong."""
    try:
        return build(kind, _known(kind, plain), where=where)
    except ValueError as error:
        raise ValueError(f"{error}; {REMEDY}") from error


def _known(kind: type, plain: Any) -> Any:
    if not isinstance(plain, dict):
        return plain
    known = {}
    for name, hint in get_type_hints(kind).items():
        if name in plain:
            value, inner = plain[name], dataclass_in(hint)
            is_switch = bool in (hint, *get_args(hint)) and isinstance(value, str | None)
            known[name] = _known(inner, value) if inner else SWITCHES.get(value, value) if is_switch else value
    return known


def _section(content: Any, word: str) -> dict[str, Any] | None:
    """The first object, however deep, that has a field of that name."""
    if isinstance(content, dict):
        if word in content:
            return content
        for value in content.values():
            found = _section(value, word)
            if found is not None:
                return found
    return None
