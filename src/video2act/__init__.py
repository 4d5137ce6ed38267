"""Video2Act: a slow system that reads video through a diffusion model, a fast one that acts (arXiv 2512.03044)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from video2act.policy import Video2Act
    from video2act.runtime.runner import Runner

__all__ = ["Runner", "Video2Act"]


def __getattr__(name: str) -> Any:
    # imported when asked for: the command line and the simulators' processes start without torch
    if name == "Video2Act":
        from video2act.policy import Video2Act

        return Video2Act
    if name == "Runner":
        from video2act.runtime.runner import Runner

        return Runner
    raise AttributeError(f"module 'video2act' has no attribute {name!r}")
