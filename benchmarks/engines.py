"""What an engine saves: plans and refreshes of one policy by PyTorch, onnxruntime and OpenVINO, in turns, in one run.

    python benchmarks/engines.py                    # the preset tiny with random weights, which is as fast
    python benchmarks/engines.py --run runs/demo/policy --engines onnxruntime
    python benchmarks/engines.py --sizes tiny mid   # and System 1 of hidden 512, depth 8

Every ratio stands beside the largest difference from PyTorch, on the same observations. PyTorch runs as it does in
`Runner`: eager, with one thread. Each engine has one thread, too.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from video2act.clips import FrameHistory
from video2act.engines.choice import load_policy
from video2act.engines.export import export_policy
from video2act.policy import Video2Act
from video2act.presets import DataSpec, make_preset
from video2act.programs.bench import Work, measure
from video2act.programs.export import drawn_observations
from video2act.statistics import Statistics
from video2act.types import VideoCondition

INSTRUCTION = "push the puck to the goal"
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "mid": {"system1.hidden": 512, "system1.depth": 8, "system1.num_heads": 8},
}


def random_run(size: str, folder: Path) -> Path:
    """A run folder with random weights: timing does not depend on them."""
    torch.manual_seed(0)
    unit = Statistics(mean=(0.0,) * 4, std=(1.0,) * 4, min=(-1.0,) * 4, max=(1.0,) * 4)
    config = make_preset("tiny", DataSpec(4, 4, 80.0, ("front", "wrist"))).replace(SIZES[size])
    Video2Act(config, {"state": unit, "action": unit}).save(folder)
    return folder


def compare(run: Path, engines: list[str], *, repeats: int, int8: bool) -> dict[str, Any]:
    """Milliseconds (median) of one plan and one refresh by each engine, their ratio to PyTorch's, and the parity."""
    policy = Video2Act.load(run)
    config = policy.config
    draw = drawn_observations(config, policy.statistics["state"], instruction=INSTRUCTION)
    observations = [next(draw) for _ in range(24)]
    history = FrameHistory(config.system2.streams if config.system2 else ())
    for observation in observations:
        history.append(observation)
    clips, now = history.clips(config.fps), observations[-1]
    systems: dict[str, Any] = {"torch": policy}
    parity: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for engine in engines:
            for is_int8 in (False, True) if int8 and engine == "onnxruntime" else (False,):
                name, out = engine + " int8" * is_int8, Path(folder) / f"{engine}{is_int8}"
                options: dict[str, Any] = {"observations": observations, "checked_on": "drawn", "int8": is_int8}
                export_policy(policy, out, engine=engine, **options)  # type: ignore[arg-type]
                systems[name] = load_policy(out, engine)
                record = systems[name].exported.parity
                parity[name] = record["int8"] if is_int8 else {key: record[key] for key in ("actions", "tokens")}
        work: Work = {}
        for name, system in systems.items():
            condition = VideoCondition(system.perceive(clips, [INSTRUCTION]), now.time, 0)
            work[f"{name}: plan"] = lambda system=system, condition=condition: system.act(now, condition)
            if config.system2:
                work[f"{name}: refresh"] = lambda system=system: system.perceive(clips, [INSTRUCTION])
        seconds = {name: float(np.median(values)) for name, values in measure(work, repeats).items()}
    return {
        name: {
            "ms": 1000 * value,
            "times_faster": seconds[f"torch: {name.partition(': ')[2]}"] / value,
            **parity.get(name.partition(":")[0], {}),
        }
        for name, value in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a policy's run folder; default: random weights")
    parser.add_argument("--sizes", nargs="+", default=["tiny"], choices=SIZES)
    parser.add_argument("--engines", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in ["run"] if chosen.run else chosen.sizes:
            run = chosen.run or random_run(size, Path(folder) / size)
            found[size] = compare(run, chosen.engines, repeats=chosen.repeats, int8=chosen.int8)
    print("| size | what | ms | times faster | largest difference: actions, tokens |\n|---|---|---|---|---|")
    for size, rows in found.items():
        for name, row in rows.items():
            differences = f"{row['actions']:.1e}, {row['tokens']:.1e}" if "actions" in row else ""
            print(f"| {size} | {name} | {row['ms']:.2f} | {row['times_faster']:.1f} | {differences} |")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
