"""Demonstrations of MIKASA-Robo's Intercept as a LeRobot dataset, to learn what examples/12_mikasa_intercept.py drives.

make mikasa-venv
. .mikasa/mesa.env && .mikasa/bin/python scripts/mikasa_demonstrations.py record data/mikasa_raw --episodes 100
.venv/bin/python scripts/mikasa_demonstrations.py convert data/mikasa_raw data/mikasa

The simulator's environment and ours need different versions of numpy, so the first half writes one npz per episode. The
expert estimates the ball's speed from two looks at it, gets behind the place where the ball will be, and strikes it so
that it rolls to the goal. About 7 of 10 strikes do.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

CAMERAS, FPS, STEPS = ("base_camera", "hand_camera"), 20, 60
SPEEDS = ("InterceptSlow-VLA-v0", "InterceptMedium-VLA-v0", "InterceptFast-VLA-v0")
STATE_NAMES = tuple(f"qpos_{number}" for number in range(9))
ACTION_NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
LEAD_S, BEHIND_M, THROUGH_M, ABOVE_M, LOW_M = 0.2, 0.09, 0.14, 0.14, 0.03
ROLL_M_S = 4.0
"""the speed to the goal that a strike aims at: the ball's own speed is taken off it"""


class Expert:
    """Plays one episode; sees the places of ball, hand and goal, as meters."""

    def __init__(self) -> None:
        self._phase = "above"
        self._last: np.ndarray | None = None

    def act(self, ball: np.ndarray, hand: np.ndarray, goal: np.ndarray) -> np.ndarray:
        speed = np.zeros(2) if self._last is None else FPS * (ball - self._last)[:2]
        is_measured, self._last = self._last is not None, ball
        ahead = ball[:2] + (0.05 if self._phase == "strike" else LEAD_S) * speed
        way = goal[:2] - ahead
        strike = ROLL_M_S * way / (np.linalg.norm(way) + 1e-9) - speed
        strike /= np.linalg.norm(strike) + 1e-9
        behind = ahead - BEHIND_M * strike
        if self._phase == "above" and is_measured and np.linalg.norm(behind - hand[:2]) < 0.05:
            self._phase = "lower"
        elif self._phase == "lower" and hand[2] < 0.05:
            self._phase = "strike"
        place = ahead + THROUGH_M * strike if self._phase == "strike" else behind
        action = np.zeros(7, np.float32)
        action[:3] = np.clip((np.array([*place, ABOVE_M if self._phase == "above" else LOW_M]) - hand) / 0.1, -1, 1)
        action[6] = -1
        return action


def record(out: Path, episodes: int) -> None:
    """Play all speeds in turn, each to the moment when the ball is in the goal, and write what was seen and done."""
    import gymnasium
    import mikasa_robo_suite.vla.memory_envs  # type: ignore[import-not-found]  # noqa: F401 - registers environments
    import torch

    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    how: Any = {"obs_mode": "rgb", "control_mode": "pd_ee_delta_pose", "sim_backend": "physx_cpu"}
    environments = [gymnasium.make(name, num_envs=1, render_backend="cpu", **how) for name in SPEEDS]
    for seed in range(len(list(out.glob("*.npz"))), episodes):
        environment = environments[seed % len(environments)]
        world: Any = environment.unwrapped
        kept: dict[str, list[np.ndarray]] = {name: [] for name in (*CAMERAS, "state", "action")}
        seen, _ = environment.reset(seed=seed)
        expert, success = Expert(), False
        while not success and len(kept["action"]) < STEPS:
            places = [thing.pose.p[0].numpy().copy() for thing in (world.ball, world.agent.tcp, world.goal_region)]
            action = expert.act(*places)
            for camera in CAMERAS:
                kept[camera].append(seen["sensor_data"][camera]["rgb"][0].cpu().numpy())
            kept["state"].append(seen["agent"]["qpos"][0].cpu().numpy())
            kept["action"].append(action)
            seen, _, _, _, info = environment.step(torch.as_tensor(action)[None])
            success = bool(info["success"].item())
        arrays: dict[str, Any] = {name: np.stack(values) for name, values in kept.items()}
        arrays |= {"success": success, "instruction": world.LANGUAGE_INSTRUCTION}
        unfinished = out / "unfinished"  # an episode whose writing is interrupted does not count
        with unfinished.open("wb") as file:
            np.savez_compressed(file, **arrays)
        unfinished.rename(out / f"{seed:04d}.npz")
        print(f"seed {seed}, {SPEEDS[seed % len(SPEEDS)]}: {'reached' if success else 'missed'}", flush=True)


def convert(raw: Path, out: Path) -> None:
    """The episodes that reached the goal, as a dataset."""
    from video2act.data import DatasetWriter, Episode

    files = [np.load(path, allow_pickle=False) for path in sorted(raw.glob("*.npz"))]
    height, width = files[0][CAMERAS[0]].shape[1:3]
    form: Any = {"fps": FPS, "robot": "panda", "cameras": CAMERAS, "image_size": (height, width)}
    form |= {"state_names": STATE_NAMES, "action_names": ACTION_NAMES, "relative_actions": ACTION_NAMES[:6]}
    reached = [episode for episode in files if episode["success"]]
    with DatasetWriter.create(out, **form) as writer:
        for episode in reached:
            frames = {camera: episode[camera] for camera in CAMERAS}
            state, action = episode["state"].astype(np.float32), episode["action"].astype(np.float32)
            writer.add_episode(Episode(frames, state, action, str(episode["instruction"])))
    print(f"{out}: {len(reached)} of {len(files)} episodes, those that reached the goal")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("record", "convert"))
    parser.add_argument("folders", nargs="+", type=Path, help="record: the one to write; convert: to read, to write")
    parser.add_argument("--episodes", type=int, default=100)
    chosen = parser.parse_args()
    if chosen.verb == "record":
        record(*chosen.folders, episodes=chosen.episodes)
    else:
        convert(*chosen.folders)
