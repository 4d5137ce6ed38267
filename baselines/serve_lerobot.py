"""Serves a policy of the real LeRobot (ACT, Diffusion Policy, ...) by our protocol, so that `video2act eval` and every
other client of ours drives it. Runs in LeRobot's virtual environment, beside this package; see README.md here.

    python baselines/serve_lerobot.py FOLDER --data DATASET [--port 8000]

The policy acts as under `lerobot-eval`: LeRobot's own processors and `select_action`, once per control step, so it
keeps its own history and its own queue of actions. An answer therefore holds one action. One client at a time.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from video2act.types import ActionChunk, Observation

IMAGES, STATE, ACTION = "observation.images.", "observation.state", "action"
EXIT_INPUT = 2


@dataclass(frozen=True)
class Recipe:
    """What the policy takes and gives, by its own config and the dataset that it was trained on."""

    fps: float
    images: dict[str, tuple[int, int]]
    """camera -> height, width"""
    state_dim: int
    action_dim: int
    instructions: tuple[str, ...]


def read_recipe(policy: Path, data: Path) -> Recipe:
    """Compare the policy's features with the dataset's.

    Raises:
        FileNotFoundError: one of them is not there.
        ValueError: the policy was trained on other features.
    """
    config, info = (
        _json(policy / "config.json", "a policy that lerobot-train wrote"),
        _json(data / "meta" / "info.json", "a LeRobotDataset"),
    )
    features, problems = info["features"], []
    inputs, outputs = config.get("input_features") or {}, config.get("output_features") or {}
    for key, feature in {**inputs, **outputs}.items():
        wanted = list(feature["shape"])
        if key not in features:
            problems.append(f"{key} {wanted}: the dataset has {', '.join(sorted(features))}")
            continue
        has = list(features[key]["shape"])
        if feature["type"] == "VISUAL" and has[-1] == 3:
            has = [has[2], *has[:2]]
        if has != wanted:
            problems.append(f"{key}: the policy was trained with {wanted}, the dataset has {has}")
    for key in (STATE, ACTION):
        if key not in {**inputs, **outputs}:
            problems.append(f"the policy has no {key}")
    named = {key: key.removeprefix(IMAGES) for key in inputs if inputs[key]["type"] == "VISUAL"}
    problems += [f"{key}: a camera is expected below {IMAGES}" for key, camera in named.items() if key == camera]
    if problems:
        raise ValueError(
            f"{policy} does not fit {data}; give the dataset that it was trained on: {'; '.join(problems)}"
        )
    images = {camera: tuple(inputs[key]["shape"][1:]) for key, camera in named.items()}
    sizes = inputs[STATE]["shape"][0], outputs[ACTION]["shape"][0]
    return Recipe(float(info["fps"]), images, *sizes, _instructions(data))  # type: ignore[arg-type]


def _json(path: Path, what: str) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: {path.parent} is not {what}")
    try:
        read = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not valid json ({error}); copy it again") from error
    if not isinstance(read, dict) or (path.name == "info.json" and not isinstance(read.get("features"), dict)):
        raise ValueError(f"{path} does not describe {what}; copy it again")
    return read


def _instructions(data: Path) -> tuple[str, ...]:
    from video2act.data import LeRobotDataset

    return LeRobotDataset(data).tasks


class LeRobotPolicy:
    """LeRobot's policy behind our `Policy`: every observation is one control step.

    Args:
        policy, before, after: what LeRobot loads: the policy and its two pipelines.
        seed: of an episode's noise; the same in each.
    """

    def __init__(self, policy: Any, before: Any, *, after: Any, fps: float, seed: int = 0):
        self._policy, self._before, self._after = policy, before, after
        self._period, self._seed = 1 / fps, seed

    def reset(self) -> None:
        import torch

        torch.manual_seed(self._seed)
        for part in (self._policy, self._before, self._after):
            part.reset()

    def observe(self, observation: Observation) -> None:
        import torch

        batch: dict[str, Any] = {
            f"{IMAGES}{camera}": torch.from_numpy(image).permute(2, 0, 1).float() / 255
            for camera, image in observation.images.items()
        }
        batch |= {STATE: torch.from_numpy(observation.state).float(), "task": observation.instruction}
        with torch.inference_mode():
            action = self._after(self._policy.select_action(self._before(batch)))
        self._action = np.asarray(action, np.float32).reshape(1, -1)

    def infer(self, observation: Observation) -> ActionChunk:
        """The action of the observation that came last."""
        return ActionChunk(self._action, observation.time, self._period)

    def close(self) -> None:
        """Nothing to end."""


def load_lerobot(folder: Path, device: str) -> tuple[Any, Any, Any]:
    """The policy and its two pipelines. Raises ImportError without LeRobot."""
    try:
        from lerobot.configs.policies import PreTrainedConfig
        from lerobot.policies.factory import get_policy_class, make_pre_post_processors
        from lerobot.utils.import_utils import register_third_party_plugins
    except ImportError as error:
        raise ImportError(
            f"{error}. This script runs in LeRobot's virtual environment: `make baselines-venv` makes one; then "
            ".interop/lerobot-0.6.1/bin/python baselines/serve_lerobot.py ..."
        ) from error
    register_third_party_plugins()
    config = PreTrainedConfig.from_pretrained(folder)
    config.device = device
    policy = get_policy_class(config.type).from_pretrained(folder, config=config)
    overrides = {"device_processor": {"device": device}}
    before, after = make_pre_post_processors(config, str(folder), preprocessor_overrides=overrides)
    return policy.eval(), before, after


def make_server(recipe: Recipe, loaded: tuple[Any, Any, Any], *, host: str, port: int) -> Any:
    """A server for one client at a time: LeRobot's policies keep their episode in themselves."""
    from video2act.config.serving import ConnectionLimits
    from video2act.serving.contract import Contract, ImageRule
    from video2act.serving.server import Server
    from video2act.serving.session import PolicySession

    contract = Contract(
        serves="policy",
        cameras=tuple(recipe.images),
        image_size=next(iter(recipe.images.values()), (0, 0)),
        image_rules=dict.fromkeys(recipe.images, ImageRule(())),
        state_dim=recipe.state_dim,
        action_dim=recipe.action_dim,
        horizon=1,
        execute_steps=1,
        refresh_every=1,
        period_s=1 / recipe.fps,
        history_steps=1,
        streams={},
        instructions=recipe.instructions,
        frame_sizes=dict(recipe.images),
    )

    def check(observation: Observation) -> None:
        for camera, size in recipe.images.items():
            if observation.images[camera].shape[:2] != size:
                found = observation.images[camera].shape[:2]
                raise ValueError(
                    f"camera {camera!r}: the policy was trained with {size}, got {found}; it does not resize"
                )

    policy = LeRobotPolicy(*loaded[:2], after=loaded[2], fps=recipe.fps)
    return Server(
        lambda: PolicySession(policy, contract, check=check),
        contract.to_metadata(),
        host=host,
        port=port,
        limits=ConnectionLimits(max_clients=1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="checkpoints/last/pretrained_model of a lerobot-train")
    parser.add_argument("--data", type=Path, required=True, help="the dataset it was trained on: rate and features")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    try:
        recipe = read_recipe(options.folder, options.data)
        loaded = load_lerobot(options.folder, options.device)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(EXIT_INPUT) from None
    server = make_server(recipe, loaded, host=options.host, port=options.port)
    server.run_until_signal(
        lambda: print(f"{type(loaded[0]).__name__} {options.folder} at {server.address}", flush=True)
    )


if __name__ == "__main__":
    main()
