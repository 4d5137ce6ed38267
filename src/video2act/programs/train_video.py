"""`video2act train-video`: teach a video model to continue the robot's videos. Actions are not needed.

Three kinds of model, one training: the tiny one from nothing; a published one, whole or by LoRA; and one of Wan's
networks in a middle size from nothing, whose VAE is trained first. What comes out is a folder that `video2act train`
takes as `--video-model`:
    backbone.json        the tiny model's config, or which published model this is made of
    model.safetensors    the tiny model; or transformer/ as diffusers writes it; or adapter/, a LoRA as peft writes it
    video_report.json    on held-out episodes: loss, and PSNR of predicted frames beside that of copying the last frame
                         and of the codec, which no prediction can exceed
    prediction.mp4       a true future beside the imagined one
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from video2act.config import (
    BackboneConfig,
    PolicyConfig,
    PretrainedBackboneConfig,
    ScratchConfig,
    StreamConfig,
    TuningConfig,
    VideoTrainConfig,
)
from video2act.config.backbone import WAN_TOKENS
from video2act.config.calls import takes
from video2act.config.training_options import SCRATCH, TrainVideoOptions
from video2act.data import Dataset, open_dataset, parse_episodes, split
from video2act.data.clip_sampler import ClipSampler, Footage
from video2act.data.fingerprint import of_datasets
from video2act.data.opening import AnyDataset, as_datasets
from video2act.data.sentences import check_sentences
from video2act.files.video_model import find_source
from video2act.presets import ANY_DATA, SMALL_SOURCE, small, tiny, video_model_in
from video2act.text.instruction import MAX_BYTES
from video2act.training.choice import choose_policy
from video2act.training.effects import check_tuning, refuse
from video2act.training.pause import Deadline
from video2act.training.resuming import check_out, is_done
from video2act.training.trackers import check_tracker
from video2act.training.video_clips import clip_sizes, clips_of_streams, wide_sizes

if TYPE_CHECKING:
    from video2act.training.video_model_training import TrainedVideoModel
else:
    TrainedVideoModel = Any

HIGHEST_RATE = 1e-3
"""a published model forgets what it knows at the learning rates of the tiny one"""

Backbone = BackboneConfig | PretrainedBackboneConfig | ScratchConfig
TINY, WHOLE = BackboneConfig(), TuningConfig("full")


def main(options: TrainVideoOptions) -> None:
    """Train as the command line asks."""
    _check_tuning_path(options.changes)
    episodes = parse_episodes(options.episodes) if options.episodes else None
    datasets = [open_dataset(path, episodes=episodes) for path in options.data]
    policy = choose_policy(options, replace(ANY_DATA, fps=float(datasets[0].fps)))
    backbone = backbone_to_train(options, policy)
    assert policy.system2  # or there is no video model to train
    streams = policy.system2.streams
    training = _with_clips(options.training, streams, backbone=backbone)
    known = _known_identity(options, backbone, datasets) | wide_sizes(clip_sizes(training, streams))
    if options.resume and is_done(options.out, training, known):
        print(f"{options.out} holds this training, finished: nothing is left to do")
        return
    train_video(
        datasets,
        out=options.out,
        backbone=backbone,
        training=training,
        camera=options.camera,
        resume=options.resume,
        tuning=options.tuning,
        streams=streams,
    )


def _known_identity(options: TrainVideoOptions, backbone: Backbone, datasets: Sequence[Dataset]) -> dict[str, Any]:
    """What of the identity of a training is known before it, and does not depend on where weights lie."""
    described = {name: value for name, value in asdict(backbone).items() if name not in ("source", "text_cache", "vae")}
    camera = {} if options.camera is None else {"camera": options.camera}
    return {"backbone": described, "data": of_datasets(datasets), "tuning": asdict(options.tuning), **camera}


def _usual_streams(
    datasets: Sequence[Dataset], backbone: Backbone, *, config: VideoTrainConfig
) -> Sequence[StreamConfig]:
    """Those of the preset over a model from nothing. Raises ValueError: a published model's are not known."""
    if isinstance(backbone, PretrainedBackboneConfig) and not (config.sizes_px and config.num_frames):
        raise ValueError(
            "a published video model learns the clips that a policy shows it; name the policy's streams "
            "(streams=policy.system2.streams), or give sizes_px and num_frames"
        )
    preset = small if isinstance(backbone, ScratchConfig) else tiny
    policy = preset(replace(ANY_DATA, fps=float(datasets[0].fps)))
    assert policy.system2 is not None
    return policy.system2.streams


def _with_clips(config: VideoTrainConfig, streams: Sequence[StreamConfig], *, backbone: Backbone) -> VideoTrainConfig:
    frames_per_feature = getattr(backbone, "frames_per_feature", TINY.frames_per_feature)
    return clips_of_streams(config, streams, frames_per_feature=frames_per_feature)


