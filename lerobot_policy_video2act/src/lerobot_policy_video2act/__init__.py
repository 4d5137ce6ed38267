"""Video2Act as a LeRobot policy: LeRobot imports this package because of its name, which registers the type
`video2act`."""

from lerobot_policy_video2act.configuration_video2act import Video2ActConfig

__all__ = ["Video2ActConfig"]
