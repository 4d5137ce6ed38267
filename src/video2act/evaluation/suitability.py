"""Whether a policy may be evaluated here: the environment is the robot it was trained for, and the scenes are new to it."""

import json
from collections.abc import Collection
from pathlib import Path

from video2act.config import PolicyConfig
from video2act.files.run_folder import SCENES_FILE
from video2act.interfaces import EnvironmentSpec


def check_fits(config: PolicyConfig, spec: EnvironmentSpec) -> None:
    """Refuse an environment that is not the robot the policy was trained for. Raises ValueError that names both sides."""
    problems = []
    if not set(config.all_cameras) <= set(spec.cameras):
        needed, offered = ", ".join(config.all_cameras), ", ".join(spec.cameras) or "none"
        problems.append(f"cameras: the policy needs {needed}, the environment has {offered}")
    for name, ours, theirs in (
        ("state size", config.state_dim, len(spec.state_names)),
        ("action size", config.action_dim, len(spec.action_names)),
        ("control steps per second", config.fps, spec.fps),
    ):
        if ours != theirs:
            problems.append(f"{name}: the policy was trained with {ours:g}, the environment has {theirs:g}")
    if problems:
        raise ValueError(
            f"this policy cannot drive {spec.name}; choose the environment of its data. " + "; ".join(problems)
        )


def training_seeds(run: Path, env: str) -> list[int]:
    """The seeds of this environment that the policy was trained on, as far as its run folder knows."""
    path = run / SCENES_FILE
    return json.loads(path.read_text()).get(env, []) if path.is_file() else []


def check_unseen(seeds: range, training_seeds: Collection[int]) -> None:
    """Raises ValueError if a scene of the demonstrations would be evaluated on."""
    seen = sorted(set(seeds) & set(training_seeds))
    if seen:
        raise ValueError(
            f"{len(seen)} of the seeds {seeds.start}..{seeds.stop - 1} are in the training data, {seen[0]} among them: a success "
            f"there may be memory. Start at another seed, for example {max(training_seeds) + 1}"
        )
