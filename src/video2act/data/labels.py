"""Labels: actions that an inverse-dynamics model wrote (`video2act label`), not a robot. They lie in the dataset's own
meta file (`load_origin`), so that `info` and `train` can say so."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from video2act.data.dataset_files import DatasetError
from video2act.data.lerobot_reader import Dataset, LeRobotDataset
from video2act.data.origin import ORIGIN_PATH, load_origin
from video2act.data.view import as_view

LABELS = "labels"
"""name of the record in the meta file"""


@dataclass(frozen=True)
class DimensionError:
    """Root mean square error of one number of the action, on held-out episodes."""

    name: str
    raw: float
    """in the action's units"""
    normalised: float
    """in deviations of the recorded actions"""
    mean_raw: float
    """of a baseline that always predicts the mean action of the training episodes"""
    mean_normalised: float


@dataclass(frozen=True)
class Labels:
    """Which episodes hold labels, and how wrong the model was where the action is recorded."""

    episodes: tuple[int, ...]
    num_recorded: int
    """episodes with recorded actions that the model learned from"""
    num_held_out: int
    """others, which measured its error"""
    errors: tuple[DimensionError, ...]

    @property
    def error(self) -> float:
        """Over all dimensions, normalised."""
        return _root_mean_square([error.normalised for error in self.errors])

    @property
    def mean_error(self) -> float:
        """The baseline's."""
        return _root_mean_square([error.mean_normalised for error in self.errors])

    def __str__(self) -> str:
        return (
            f"the actions of {len(self.episodes)} episodes are labels of an inverse-dynamics model, not recorded; its "
            f"error on {self.num_held_out} held-out episodes is {self.error:.2f} deviations (mean action: "
            f"{self.mean_error:.2f})"
        )

    def record(self) -> dict[str, Any]:
        """For the meta file."""
        return {LABELS: asdict(self)}


def load_labels(root: Path | str) -> Labels | None:
    """The record of a labelled dataset; None for recorded actions. Raises DatasetError: the meta file is damaged."""
    found = load_origin(root).get(LABELS)
    if found is None:
        return None
    try:
        errors = tuple(DimensionError(**error) for error in found["errors"])
        episodes = tuple(int(episode) for episode in found["episodes"])
        labels = Labels(episodes, int(found["num_recorded"]), int(found["num_held_out"]), errors)
        str(labels)  # numbers throughout
        return labels
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        problem = f"{Path(root) / ORIGIN_PATH}: the record {LABELS!r} cannot be read ({type(error).__name__}: {error})"
        raise DatasetError(problem, "restore it, or label again into a new folder") from error


def label_notes(data: Dataset) -> list[str]:
    """One line for each dataset that holds labels."""
    return [f"{part.root}: {labels}" for part in recorded_parts(data) if (labels := load_labels(part.root))]


def recorded_parts(data: Dataset) -> list[LeRobotDataset]:
    """The datasets on disk that some data are made of."""
    return [part for part in as_view(data).parts if isinstance(part, LeRobotDataset)]


def labelled_form(data: Dataset, videos: Dataset) -> dict[str, Any]:
    """What `DatasetWriter.create` is told of a dataset of the videos, with actions as in the data."""
    first = recorded_parts(videos)[0].info
    return {
        "fps": videos.fps,
        "robot": videos.robot,
        "cameras": videos.cameras,
        "image_size": {camera: videos.image_size(camera) for camera in videos.cameras},
        "state_names": first.state_names,
        "action_names": recorded_parts(data)[0].info.action_names,
        "storage": "video" if first.videos else "image",
    }


def _root_mean_square(values: Sequence[float]) -> float:
    return sqrt(sum(value**2 for value in values) / max(1, len(values)))
