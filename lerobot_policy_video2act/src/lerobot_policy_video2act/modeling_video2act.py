"""`Video2Act` behind LeRobot's policy interface. What it computes is in the package `video2act`; here are only the two
contracts.

Each environment of a batch has an episode of its own: its frames, its condition, its plan. System 2 runs inside
`select_action` and `predict_action_chunk`, at every `refresh_every`-th control step.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from torch import Tensor

from lerobot_policy_video2act.batches import observations, training_batch
from lerobot_policy_video2act.chunking import ElapsedSteps, committed_actions
from lerobot_policy_video2act.configuration_video2act import Video2ActConfig
from video2act.config import PolicyConfig, to_json
from video2act.files.run_folder import CONFIG_FILE, WEIGHTS_FILE, with_folders
from video2act.runtime.dual_policy import DualPolicy
from video2act.runtime.runner import Runner
from video2act.statistics import Statistics, parse_statistics, statistics_to_json
from video2act.training.new_policy import build_policy, make_policy
from video2act.training.step_inputs import draw_visibility
from video2act.types import Observation

try:
    from lerobot.distributed.checkpoint import full_model_state_dict, is_sharded_module
    from lerobot.distributed.utils import is_main_process
except ImportError:  # LeRobot before 0.6.2 hands the gathered weights over
    full_model_state_dict = None


class Video2ActPolicy(PreTrainedPolicy):
    """LeRobot's `PreTrainedPolicy`.

    Args:
        config: with `policy` set, a saved policy; otherwise a new one, made by its preset from the features.
        dataset_stats: feature -> mean, std, min, max; a new policy needs those of state and action.
        dataset_meta: of the dataset, for its control rate.
    Raises:
        ValueError: a new policy without statistics, control rate or video model; or `overlap` is rtc_trained, and the
            policy was not trained for that.
    """

    config_class = Video2ActConfig
    name = "video2act"
    # FSDP gathers a unit's weights in its own `forward` only; a whole block of System 1 is no unit, because its keys
    # and values are computed before, once per chunk
    _fsdp_wrap_modules = ("SelfAttention", "Mlp")

    def __init__(
        self,
        config: Video2ActConfig,
        dataset_stats: dict[str, Any] | None = None,
        *,
        dataset_meta: Any = None,
    ):
        super().__init__(config)
        policy = config.plan(getattr(dataset_meta, "fps", None))
        if config.policy:
            self.model = make_policy(policy, _saved_statistics(config, policy))
        else:
            stats = dataset_stats or getattr(dataset_meta, "stats", None)
            if stats is None:
                raise ValueError("a new Video2Act policy needs the statistics of its dataset (dataset_stats)")
            statistics = {"state": _statistics(stats, "observation.state"), "action": _statistics(stats, "action")}
            self.model = build_policy(
                policy, statistics, video_model=Path(config.video_model) if config.video_model else None
            )
            config.policy, config.fps = to_json(with_folders(self.model.config)), policy.fps
            config.statistics = statistics_to_json(statistics)
        config.rtc_training_max_delay = self.model.config.system1.max_delay_steps
        if config.policy and self._overlap == "rtc_trained" and config.rtc_training_max_delay == 0:
            raise ValueError(
                "overlap rtc_trained needs a policy that was trained for delays, and this one was not "
                "(rtc_training_max_delay is 0); use --policy.overlap=rtc, which guides any policy"
            )
        self.reset()

    def get_optim_params(self) -> list[torch.nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """The denoising loss of a batch of LeRobot's dataset."""
        # a generator per step, out of the one that LeRobot seeds: the loss does not depend on what else draws from it
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        own = training_batch(batch, self.model.config, generator=generator)
        visible = draw_visibility(
            len(own.state),
            self.config.condition_dropout,
            vision_dropout=self.config.vision_dropout,
            generator=generator,
            device=own.state.device,
        )
        loss = self.model(own, generator, visible, self.config.state_noise)
        return loss, {"staleness_s": float(own.staleness.mean())}

    def _get_default_peft_targets(self) -> dict[str, Any]:
        """The matrices of System 1's blocks, for `lerobot-train --peft.method_type=lora`."""
        names = r"attention\.(qkv|out)|cross\.(query|key_value|out)|mlp\.(up|down)"
        return {"target_modules": rf"model\.system1\.dit\.blocks\.\d+\.({names})"}

    def supports_rtc(self) -> bool:
        """System 1 can continue any chunk: LeRobot's rollout may ask for real-time chunking."""
        return True

    def reset(self) -> None:
        """All environments begin a new episode."""
        self._runners: list[Runner] = []
        self._newest: list[Observation] = []
        self._control_step = 0
        self._elapsed = ElapsedSteps(self.model.config.fps)

    def drop_queued_actions(self) -> None:
        """Plan anew at the next `select_action`, whatever is left of the running plans."""
        for runner in self._runners:
            runner.replan()

    @torch.no_grad()
    def select_action(self, batch: dict[str, Any]) -> Tensor:
        """The next action of every environment, `[b a]`, in raw units. To be called once per control step."""
        observed = self._observed(batch, steps=1)
        self._control_step += 1
        return self._tensor([runner.step(seen) for runner, seen in observed])

    @torch.no_grad()
    def predict_action_chunk(
        self,
        batch: dict[str, Any],
        *,
        inference_delay: int | None = None,
        prev_chunk_left_over: Tensor | None = None,
        execution_horizon: int | None = None,
    ) -> Tensor:
        """A fresh chunk for every environment, `[b horizon a]`, in raw units; the observation joins its episode's
        history.

        Args:
            inference_delay: control steps until the chunk is there, the first ones of `prev_chunk_left_over` being
                executed meanwhile. If given, the robot runs in real time, and the control steps since the last call are
                counted on the wall clock; otherwise this is the next control step.
            prev_chunk_left_over: what is left of the last chunk, `[n a]` or `[b n a]`; the new one continues it, unless
                LeRobot's `rtc_config` says `enabled=False`.
            execution_horizon: its rows that count; all, if None.
        Raises:
            ValueError: `prev_chunk_left_over` has another shape, or `overlap` is rtc_trained and the delay is longer
                than in training.
        """
        steps = 1 if inference_delay is None else self._elapsed.count()
        observed = self._observed(batch, steps=steps)
        left_over = prev_chunk_left_over if self._overlap != "replace" else None
        committed = committed_actions(
            left_over,
            inference_delay or 0,
            execution_horizon=execution_horizon,
            batch=len(observed),
            action_dim=self.model.config.action_dim,
        )
        chunks = []
        missing = min(steps - 1, len(self.config.observation_delta_indices))  # more than a clip spans changes nothing
        for i, (runner, seen) in enumerate(observed):
            assert isinstance(runner.policy, DualPolicy)
            for _ in range(missing if self._newest else 0):
                runner.policy.observe(self._newest[i])
            runner.policy.observe(seen)
            chunks.append(runner.policy.begin(seen, committed[i])().chunk.actions)
        self._newest = [seen for _, seen in observed]
        self._control_step += 1
        return self._tensor(chunks)

    @property
    def _overlap(self) -> str:
        """How a chunk follows the last one, by our words: `lerobot-rollout` sets `rtc_config`."""
        rtc = self.config.rtc_config
        if rtc is not None and not rtc.enabled:
            return "replace"
        return "rtc_trained" if getattr(rtc, "mode", "") == "trained" else self.config.overlap

    def _observed(self, batch: dict[str, Any], *, steps: int) -> list[tuple[Runner, Observation]]:
        """Every environment's runner and newest observation, `steps` control steps after the last one."""
        if self._runners:
            self._control_step += steps - 1
        seen = observations(batch, self._control_step / self.model.config.fps, instruction=self.config.instruction)
        if not self._runners:
            rtc = self.config.rtc_config
            chunking: dict[str, Any] = {} if self._overlap == "replace" else {"overlap": self._overlap}
            if rtc is not None and self._overlap == "rtc":
                chunking["guidance"] = rtc.max_guidance_weight
            self._runners = [Runner(self.model, refresh_every=self.config.refresh_every, **chunking) for _ in seen]
            for runner in self._runners:
                runner.reset()
        if len(seen) != len(self._runners):
            raise ValueError(
                f"the episode began with {len(self._runners)} environments and now has {len(seen)}; reset() "
                f"begins another"
            )
        return list(zip(self._runners, seen, strict=True))

    def _tensor(self, rows: list[Any]) -> Tensor:
        return torch.stack([torch.as_tensor(row) for row in rows]).to(self.model.device)

    def _save_pretrained(self, save_directory: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        """Config and weights, these named as in a run folder of Video2Act; a published video model's stay at their
        source."""
        if full_model_state_dict is not None and state_dict is None:
            # a collective: every process takes part, and the main one writes
            state_dict = full_model_state_dict(self) if is_sharded_module(self) else None
            if not is_main_process():
                return
        self.config._save_pretrained(save_directory)
        prefix = "model."
        gathered = None if state_dict is None else {k.removeprefix(prefix): v for k, v in state_dict.items()}
        self.model.save_weights(save_directory / WEIGHTS_FILE, gathered)

    @classmethod
    def _load_as_safetensor(
        cls, model: "Video2ActPolicy", model_file: str, map_location: str, strict: bool
    ) -> "Video2ActPolicy":
        """Strict whatever LeRobot asks for: a weight that is missing would be a random one."""
        model.model.load_weights(Path(model_file), described_in=CONFIG_FILE if model.config.statistics else "")
        return model


def _saved_statistics(config: Video2ActConfig, policy: PolicyConfig) -> dict[str, Statistics]:
    if config.statistics:
        return parse_statistics(config.statistics, "the field `statistics` of config.json")
    warnings.warn(
        "this checkpoint was saved before the plugin kept statistics: states far outside the training data are neither "
        "clipped nor told. Training it further does not add them; a new training has them",
        stacklevel=3,
    )
    # the weights hold the map itself, so only the range is missing
    return {"state": Statistics.unknown(policy.state_dim), "action": Statistics.unknown(policy.action_dim)}


def _statistics(stats: dict[str, Any], key: str) -> Statistics:
    if key not in stats:
        raise ValueError(f"the dataset's statistics have no {key!r}, only {', '.join(stats)}")
    entry = {
        name: tuple(float(value) for value in torch.as_tensor(stats[key][name]).flatten())
        for name in ("mean", "std", "min", "max", "q01", "q99")
        if name in stats[key] or not name.startswith("q")
    }
    return Statistics(**entry)
