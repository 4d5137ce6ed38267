"""Whether demonstrations fit a policy: columns, sizes, cameras, sentences, weights, and the memory for their frames."""

from math import inf, prod

from video2act.config import BackboneConfig, PolicyConfig
from video2act.config.checks import check_relative_actions
from video2act.data.embodied import EmbodiedDataset
from video2act.data.lerobot_format import ACTION, STATE
from video2act.data.lerobot_reader import Dataset, LeRobotDataset
from video2act.data.origin import look_relative
from video2act.data.sentences import check_sentences
from video2act.data.view import as_view
from video2act.frames import check_frames
from video2act.text.instruction import MAX_BYTES

OTHER_CONFIG = "use the config made for this dataset"


def check_weights(dataset: Dataset, weights: tuple[float, ...] | None) -> None:
    """Raise ValueError where weights do not belong to the datasets."""
    if weights is None:
        return
    count = len(as_view(dataset).parts)
    if len(weights) != count or not all(0 <= weight < inf for weight in weights) or sum(weights) <= 0:
        listed = ", ".join(f"{weight:g}" for weight in weights) or "none"
        problem = f"--weights needs {count} numbers, one per dataset: finite, 0 or more, at least one above 0"
        raise ValueError(f"{problem}; got {listed}")


def check_fit(config: PolicyConfig, dataset: Dataset) -> None:
    """Raise ValueError where a policy and a dataset contradict each other, or the policy cannot read a sentence."""
    check_columns(dataset)
    for word in ("state", "action"):
        own, other = getattr(config, f"{word}_dim"), getattr(dataset, f"{word}_dim")
        if own != other:
            raise ValueError(f"{word} size: the policy has {own}, the dataset {other}; {OTHER_CONFIG}")
    check_cameras(config, dataset)
    check_relative_agree(config, dataset)
    backbone = config.system2.backbone if config.system2 else None
    reads_bytes = config.system1.text_encoder is None or isinstance(backbone, BackboneConfig)
    check_sentences([dataset], MAX_BYTES if reads_bytes else None)


def check_cameras(config: PolicyConfig, dataset: Dataset, *, remedy: str = "") -> None:
    """Raise ValueError where a policy cannot see what a dataset holds: another rate, no such camera, too small
    frames.

    Args:
        remedy: for another rate or orientation, where no config can be chosen.
    """
    if config.fps != dataset.fps:
        rates = f"the policy has {config.fps:g}, the dataset {dataset.fps:g}"
        raise ValueError(f"control rate in Hz: {rates}; {remedy or OTHER_CONFIG}")
    if config.all_cameras and config.orientation != dataset.orientation:
        ours, theirs = config.orientation, dataset.orientation
        remedy = remedy or f"set --policy.orientation {theirs}, or choose other data"
        raise ValueError(f"orientation of the pictures: the policy has {ours}, the dataset {theirs}; {remedy}")
    if missing := ", ".join(camera for camera in config.all_cameras if camera not in dataset.cameras):
        found = ", ".join(dataset.cameras) or "none"
        raise ValueError(
            f"the policy looks through {missing}, which the dataset does not have; its cameras are {found}"
        )
    check_frames(config, {camera: dataset.image_size(camera) for camera in config.all_cameras})


def check_relative_agree(config: PolicyConfig, dataset: Dataset) -> None:
    """Raise ValueError where a policy holds a robot still in another way than its data were recorded."""
    ours = config.relative_actions
    names = dataset.stats["action"].names if ours else ()
    if names:
        check_relative_actions(ours, names, what="--policy.relative-actions")
    # with several robots, each has its own
    for part in () if isinstance(dataset, EmbodiedDataset) else as_view(dataset).parts:
        theirs = part.relative_actions
        if theirs and set(ours) != set(theirs):
            found = f"the policy has {', '.join(ours) or 'none'}, the dataset {', '.join(theirs)}"
            raise ValueError(
                f"actions that are changes or speeds: {found}; set --policy.relative-actions {' '.join(theirs)}"
            )


def relative_notes(config: PolicyConfig, dataset: Dataset) -> list[str]:
    """A line where actions have names of changes or speeds and nothing says that they are: a robot would go on moving
    while it holds."""
    if ours := ", ".join(config.relative_actions):
        parts = as_view(dataset).parts
        silent = [part for part in parts if not part.relative_actions]
        listed = ", ".join(str(part.root) if isinstance(part, LeRobotDataset) else "a dataset" for part in silent)
        told = f"{listed} does not record which actions are changes or speeds; {ours} is taken for them there, too"
        return [told] if 0 < len(silent) < len(parts) else []
    names = look_relative(dataset.stats["action"].names)
    if not names:
        return []
    remedy = f"if they are changes or speeds, add --policy.relative-actions {' '.join(names)}"
    return [f"actions {', '.join(names)} are taken for targets, which a robot that holds gets again; {remedy}"]


def check_columns(dataset: Dataset) -> None:
    """Raise ValueError where the dataset has no actions, or a state that was not chosen."""
    part = as_view(dataset).parts[0]
    columns = part.info.columns if isinstance(part, LeRobotDataset) else {}
    listed = ", ".join(f"{name} [{feature.size}]" for name, feature in columns.items())
    if dataset.action_dim is None and not columns:
        raise ValueError("this dataset has no actions, only pictures; train-video can use it, train cannot")
    for word, missing, size, column in (
        ("action", "actions", dataset.action_dim, ACTION),
        ("state", "state", dataset.state_dim, STATE),
    ):
        if not size:
            problem = f"this dataset has no {missing}: it has no column {column}, and none was chosen"
            also = ", or use train-video alone" if word == "action" else ""
            raise ValueError(f"{problem}; its columns are {listed}. Choose with --{word} COLUMN...{also}")


def batch_bytes(config: PolicyConfig, batch_size: int, *, is_cached: bool) -> int:
    """Bytes of the decoded frames of a batch: System 1's images and, without a cache, the streams' clips."""
    streams = config.system2.streams if config.system2 and not is_cached else ()
    clips = sum(prod((stream.num_frames, *stream.frame_px)) for stream in streams)
    return 3 * batch_size * (clips + len(config.cameras) * config.image_px**2)
