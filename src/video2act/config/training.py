"""The knobs of the two trainings."""

from dataclasses import dataclass
from typing import Annotated, Literal

from video2act.config.checks import (
    Between,
    Bound,
    CheckedConfig,
    CountingInt,
    Fraction,
    NonNegative,
    Pixels,
    Positive,
    Seed,
    TrainingSteps,
    check,
)


@dataclass(frozen=True)
class OptimizationConfig(CheckedConfig):
    """What every training has in common. Budgets are steps, not seconds: a slow machine learns the same."""

    num_steps: TrainingSteps = 1000
    """training steps"""
    batch_size: CountingInt = 32
    """samples per process and step; with gradient accumulation, per part of a step. With N processes the same number of
    steps sees N times the samples, at the same learning rate"""
    learning_rate: Positive = 2e-3
    """peak; it rises linearly and falls as a cosine to zero"""
    warmup_steps: TrainingSteps = 50
    """steps until the peak; the first of them has a rate of 0"""
    weight_decay: NonNegative = 1e-2
    """of AdamW"""
    max_grad_norm: Positive = 1.0
    """longer gradients are scaled down to this norm"""
    ema_power: NonNegative = 0.75
    """EMA decay is 1 - (1 + step) ** -ema_power"""
    mixed_precision: Literal["auto", "no", "bf16"] = "auto"
    """auto: bf16 where the device computes it natively. What a policy reads of its video model is computed so whatever
    is said here, as when it acts"""
    gradient_accumulation: CountingInt = 1
    """parts of a step, of `batch_size` samples each, whose gradients are averaged: more samples in the same memory"""
    save_every: Annotated[int, Between(1, 10**9)] = 500
    """training steps between two checkpoints"""
    max_minutes: NonNegative = 0.0
    """stop after this time, counted from the start of the command, with a checkpoint to resume from, and exit code 75;
    0: no limit. For machines that are lent for a while"""
    seed: Seed = 0
    """of what a training draws: its samples, noise and new weights"""
    frames_gib: Positive = 4.0
    """memory for decoded frames in GiB, for each process of a training with its workers. Episodes that do not fit are
    read from their files for each batch, with the same result"""
    track: Literal["wandb", "trackio"] | None = None
    """send the losses there, too (extra `track`). wandb works offline where there is no network or no key"""


@dataclass(frozen=True)
class VideoTrainConfig(OptimizationConfig):
    """`train-video`: the video model's own objective."""

    num_steps: TrainingSteps = 1000
    batch_size: CountingInt = 8
    learning_rate: Positive = 3e-3
    warmup_steps: TrainingSteps = 20
    num_frames: Annotated[int, Between(0, 10**4)] = 0
    """frames of a training clip; 0: the most that a stream of the policy shows and imagines, or, where it imagines
    nothing, shows and one latent more"""
    stride: Annotated[int, Between(0, 10**4)] = 0
    """control steps between two frames; 0: that of the policy's streams. It may not differ from theirs"""
    sizes_px: tuple[Pixels, ...] = ()
    """heights of training clips, which are square or as wide as the policy's stream of that height. Each step draws one
    of them, so that one model serves streams of any; the report uses the first. Empty: those of the policy's streams,
    the ones of several frames first"""
    validation_fraction: float = 0.1
    """share of episodes, the last ones of each task, that are held out for the report"""

    def _check(self) -> None:
        frames, fraction = self.num_frames, self.validation_fraction
        check(frames != 1, f"train-video needs longer clips than num_frames={frames}: there is no future to predict")
        check(0 < fraction < 1, f"validation_fraction must lie in (0, 1), got {fraction}")


@dataclass(frozen=True)
class TrainConfig(OptimizationConfig):
    """`train`: System 1 and the formers, by the denoising loss."""

    condition_dropout: Fraction = 0.05
    """chance that a sample's text is hidden; likewise, each by itself, its image, its video and its state"""
    vision_dropout: Fraction = 0.0
    """chance that image and video are hidden together; above 0, text is never hidden. If each scene shows one task
    only, the policy ignores the text. This option forces the policy to read it (0.3 in `make demo-three-tasks`)"""
    state_noise: NonNegative = 0.02
    """standard deviation added to the normalised state"""
    video_learning_rate: Positive = 1e-5
    """peak for a video model that is tuned with the policy (system2.tuning); 1e-4 is usual for LoRA"""
    video_loss_weight: NonNegative = 0.0
    """weight of the video model's own loss beside that of the actions, where it is tuned with the policy; 0: without.
    UVA (arXiv 2503.00200), PAD and Fast-WAM report gains; it costs nothing when the policy acts"""
    video_batch_size: CountingInt = 8
    """clips for that loss, per process and step"""
    image_shift_px: Annotated[int, Between(0, 2**13)] = 0
    """images are shifted by up to this many pixels. Not for fixed cameras, where a pixel's position carries
    information"""
    image_jitter: Fraction = 0.1
    """brightness, contrast and saturation vary by up to this share"""
    clip_shift_px: Annotated[int, Between(0, 2**13)] = 0
    """System 2's clips are shifted by up to this many of their pixels, all frames of a clip alike"""
    clip_jitter: Fraction = 0.0
    """brightness, contrast and saturation of the clips vary by up to this share"""
    clip_copies: Annotated[int, Between(1, 256)] = 4
    """where clips vary and are cached: how many varied copies of each clip the cache holds, beside the one as recorded.
    Each copy takes the time and the place of the first"""
    weights: tuple[float, ...] | None = None
    """how often each of several datasets is drawn from; if null, by their sizes"""
    vary_instruction: bool = False
    """draw the instruction from all sentences that the episode was recorded with. What System 2 sees is cached with the
    recorded one: for System 2 to read the drawn ones, use live, or a cache of stage latents"""
    validation_fraction: Fraction = 0.0
    """share of episodes, the last ones of each task, that are held out and whose loss is measured; 0: none"""
    validate_every: Annotated[int, Between(1, 10**9)] = 100
    """training steps between two measurements of the validation loss"""
    num_workers: Annotated[int, Between(0, 1024)] = 0
    """processes that prepare batches; 0 prepares them in the training process"""


@dataclass(frozen=True)
class InverseTrainConfig(OptimizationConfig):
    """`label`: the inverse-dynamics model."""

    num_steps: TrainingSteps = 1000
    batch_size: CountingInt = 16
    learning_rate: Positive = 1e-3
    context: Annotated[int, Between(1, 64)] = 2
    """frames before the action that the model sees, and as many after it"""
    stride: Annotated[int, Between(1, 10**4)] = 2
    """control steps between two of these frames"""
    image_px: Annotated[int, Between(32, 2**13)] = 64
    """side of the frames that the model reads"""
    image_shift_px: Annotated[int, Between(0, 2**13)] = 4
    """in training the frames of a moment are shifted together by up to this many pixels"""
    channels: Annotated[int, Between(8, 1024), Bound("must be a multiple of 8", lambda value: value % 8 == 0)] = 16
    """width of the image encoder's first convolution"""
    held_out_fraction: Annotated[float, Bound("must lie in (0, 1)", lambda value: 0 < value < 1)] = 0.2
    """share of the episodes with recorded actions, drawn by the seed, that only measure the model's error"""
