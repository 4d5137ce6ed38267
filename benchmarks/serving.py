"""What the wire costs: the same plans in this process and through a server on loopback, with three 224 px cameras.

    python benchmarks/serving.py [--plans 300]

Prints percentiles of both and of the difference, plan by plan, as json. Every plan is made from new pictures, which are
observed and planned on: here by two calls, there by one message, as openpi's clients send it.
"""

import argparse
import json
import time
from contextlib import closing

import numpy as np
import torch

from video2act import Video2Act
from video2act.config import ConnectionLimits
from video2act.presets import DataSpec, tiny_system1
from video2act.programs.serve import serving
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.dual_policy import DualPolicy
from video2act.runtime.slow_loop import InlineSlowLoop
from video2act.serving.client import RemotePolicy
from video2act.statistics import Statistics
from video2act.types import Observation

CAMERAS, SIZE, STATE_DIM, FPS = ("head", "left", "right"), 224, 14, 50.0


def random_policy() -> Video2Act:
    """System 1 alone: when System 2 refreshes differs from run to run, and would be measured with the wire."""
    torch.manual_seed(0)
    n = STATE_DIM
    unit = Statistics(mean=(0.0,) * n, std=(1.0,) * n, min=(-1.0,) * n, max=(1.0,) * n)
    return Video2Act(tiny_system1(DataSpec(n, n, FPS, CAMERAS)), {"state": unit, "action": unit}).eval()


def observations(number: int) -> list[Observation]:
    rng = np.random.default_rng(0)
    made = []
    for step in range(number):
        images = {camera: rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for camera in CAMERAS}
        made.append(Observation(images, rng.standard_normal(STATE_DIM).astype(np.float32), "push the puck", step / FPS))
    return made


def percentiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{q}_ms": round(1000 * float(np.percentile(seconds, q)), 3) for q in (50, 95, 99)}


def measure(num_plans: int, warm_up: int = 20) -> dict[str, dict[str, float]]:
    """Seconds per plan, here and there, and what the second takes longer; per kind of work."""
    torch.set_num_threads(1)
    policy = random_policy()
    here = DualPolicy(
        policy, InlineSlowLoop(policy, RefreshSpec((), refresh_every=1, control_fps=FPS)), cameras=CAMERAS
    )
    taken: dict[str, list[float]] = {"here": [], "served": [], "difference": []}
    unlimited = ConnectionLimits(max_messages_per_s=1e6)
    with serving(policy, limits=unlimited) as server, closing(RemotePolicy(server.address, timeout_s=60.0)) as there:
        here.reset()
        there.reset()
        for number, now in enumerate(observations(warm_up + num_plans)):
            seconds = {}
            for name in ("here", "served") if number % 2 else ("served", "here"):
                started = time.perf_counter()
                if name == "here":
                    here.observe(now)
                    here.infer(now)
                else:
                    there.infer(now)
                seconds[name] = time.perf_counter() - started
            if number >= warm_up:
                for name, value in seconds.items():
                    taken[name].append(value)
                taken["difference"].append(seconds["served"] - seconds["here"])
    return {name: percentiles(values) for name, values in taken.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plans", type=int, default=300)
    print(json.dumps(measure(parser.parse_args().plans), indent=2))
