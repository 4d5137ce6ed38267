"""The knobs of the two trainings."""

from dataclasses import dataclass
from typing import Literal

from video2act.config.files import check


@dataclass(frozen=True)
class OptimizationConfig:
    """What every training has in common. Budgets are steps, not seconds: a slow machine learns the same."""

    num_steps: int = 1000
    batch_size: int = 32
    """samples per process and step"""
    learning_rate: float = 2e-3
    """its peak; it rises linearly and falls as a cosine to zero"""
    warmup_steps: int = 50
    weight_decay: float = 1e-2
    max_grad_norm: float = 1.0
    ema_power: float = 0.75
    """the moving average of the weights takes in `(1 + step) ** -ema_power` of each step's"""
    mixed_precision: Literal["auto", "no", "bf16"] = "auto"
    """auto: bf16 where the device computes it natively"""
    gradient_accumulation: int = 1
    save_every: int = 500
    """training steps between two checkpoints"""
    max_minutes: float = 0.0
    """stop after as many, with a checkpoint, to be resumed; 0: no limit. For machines that are lent for a while"""
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.num_steps >= 0, f"num_steps must not be negative, got {self.num_steps}")
        for name in ("batch_size", "gradient_accumulation", "save_every"):
            check(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        check(self.max_minutes >= 0, f"max_minutes must not be negative, got {self.max_minutes}")
        check(self.max_grad_norm > 0, f"max_grad_norm must be positive, got {self.max_grad_norm}")
        check(self.warmup_steps >= 0, f"warmup_steps must not be negative, got {self.warmup_steps}")
        check(self.learning_rate > 0, f"learning_rate must be positive, got {self.learning_rate}")


@dataclass(frozen=True)
class VideoTrainConfig(OptimizationConfig):
    """`train-video`: the video model's own objective."""

    num_steps: int = 1000
    batch_size: int = 8
    learning_rate: float = 3e-3
    warmup_steps: int = 20
    num_frames: int = 17
    """frames of a training clip"""
    stride: int = 1
    """control steps between two frames"""
    sizes_px: tuple[int, ...] = (64,)
    """sides of training clips; a step draws one of them, so that one model serves streams of any. The first is reported on"""
    validation_fraction: float = 0.1
    """share of episodes, at the end of each dataset, that are never trained on"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.num_frames > 1,
            f"train-video needs longer clips than num_frames={self.num_frames}: there is no future to predict",
        )
        check(len(self.sizes_px) > 0, "sizes_px must name at least one size")
        check(
            0 < self.validation_fraction < 1, f"validation_fraction must lie in (0, 1), got {self.validation_fraction}"
        )


@dataclass(frozen=True)
class TrainConfig(OptimizationConfig):
    """`train`: System 1 and the formers, by the denoising loss."""

    condition_dropout: float = 0.05
    """chance that a sample is shown no text, and likewise no image, no video, no state"""
    vision_dropout: float = 0.0
    """chance that a sample is shown neither image nor video; above 0, text is never hidden. Where each scene shows one task only,
    an instruction says nothing that a look does not, and goes unheard; with this (0.3 in `make demo-three-tasks`), it is heard"""
    state_noise: float = 0.02
    """standard deviation added to the normalised state"""
    video_learning_rate: float = 1e-5
    """the peak for a video model that is trained together with the policy (tuning); 1e-4 is usual for LoRA"""
    image_shift_px: int = 0
    """images are shifted by up to this many pixels; not for cameras that stand still, where a place in the picture is a place"""
    image_jitter: float = 0.1
    """brightness, contrast and saturation vary by up to this share"""
    max_delay_steps: int = 0
    """training-time real-time chunking (arXiv 2512.05964): up to so many first actions of a chunk are shown as they are, so that
    plans can continue one another (`--overlap rtc_trained`); 0: none. The longest planning time, in control steps"""
    weights: tuple[float, ...] | None = None
    """of several datasets: how often each is drawn from; if null, by their sizes"""
    embodiments: tuple[str, ...] | None = None
    """of datasets of different robots: which robot each is of, by its name or its fields in `embodiment.py` (one_arm_7, or
    right_joint_0_pos,right_joint_1_pos,...); if null, all are of one"""
    vary_instruction: bool = False
    """say each task in any of the sentences that its episode was recorded with, one at random"""
    num_workers: int = 0
    """processes that prepare batches; 0 prepares them in the training process"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.video_learning_rate > 0, f"video_learning_rate must be positive, got {self.video_learning_rate}")
        for name in ("condition_dropout", "vision_dropout"):
            check(0 <= getattr(self, name) < 1, f"{name} must lie in [0, 1), got {getattr(self, name)}")
        for name in ("state_noise", "image_shift_px", "image_jitter", "max_delay_steps", "num_workers"):
            check(getattr(self, name) >= 0, f"{name} must not be negative, got {getattr(self, name)}")