@takes(VideoTrainConfig)
def train_video(
    data: AnyDataset | Sequence[AnyDataset],
    *,
    out: Path | str,
    backbone: Backbone = TINY,
    training: VideoTrainConfig | None = None,
    num_steps: int | None = None,
    camera: str | None = None,
    resume: bool = False,
    tuning: TuningConfig = WHOLE,
    streams: Sequence[StreamConfig] | None = None,
) -> TrainedVideoModel:
    """Train a video model on the frames of datasets and report on held-out episodes.

    Args:
        data: datasets or their folders, with or without actions, of any robots.
        out: folder to write; must not hold another training unless `resume`.
        backbone: the tiny model; a published one, to be finetuned; or one of the middle size, from nothing.
        num_steps: replaces `training.num_steps`. With 0 the model keeps its first weights (such as random ones behind a
            fitted codec): a control.
        camera: the camera to learn; the first of each dataset, if None.
        tuning: what of a published model is trained.
        streams: of the policy that will use the model: they say how far frames lie apart, and which size they get and
            how; None: those of the preset over this model, tiny or small.
    Raises:
        ValueError: fewer than two episodes, an unknown camera, or settings that would ruin or not train the model.
        TrainingPausedError: the time given by `max_minutes` is over.
    """
    out, config = Path(out), training or VideoTrainConfig()
    config = config if num_steps is None else replace(config, num_steps=num_steps)
    deadline = Deadline(config.max_minutes)
    datasets = as_datasets(data)
    streams = _usual_streams(datasets, backbone, config=config) if streams is None else streams
    frame, config = streams[0].frame, _with_clips(config, streams, backbone=backbone)
    sizes = clip_sizes(config, streams)
    _check(config, backbone, tuning=tuning)
    check_sentences(datasets, _longest_sentence(backbone))
    check_tracker(config.track)
    check_out(out, resume=resume)
    halves = [split(dataset, config.validation_fraction) for dataset in datasets]
    parts = [*(training for training, _ in halves), *(last for _, last in halves)]
    footage = Footage.open(parts, camera, config=config, sizes=sizes)
    form: dict[str, Any] = {"num_frames": config.num_frames, "stride": config.stride, "sizes": sizes, "frame": frame}
    sampler, held_out = (ClipSampler(half, **form) for half in (footage[: len(halves)], footage[len(halves) :]))

    from video2act.training.video_model_training import train_video_model  # torch: after the input was checked

    return train_video_model(
        backbone,
        datasets,
        out=out,
        config=config,
        sampler=sampler,
        held_out=held_out,
        resume=resume,
        tuning=tuning,
        frame=frame,
        deadline=deadline,
    )


def backbone_to_train(options: TrainVideoOptions, policy: PolicyConfig) -> Backbone:
    """The video model of the policy that options ask for. Raises ValueError: the policy has none, or a folder is named
    for a model that is trained from nothing."""
    backbone, video_model = video_model_in(policy), options.video_model
    if isinstance(backbone, PretrainedBackboneConfig) and (backbone.source != SMALL_SOURCE or video_model):
        _check_scratch(options)
        source = str(video_model or backbone.source)
        find_source(source)
        return replace(backbone, source=source)
    if video_model is not None:
        raise ValueError(f"this policy's video model is trained from nothing; leave --video-model {video_model} out")
    if not isinstance(backbone, BackboneConfig):
        return options.scratch
    _check_scratch(options)
    return backbone


def _check_scratch(options: TrainVideoOptions) -> None:
    refuse({"scratch": "it is for the preset small without --video-model"}, {"scratch": options.scratch != SCRATCH})


def _longest_sentence(backbone: Backbone) -> int | None:
    """Bytes; None for a published model, whose encoder counts tokens."""
    if isinstance(backbone, BackboneConfig):
        return MAX_BYTES
    # its encoder reads bytes, too, and an end mark
    return WAN_TOKENS - 1 if isinstance(backbone, ScratchConfig) else None


def _check_tuning_path(changes: Iterable[str]) -> None:
    """Raises ValueError for an option of `train` that would have no effect here."""
    for path in changes:
        if path.replace("-", "_").startswith("system2.tuning"):
            raise ValueError(
                f"--policy.{path} is how `train` tunes the video model with the policy; train-video takes "
                "--tuning.method full or lora, --tuning.rank, --tuning.alpha"
            )


def _check(config: VideoTrainConfig, backbone: Any, *, tuning: TuningConfig) -> None:
    if tuning.method == "frozen":
        raise ValueError("train-video trains the video model, so tuning.method must be full or lora, got 'frozen'")
    if tuning.method == "lora" and not isinstance(backbone, PretrainedBackboneConfig):
        raise ValueError("tuning.method=lora is for published video models; one from nothing is trained whole")
    check_tuning(tuning, is_published=not isinstance(backbone, BackboneConfig))
    if isinstance(backbone, PretrainedBackboneConfig) and config.num_steps and config.learning_rate > HIGHEST_RATE:
        problem = f"a learning rate of {config.learning_rate:g} ruins a published video model (it is the tiny one's)"
        usual = f"usual are 1e-4 for LoRA and 1e-5 for the whole model, at most {HIGHEST_RATE:g}: set learning-rate"
        raise ValueError(f"{problem}; {usual}")
