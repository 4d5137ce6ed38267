"""The options of `train`, `train-video` and `cache`. Each field is a flag; the text below it is its help."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from video2act.config.backbone import ScratchConfig, TuningConfig
from video2act.config.checks import Between, CheckedConfig, Fraction, PoolName, Positive, Processes, check
from video2act.config.frames import Fit
from video2act.config.training import InverseTrainConfig, TrainConfig, VideoTrainConfig

TRAINING, VIDEO_TRAINING, INVERSE_TRAINING = TrainConfig(), VideoTrainConfig(), InverseTrainConfig()
SCRATCH = ScratchConfig()


@dataclass(frozen=True)
class VideoTuningConfig(TuningConfig):
    """How `train-video` trains a published model: it leaves none frozen."""

    method: Literal["lora", "full"] = "full"
    """lora: small matrices beside the frozen attention layers (arXiv 2106.09685); full: the whole transformer"""


@dataclass(frozen=True, kw_only=True)
class PolicyStart(CheckedConfig):
    """Which policy: a preset or a file, with some fields changed."""

    preset: str | None = None
    """a named policy; tiny, if neither this nor --config is given. `video2act info PRESET` shows its sizes"""
    config: Path | None = None
    """a policy's config instead of a preset: any run's config.json, or the same as yaml"""
    fit: Fit | None = None
    """what is done with frames of another shape than a network reads, for all streams and images: letterbox (grey
    bars), crop (the centre) or stretch; the preset's, if left out. `video2act info DATASET` shows the effect"""
    changes: dict[str, Any] = field(default_factory=dict)
    """fields of the policy to change, by their paths (`PolicyConfig.replace`)"""

    def _check(self) -> None:
        check(
            self.preset is None or self.config is None,
            f"a policy starts from --preset {self.preset} or from --config {self.config}; leave one of them out",
        )


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which demonstrations, and which of their columns."""

    data: tuple[Path, ...]
    """dataset folders or repo ids, all of one robot unless --embodiments names each one's"""
    episodes: str | None = None
    """episodes of each dataset: 0:50 for the first fifty, or 3,7; all, if left out"""
    embodiments: tuple[str, ...] | None = None
    """for datasets of different robots, the robot of each: its name or its fields in `embodiment.py` (one_arm_7, or
    right_joint_0_pos,right_joint_1_pos,...)"""
    state: tuple[str, ...] | None = None
    """columns that are joined to the state, in this order; observation.state, if left out"""
    action: tuple[str, ...] | None = None
    """columns that are joined to the action, in this order; action, if left out"""


@dataclass(frozen=True, kw_only=True)
class TrainOptions(PolicyStart, DataOptions):
    """Train a policy on demonstrations. For several processes: accelerate launch -m video2act.cli train ..."""

    out: Path
    """run folder to write"""
    cameras: tuple[str, ...] | None = None
    """cameras of the preset's policy, System 2's first; all of the dataset's, if left out"""
    video_model: Path | None = None
    """a folder written by train-video, or of the published video model that the policy names"""
    init: Path | None = None
    """begin from the weights of another run, or from RDT-1B's checkpoint (System 1); prints what fits and what does
    not"""
    init_parts: tuple[str, ...] = ()
    """take only the weights whose names begin with one of these: system1, system2.formers, system2.formers.motion,
    ..."""
    resume: bool = False
    """continue from the newest checkpoint in `out`"""
    video_data: tuple[Path, ...] = ()
    """dataset folders or repo ids, of any robots, whose frames are added for --video-loss-weight; actions are not
    needed. They must have the camera of the stream with the longest clip"""
    cache: Path | None = None
    """folder of `video2act cache fill`; if left out, System 2 sees the demonstrations before training"""
    live: bool = False
    """run System 2 at every training step instead of caching what it sees; slow"""
    training: TrainConfig = TRAINING


@dataclass(frozen=True, kw_only=True)
class TrainVideoOptions(PolicyStart):
    """Train the policy's video model on the frames of datasets; actions are not needed."""

    data: tuple[Path, ...]
    """dataset folders or repo ids, of any robots"""
    out: Path
    """folder to write"""
    episodes: str | None = None
    """episodes of each dataset: 0:50 for the first fifty, or 3,7; all, if left out"""
    camera: str | None = None
    """camera to learn; the first of each dataset, if left out"""
    video_model: Path | None = None
    """folder of the published model, if not at the policy's source; it may be finetuned already"""
    tuning: VideoTuningConfig = field(default_factory=VideoTuningConfig)
    """what of a published model is trained"""
    scratch: ScratchConfig = SCRATCH
    """sizes of the model that the preset small trains from nothing"""
    resume: bool = False
    """continue from the newest checkpoint in `out`"""
    training: VideoTrainConfig = VIDEO_TRAINING


@dataclass(frozen=True, kw_only=True)
class LabelOptions(CheckedConfig):
    """Write actions for videos that have none, by an inverse-dynamics model. Run again to go on."""

    data: tuple[Path, ...]
    """dataset folders or repo ids with recorded actions, all of one robot"""
    videos: tuple[Path, ...]
    """dataset folders or repo ids of the same robot without actions"""
    out: Path
    """dataset folder to write: the videos' episodes, with labels as their actions"""
    episodes: str | None = None
    """episodes of each dataset with actions: 0:50 for the first fifty, or 3,7; all, if left out"""
    state: tuple[str, ...] | None = None
    """columns that are joined to the state, for --use-state; as for train"""
    action: tuple[str, ...] | None = None
    """columns that are joined to the recorded action; as for train"""
    cameras: tuple[str, ...] | None = None
    """cameras that the model reads; all, if left out"""
    use_state: bool = False
    """let the model read the state, too, which the videos must have"""
    model: Path | None = None
    """folder of the inverse-dynamics model; OUT.model, if left out. One that is trained already is used again"""
    training: InverseTrainConfig = INVERSE_TRAINING


@dataclass(frozen=True, kw_only=True)
class FillCacheOptions(PolicyStart, DataOptions):
    """Let System 2 see every frame of datasets. Run again to go on. On several GPUs: accelerate launch."""

    out: Path | None = None
    """folder of the cache, for train --cache; if left out, where train finds it"""
    cameras: tuple[str, ...] | None = None
    """as for train"""
    video_model: Path | None = None
    """as for train"""
    stage: Literal["latents", "features", "seen"] = "seen"
    """latents of the video VAE; features after the video model's blocks; seen: filtered features"""
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """number format on disk"""
    frames_gib: Positive = TRAINING.frames_gib
    """memory for decoded frames in GiB; of an episode that does not fit, pieces are read"""
    max_gib: Positive | None = None
    """refuse to write a cache larger than this, with its copies"""
    clip_shift_px: Annotated[int, Between(0, 2**13)] = TRAINING.clip_shift_px
    """fill varied copies, too: as for train"""
    clip_jitter: Fraction = TRAINING.clip_jitter
    """as for train"""
    clip_copies: Annotated[int, Between(1, 256)] = TRAINING.clip_copies
    """as for train"""
    workers: Processes | None = None
    """processes of the pool. Local ones share a GPU; on Ray each gets one, if this machine computes on a GPU. Default:
    1, on Ray one per core (or GPU) of the cluster"""
    pool: PoolName = "local"
    """where the workers run: local, or on a Ray cluster: ray (this machine's), ray://HOST:PORT. See docs/scaling.md"""


@dataclass(frozen=True)
class VerifyCacheOptions:
    """Compare a cache with its checksums. `train` and `cache fill` check whether it fits data and model."""

    folder: Path
    """the cache"""
