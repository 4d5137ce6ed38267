"""From which seeds `collect` recorded: a policy is never evaluated on scenes of its training."""

from collections.abc import Iterable

from video2act.data.lerobot_reader import LeRobotDataset

Part = tuple[LeRobotDataset, tuple[int, ...]]
"""a dataset on disk, and the episodes of it that are used"""


def recorded_seeds(parts: Iterable[Part]) -> dict[str, list[int]]:
    """Environment -> seeds of its episodes; those that `collect` did not record have none."""
    seeds: dict[str, list[int]] = {}
    for dataset, chosen in parts:
        for entry in (dataset.entries[episode] for episode in chosen):
            environment = entry.environment or dataset.environment
            if environment is not None and entry.seed is not None:
                seeds.setdefault(environment, []).append(entry.seed)
    return seeds
