"""What a finished training writes: a run folder for each robot, and what the policy learned from."""

import json
import shlex
from pathlib import Path
from typing import Any

from torch import Tensor

from video2act.data import Dataset, LeRobotDataset, as_view
from video2act.data.embodied import EmbodiedDataset
from video2act.data.labels import load_labels
from video2act.data.origin import load_visual_shift
from video2act.data.seeds import Part, recorded_seeds
from video2act.files.atomic import write_text
from video2act.files.run_folder import DATA_FILE, INSTRUCTIONS_FILE, MAX_INSTRUCTIONS, ROBOTS, SCENES_FILE
from video2act.policy import Video2Act


def save_runs(policy: Video2Act, weights: dict[str, Tensor], *, out: Path, data: Dataset) -> None:
    """Write the policy into `out`, or for several robots one run folder each below it.

    Args:
        weights: the moving average of the policy's weights.
    """
    curves = shlex.join(["tensorboard", "--logdir", str(out / "tensorboard")])
    record = f"record: {out / 'metrics.jsonl'}   curves: {curves}"
    parts = _parts(data)
    if not isinstance(data, EmbodiedDataset):
        _save(policy, weights, out=out, own=parts, data=data)
        print(f"policy: {out}   {record}")
        return
    for embodiment, name in data.robots.items():
        robot = policy.of_robot(embodiment)
        normalizers = {key: value for key, value in robot.state_dict().items() if key.startswith("normalize_")}
        own = [part for part, other in zip(parts, data.embodiments, strict=True) if other == embodiment]
        _save(robot, weights | normalizers, out=out / ROBOTS / name, own=own, data=data)
        print(f"policy of {name}: {out / ROBOTS / name}   {record}")


def _parts(data: Dataset) -> list[Part]:
    view = as_view(data)
    pairs = zip(view.parts, view.episodes, strict=True)
    return [(part, chosen) for part, chosen in pairs if isinstance(part, LeRobotDataset)]


def _save(policy: Video2Act, weights: dict[str, Tensor], *, out: Path, own: list[Part], data: Dataset) -> None:
    policy.save(out, weights)
    write_text(out / SCENES_FILE, json.dumps(recorded_seeds(own)) + "\n")
    write_text(out / INSTRUCTIONS_FILE, json.dumps(sorted(data.tasks)[:MAX_INSTRUCTIONS], indent=2) + "\n")
    described = [describe_part(*part, is_own=part in own) for part in _parts(data)]
    write_text(out / DATA_FILE, json.dumps(described, indent=2) + "\n")


def describe_part(dataset: LeRobotDataset, episodes: tuple[int, ...], *, is_own: bool) -> dict[str, Any]:
    """What a policy learned from.

    Args:
        is_own: it is of the policy's robot, so that an evaluation shows frames of its size.
    """
    used, labels = as_view(dataset).select([episodes]), load_labels(dataset.root)
    shift = load_visual_shift(dataset.root)
    return {
        "name": dataset.root.name,
        "robot": dataset.robot,
        "episodes": len(used),
        "frames": used.total_frames,
        "tasks": list(used.tasks),
        "state": list(dataset.info.state),
        "action": list(dataset.info.action),
        **({"frame_sizes": {camera: dataset.image_size(camera) for camera in dataset.cameras}} if is_own else {}),
        **({"labels": str(labels)} if labels else {}),
        **({"visual_shift": shift} if shift else {}),
    }
