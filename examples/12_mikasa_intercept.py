"""MIKASA-Robo's Intercept (a rolling ball), driven by our server through PyPI's openpi-client.

make mikasa-venv                                # a virtual environment of its own: ManiSkill needs numpy below 2
video2act serve RUN                             # elsewhere: a policy of these cameras, 9 numbers of state, 7 of action
. .mikasa/mesa.env && .mikasa/bin/python examples/12_mikasa_intercept.py --episodes 10
"""

import argparse
from typing import Any

import gymnasium
import mikasa_robo_suite.vla.memory_envs  # type: ignore[import-not-found]  # noqa: F401 - registers the environments
import numpy as np
import torch
from openpi_client.websocket_client_policy import WebsocketClientPolicy  # type: ignore[import-not-found]

CAMERAS, STATE_DIM, ACTION_DIM, FPS, STEPS = {"base_camera", "hand_camera"}, 9, 7, 20, 60


def connect(host: str, port: int) -> WebsocketClientPolicy:
    policy = WebsocketClientPolicy(host, port)
    served = policy.get_server_metadata()
    for name, ours in (("state_dim", STATE_DIM), ("action_dim", ACTION_DIM), ("period_s", 1 / FPS)):
        if served[name] != ours:
            raise SystemExit(f"Intercept has {name} {ours}, the served policy {served[name]}")
    if not set(served["cameras"]) <= CAMERAS:
        raise SystemExit(f"Intercept has the cameras {sorted(CAMERAS)}, the served policy needs {served['cameras']}")
    return policy


def play(environment: gymnasium.Env, policy: WebsocketClientPolicy, seed: int) -> bool:
    """One episode; whether the ball was in the goal at any moment."""
    seen, _ = environment.reset(seed=seed)
    execute_steps, success, plan = policy.get_server_metadata()["execute_steps"], False, np.empty(0)
    instruction = environment.unwrapped.LANGUAGE_INSTRUCTION  # type: ignore[attr-defined]
    for step in range(STEPS):
        is_due = step % execute_steps == 0
        message = {f"images/{name}": seen["sensor_data"][name]["rgb"][0].cpu().numpy() for name in CAMERAS}
        message |= {"state": seen["agent"]["qpos"][0].cpu().numpy(), "prompt": instruction}
        answer = policy.infer({**message, "time": step / FPS, "reset": step == 0, "plan": is_due})
        plan = answer["actions"] if is_due else plan
        action = torch.tensor(plan[step % execute_steps]).clamp(-1, 1)[None]
        seen, _, _, _, info = environment.step(action)
        success = success or bool(info["success"].item())
    return success


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="InterceptSlow-VLA-v0", help="or InterceptMedium-VLA-v0, InterceptFast-VLA-v0")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--server", default="127.0.0.1:8000")
    chosen = parser.parse_args()
    host, _, port = chosen.server.rpartition(":")
    policy = connect(host, int(port))
    how: Any = {"obs_mode": "rgb", "control_mode": "pd_ee_delta_pose", "sim_backend": "physx_cpu"}
    environment = gymnasium.make(chosen.env, num_envs=1, render_backend="cpu", **how)
    successes = [play(environment, policy, seed) for seed in range(1000, 1000 + chosen.episodes)]
    print(f"{chosen.env}: {sum(successes)} of {len(successes)} episodes")
