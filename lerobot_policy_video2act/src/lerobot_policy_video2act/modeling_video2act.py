"""`Video2Act` behind LeRobot's policy interface. What it computes is in the package `video2act`; here are only the two
contracts.

Each environment of a batch has an episode of its own: its frames, its condition, its plan. System 2 runs inside
`select_action`, at every `refresh_every`-th control step.
"""

from pathlib import Path
from typing import Any

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from torch import Tensor

from lerobot_policy_video2act.batches import observations, training_batch
from lerobot_policy_video2act.configuration_video2act import Video2ActConfig
from video2act.config import to_json
from video2act.files.run_folder import WEIGHTS_FILE
from video2act.runtime.runner import Runner
from video2act.statistics import Statistics
from video2act.training.new_policy import build_policy, make_policy
from video2act.training.step_inputs import draw_visibility


class Video2ActPolicy(PreTrainedPolicy):
    """LeRobot's `PreTrainedPolicy`.

    Args:
        config: with `policy` set, a saved policy; otherwise a new one, made by its preset from the features.
        dataset_stats: feature -> mean, std, min, max; a new policy needs those of state and action.
        dataset_meta: of the dataset, for its control rate.
        kwargs: what other versions of LeRobot hand over besides.
    Raises:
        ValueError: a new policy without statistics, control rate or video model.
    """

    config_class = Video2ActConfig
    name = "video2act"

    def __init__(
        self,
        config: Video2ActConfig,
        dataset_stats: dict[str, Any] | None = None,
        *,
        dataset_meta: Any = None,
        **kwargs: Any,
    ):
        super().__init__(config)
        policy = config.plan(getattr(dataset_meta, "fps", None))
        if config.policy:
            # the real statistics come with the weights
            self.model = make_policy(policy, {"state": _unit(policy.state_dim), "action": _unit(policy.action_dim)})
        else:
            stats = dataset_stats or getattr(dataset_meta, "stats", None)
            if stats is None:
                raise ValueError("a new Video2Act policy needs the statistics of its dataset (dataset_stats)")
            statistics = {"state": _statistics(stats, "observation.state"), "action": _statistics(stats, "action")}
            self.model = build_policy(
                policy, statistics, video_model=Path(config.video_model) if config.video_model else None
            )
            config.policy, config.fps = to_json(self.model.config), policy.fps
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

    def reset(self) -> None:
        """All environments begin a new episode."""
        self._runners: list[Runner] = []
        self._control_step = 0

    @torch.no_grad()
    def select_action(self, batch: dict[str, Any], **kwargs: Any) -> Tensor:
        """The next action of every environment, `[b a]`, in raw units. To be called once per control step."""
        actions = [runner.step(seen) for runner, seen in self._observed(batch)]
        return self._tensor(actions)

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Any], **kwargs: Any) -> Tensor:
        """A fresh chunk for every environment, `[b horizon a]`, in raw units; the observation joins its episode's
        history."""
        chunks = []
        for runner, seen in self._observed(batch):
            runner.policy.observe(seen)
            chunks.append(runner.policy.infer(seen).actions)
        return self._tensor(chunks)

    def _observed(self, batch: dict[str, Any]) -> list[tuple[Runner, Any]]:
        """Every environment's runner and newest observation."""
        seen = observations(batch, self._control_step / self.model.config.fps, instruction=self.config.instruction)
        if not self._runners:
            self._runners = [Runner(self.model, refresh_every=self.config.refresh_every) for _ in seen]
            for runner in self._runners:
                runner.reset()
        if len(seen) != len(self._runners):
            raise ValueError(
                f"the episode began with {len(self._runners)} environments and now has {len(seen)}; reset() "
                f"begins another"
            )
        self._control_step += 1
        return list(zip(self._runners, seen, strict=True))

    def _tensor(self, rows: list[Any]) -> Tensor:
        return torch.stack([torch.as_tensor(row) for row in rows]).to(self.model.device)

    def _save_pretrained(self, save_directory: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        """Config and weights, these named as in a run folder of Video2Act; a published video model's stay at their
        source."""
        self.config._save_pretrained(save_directory)
        prefix = "model."
        gathered = None if state_dict is None else {k.removeprefix(prefix): v for k, v in state_dict.items()}
        self.model.save_weights(save_directory / WEIGHTS_FILE, gathered)

    @classmethod
    def _load_as_safetensor(
        cls, model: "Video2ActPolicy", model_file: str, *, map_location: str, strict: bool
    ) -> "Video2ActPolicy":
        """Strict whatever LeRobot asks for: a weight that is missing would be a random one."""
        model.model.load_weights(Path(model_file))
        return model


def _unit(size: int) -> Statistics:
    return Statistics((0.0,) * size, (1.0,) * size, (-1.0,) * size, (1.0,) * size)


def _statistics(stats: dict[str, Any], key: str) -> Statistics:
    if key not in stats:
        raise ValueError(f"the dataset's statistics have no {key!r}, only {', '.join(stats)}")
    entry = {
        name: tuple(float(value) for value in torch.as_tensor(stats[key][name]).flatten())
        for name in ("mean", "std", "min", "max", "q01", "q99")
        if name in stats[key] or not name.startswith("q")
    }
    return Statistics(**entry)
