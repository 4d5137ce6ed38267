"""A robot that stands still, for `lerobot-rollout --robot.type=still`: it gives drawn pictures and counts the actions
that it gets."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.robots.config import RobotConfig
from lerobot.robots.robot import Robot

JOINTS, TOOLS, CAMERAS, SIZE = tuple("abcde"), tuple("xyz"), ("top", "left_wrist"), (64, 96)


@RobotConfig.register_subclass("still")
@dataclass
class StillRobotConfig(RobotConfig):
    """Nothing to set."""


class StillRobot(Robot):
    """Writes its actions to the file that STILL_ROBOT_LOG names when it is disconnected."""

    config_class = StillRobotConfig
    name = "still"

    def __init__(self, config: StillRobotConfig):
        super().__init__(config)
        self._rng = np.random.default_rng(0)
        self._is_connected = False
        self._actions: list[list[float]] = []

    @property
    def observation_features(self) -> dict[str, Any]:
        return {**{f"{joint}.pos": float for joint in JOINTS}, **dict.fromkeys(CAMERAS, (*SIZE, 3))}

    @property
    def action_features(self) -> dict[str, Any]:
        return {f"{tool}.pos": float for tool in TOOLS}

    @property
    def is_connected(self) -> bool:
        return self._is_connected

    @property
    def is_calibrated(self) -> bool:
        return True

    def connect(self, calibrate: bool = True) -> None:
        self._is_connected = True

    def calibrate(self) -> None: ...

    def configure(self) -> None: ...

    def get_observation(self) -> dict[str, Any]:
        pictures = {camera: self._rng.integers(0, 256, (*SIZE, 3), np.uint8) for camera in CAMERAS}
        return {**{f"{joint}.pos": 0.1 for joint in JOINTS}, **pictures}

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        self._actions.append([float(action[f"{tool}.pos"]) for tool in TOOLS if f"{tool}.pos" in action])
        return action

    def disconnect(self) -> None:
        self._is_connected = False
        Path(os.environ["STILL_ROBOT_LOG"]).write_text(json.dumps(self._actions))
