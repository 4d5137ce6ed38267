"""The knobs that LeRobot's command line sees. The policy itself is described by Video2Act's own config, kept here as
json.

A new policy starts from a preset, whose config is fixed as soon as the data are known; a saved one is rebuilt from
that json and from nothing else. LeRobot demands that fields are only ever added, because a checkpoint with an unknown
field cannot be read.
"""

from dataclasses import dataclass, field, replace
from math import isclose

from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import NormalizationMode
from lerobot.optim.optimizers import AdamWConfig
from lerobot.optim.schedulers import DiffuserSchedulerConfig

from lerobot_policy_video2act.batches import camera_name, oldest_step
from video2act.config import PolicyConfig, from_json
from video2act.files.run_folder import as_it_was_trained
from video2act.frames import check_frames
from video2act.presets import DataSpec, make_preset


@PreTrainedConfig.register_subclass("video2act")
@dataclass
class Video2ActConfig(PreTrainedConfig):
    """What `--policy.*` sets."""

    preset: str = "tiny"
    """a preset of Video2Act; only read when a policy is new"""
    video_model: str | None = None
    """folder of `video2act train-video`, or of the published video model that the preset names; only read when a
    policy is new"""
    refresh_every: int | None = None
    """control steps between two updates of System 2; the policy's own, if None"""
    fps: float | None = None
    """control rate in Hz, the dataset's; `lerobot-train` needs it for a new policy, to know which frames that reads"""
    instruction: str | None = None
    """the instruction in environments of LeRobot that have none, such as aloha's"""
    overlap: str = "rtc"
    """how a chunk of `lerobot-rollout --inference.type=rtc` continues the one in execution. rtc: by guided denoising,
    which works with any policy; rtc_trained: by a policy that was trained for it"""
    rtc_training_max_delay: int = 0
    """longest delay in control steps that training shows, for rtc_trained; 0: none. Only read when a policy is new"""
    policy: str = ""
    """the whole policy's config as json, written by the plugin; not to be set by hand"""
    statistics: str = ""
    """those of state and action as json, written by the plugin; not to be set by hand"""

    condition_dropout: float = 0.05
    """chance that a training sample has no text; the same for images, video and state"""
    vision_dropout: float = 0.0
    """chance that a sample has only text and state; above 0, it always has its text. For data of several tasks whose
    scenes show which task it is"""
    state_noise: float = 0.02
    """standard deviation added to the normalised state in training"""
    optimizer_lr: float = 2e-3
    optimizer_weight_decay: float = 1e-2
    optimizer_grad_clip_norm: float = 1.0
    scheduler_warmup_steps: int = 50

    # the policy normalises, with statistics of its own
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: dict.fromkeys(("VISUAL", "STATE", "ACTION"), NormalizationMode.IDENTITY)
    )

    rtc_config = None  # no field: `lerobot-rollout` sets it, and its class differs between versions

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overlap not in ("rtc", "rtc_trained"):
            raise ValueError(f"overlap must be rtc or rtc_trained, got {self.overlap!r}")
        if not self.policy:
            make_preset(
                self.preset, DataSpec(1, 1, 30.0, ("any",))
            )  # an unknown preset is refused before data are opened
        if self.refresh_every is not None and self.refresh_every < 1:
            raise ValueError(
                f"refresh_every counts control steps between two updates of System 2: at least 1, got "
                f"{self.refresh_every}"
            )
        for name, mode in self.normalization_mapping.items():
            if mode is not NormalizationMode.IDENTITY:
                raise ValueError(
                    f"normalization_mapping asks LeRobot to normalise {name} by {mode.value}; Video2Act does "
                    "that by itself, with statistics of its own. Leave the mapping out"
                )

    def plan(self, fps: float | None = None) -> PolicyConfig:
        """The policy's config: the saved one, or what the preset makes of the features.

        Args:
            fps: of the dataset, if there is one.
        Raises:
            ValueError: a new policy without control rate, data of another rate, features that it cannot use, or too
                small frames.
        """
        if self.policy:
            source = "the field `policy` of config.json"
            policy = from_json(PolicyConfig, self.policy, source=source, complete=as_it_was_trained)
            if fps is not None and not isclose(fps, policy.fps, rel_tol=1e-3):
                problem = (
                    f"the policy was trained with {policy.fps:g} control steps a second, and the dataset has {fps:g}"
                )
                raise ValueError(f"{problem}, so its clips would show another time; choose data of that rate")
            return policy
        rate = self._rate(fps)
        state_dim, action_dim = self._sizes()
        cameras = tuple(camera_name(key) for key in self.image_features)
        spec = DataSpec(state_dim, action_dim, rate, cameras)
        policy = make_preset(self.preset, spec)
        system1 = replace(policy.system1, max_delay_steps=self.rtc_training_max_delay)
        policy = replace(policy, system1=system1)
        check_frames(policy, {camera_name(key): tuple(own.shape[-2:]) for key, own in self.image_features.items()})
        return policy

    def _rate(self, fps: float | None = None) -> float:
        """The control rate of a new policy."""
        rate = fps if self.fps is None else self.fps
        if rate is None:
            raise ValueError(
                "a new Video2Act policy needs the control rate, which decides the frames that it reads: pass "
                "--policy.fps=F, the dataset's, in Hz"
            )
        if fps is not None and not isclose(fps, rate, rel_tol=1e-3):
            raise ValueError(f"--policy.fps={rate:g}, but the dataset has {fps:g} frames a second; pass that")
        return float(rate)

    def validate_features(self) -> None:
        """Raises ValueError naming what is missing among the features."""
        self._sizes()

    def _sizes(self) -> tuple[int, int]:
        """Of state and action."""
        inputs, outputs = (
            ", ".join(features or {}) or "none" for features in (self.input_features, self.output_features)
        )
        if self.robot_state_feature is None:
            raise ValueError(f"Video2Act needs the input `observation.state`; there are {inputs}")
        if self.action_feature is None:
            raise ValueError(f"Video2Act needs the output `action`; there are {outputs}")
        if not self.image_features:
            raise ValueError("Video2Act needs at least one camera (a feature of type VISUAL)")
        return self.robot_state_feature.shape[0], self.action_feature.shape[0]

    @property
    def _shape(self) -> PolicyConfig:
        """The config as far as clips and chunks go, which the rate decides, and no feature."""
        return self.plan() if self.policy else make_preset(self.preset, DataSpec(1, 1, self._rate(), ("any",)))

    @property
    def observation_delta_indices(self) -> list[int]:
        """Every control step from the oldest that a stale clip may reach to the present."""
        return list(range(-oldest_step(self._shape), 1))

    @property
    def action_delta_indices(self) -> list[int]:
        return list(range(self._shape.horizon))

    @property
    def reward_delta_indices(self) -> None:
        return None

    def get_optimizer_preset(self) -> AdamWConfig:
        return AdamWConfig(
            lr=self.optimizer_lr, weight_decay=self.optimizer_weight_decay, grad_clip_norm=self.optimizer_grad_clip_norm
        )

    def get_scheduler_preset(self) -> DiffuserSchedulerConfig:
        """Linear warm-up, then a cosine to zero at the last step."""
        return DiffuserSchedulerConfig(name="cosine", num_warmup_steps=self.scheduler_warmup_steps)
