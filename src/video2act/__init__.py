"""Video2Act: a slow system that reads video through a diffusion model, a fast one that acts (arXiv 2512.03044)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from video2act.config import PolicyConfig, TrainConfig, VideoTrainConfig
    from video2act.data import open_dataset, open_datasets
    from video2act.data.opening import preset
    from video2act.envs import list_environments, make_environment
    from video2act.policy import Video2Act
    from video2act.programs.collect import collect
    from video2act.programs.evaluate import evaluate
    from video2act.programs.label import label
    from video2act.programs.train import train
    from video2act.programs.train_video import train_video
    from video2act.runtime.control_loop import Pace
    from video2act.runtime.runner import Runner
    from video2act.types import ActionChunk, Observation

__all__ = [
    "ActionChunk",
    "Observation",
    "Pace",
    "PolicyConfig",
    "Runner",
    "TrainConfig",
    "Video2Act",
    "VideoTrainConfig",
    "collect",
    "evaluate",
    "label",
    "list_environments",
    "make_environment",
    "open_dataset",
    "open_datasets",
    "preset",
    "train",
    "train_video",
]

_PLACES = {
    "ActionChunk": ("types", "ActionChunk"),
    "Observation": ("types", "Observation"),
    "Pace": ("runtime.control_loop", "Pace"),
    "PolicyConfig": ("config", "PolicyConfig"),
    "Runner": ("runtime.runner", "Runner"),
    "TrainConfig": ("config", "TrainConfig"),
    "Video2Act": ("policy", "Video2Act"),
    "VideoTrainConfig": ("config", "VideoTrainConfig"),
    "collect": ("programs.collect", "collect"),
    "evaluate": ("programs.evaluate", "evaluate"),
    "label": ("programs.label", "label"),
    "list_environments": ("envs", "list_environments"),
    "make_environment": ("envs", "make_environment"),
    "open_dataset": ("data", "open_dataset"),
    "open_datasets": ("data", "open_datasets"),
    "preset": ("data.opening", "preset"),
    "train": ("programs.train", "train"),
    "train_video": ("programs.train_video", "train_video"),
}
"""where each public name lives: it is imported when it is first used, so that the command line starts without torch"""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        from difflib import get_close_matches

        close = get_close_matches(name, __all__, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise AttributeError(f"module 'video2act' has no attribute {name!r}; {hint}it has {', '.join(__all__)}")
    from importlib import import_module

    module, own = _PLACES[name]
    return getattr(import_module(f"video2act.{module}"), own)


def __dir__() -> list[str]:
    return __all__
