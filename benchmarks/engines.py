"""What an engine saves at several sizes: plans and refreshes by PyTorch, onnxruntime and OpenVINO, in turns.

    python benchmarks/engines.py                    # the preset tiny with random weights, which is as fast
    python benchmarks/engines.py --run runs/demo/policy --engines onnxruntime
    python benchmarks/engines.py --sizes tiny mid   # and System 1 of hidden 512, depth 8

`video2act bench` times one policy so; this adds sizes and weights of 8 bits. Every ratio stands beside the largest
difference from PyTorch, on the same observations.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from video2act.policy import Video2Act
from video2act.programs.bench import random_policy
from video2act.programs.bench.engines import engine_timings

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "mid": {"system1.hidden": 512, "system1.depth": 8, "system1.num_heads": 8},
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
    found: dict[str, dict[str, Any]] = {}
    print("| size | what | ms | times faster | largest difference |\n|---|---|---|---|---|")
    for size in ["run"] if chosen.run else chosen.sizes:
        policy = Video2Act.load(chosen.run) if chosen.run else random_policy("tiny", SIZES[size]).eval()
        for row in engine_timings(policy, chosen.engines, repeats=chosen.repeats, int8=chosen.int8):
            ms = 1000 * float(np.median(row.seconds))
            found.setdefault(size, {})[row.name] = {
                "ms": ms,
                "times_faster": row.times_faster,
                "difference": row.difference,
            }
            faster = "" if row.times_faster is None else f"{row.times_faster:.1f}"
            difference = "" if row.difference is None else f"{row.difference:.1e}"
            print(f"| {size} | {row.name} | {ms:.2f} | {faster} | {difference} |")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
