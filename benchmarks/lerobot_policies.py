"""CPU latency of our `tiny` beside LeRobot's own ACT and Diffusion Policy, on one thread, in turns, in one run.

    .interop/lerobot-0.6.1/bin/pip install onnxruntime
    .venv/bin/python benchmarks/lerobot_policies.py --export runs/tiny_onnx       # in our own environment
    .interop/lerobot-0.6.1/bin/python benchmarks/lerobot_policies.py --exported runs/tiny_onnx [--px 64] [--json FILE]

The measurement runs in LeRobot's virtual environment (`scripts/interop_venvs.sh`); its transformers cannot be exported
from, so the exported policy comes from ours. All policies have random weights, the same two
cameras, state and action sizes, and LeRobot's ones their default configs. A plan goes from a raw observation to a chunk
of raw actions; for LeRobot's policies that includes their processors. Policies execute different numbers of actions of
a chunk, so the time an executed action costs stands beside it; ours includes its share of System 2's refreshes.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
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
from video2act.statistics import Statistics
from video2act.types import Observation, VideoCondition

CAMERAS, STATE_DIM, ACTION_DIM, FPS = ("front", "wrist"), 4, 4, 20.0
INSTRUCTION = "push the puck to the goal"


def drawn(px: int, count: int) -> list[Observation]:
    rng = np.random.default_rng(0)
    return [
        Observation(
            {camera: rng.integers(0, 256, (px, px, 3), np.uint8) for camera in CAMERAS},
            rng.uniform(-1, 1, STATE_DIM).astype(np.float32),
            INSTRUCTION,
            step / FPS,
        )
        for step in range(count)
    ]


def export(out: Path) -> None:
    """Writes `tiny` with random weights for onnxruntime."""
    with tempfile.TemporaryDirectory() as folder:
        policy, observations = random_tiny(Path(folder) / "run"), drawn(64, 40)
        export_policy(policy, out, engine="onnxruntime", observations=observations, checked_on="drawn")


def random_tiny(run: Path) -> Video2Act:
    torch.manual_seed(0)
    unit = Statistics(mean=(0.0,) * 4, std=(1.0,) * 4, min=(-1.0,) * 4, max=(1.0,) * 4)
    config = make_preset("tiny", DataSpec(STATE_DIM, ACTION_DIM, FPS, CAMERAS))
    Video2Act(config, {"state": unit, "action": unit}).save(run)
    return Video2Act.load(run)


def ours(observations: list[Observation], engine: str, system: Any) -> tuple[Work, int, int, int]:
    """A plan and a refresh of `tiny`; its horizon, `execute_steps` and `refresh_every`."""
    config = system.config
    history = FrameHistory(config.system2.streams if config.system2 else ())
    for observation in observations:
        history.append(observation)
    clips, now = history.clips(FPS), observations[-1]
    condition = VideoCondition(system.perceive(clips, [INSTRUCTION]), now.time, 0)
    work: Work = {
        f"tiny, {engine}": lambda: system.act(now, condition),
        f"tiny, {engine}: one refresh of System 2": lambda: system.perceive(clips, [INSTRUCTION]),
    }
    return work, config.horizon, config.execute_steps, config.refresh_every


def theirs(kind: str, observation: Observation, px: int) -> tuple[Callable[[], Any], int, int]:
    """A plan of a policy of LeRobot with its default config; actions in a chunk, and how many of them it executes."""
    from lerobot.configs.types import FeatureType, PolicyFeature  # type: ignore[import-not-found]
    from lerobot.policies.factory import (  # type: ignore[import-not-found]
        get_policy_class,
        make_policy_config,
        make_pre_post_processors,
    )

    features = {f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, (3, px, px)) for name in CAMERAS}
    features["observation.state"] = PolicyFeature(FeatureType.STATE, (STATE_DIM,))
    action = {"action": PolicyFeature(FeatureType.ACTION, (ACTION_DIM,))}
    # pretrained weights would be downloaded, and cost the same time
    options = {"input_features": features, "output_features": action, "pretrained_backbone_weights": None}
    config = make_policy_config(kind, device="cpu", push_to_hub=False, **options)
    sizes = {"observation.state": STATE_DIM, "action": ACTION_DIM}
    values = {"mean": 0.0, "std": 1.0, "min": -1.0, "max": 1.0}
    stats = {key: {name: torch.full((size,), each) for name, each in values.items()} for key, size in sizes.items()}
    stats |= {
        key: {name: torch.full((3, 1, 1), each) for name, each in values.items()} for key in features if "image" in key
    }
    torch.manual_seed(0)
    policy = get_policy_class(kind)(config).eval()
    before, after = make_pre_post_processors(config, dataset_stats=stats)

    def batch() -> dict[str, Any]:
        images = {
            f"observation.images.{name}": torch.from_numpy(image).permute(2, 0, 1).float() / 255
            for name, image in observation.images.items()
        }
        return before({**images, "observation.state": torch.from_numpy(observation.state), "task": INSTRUCTION})

    def plan() -> Any:
        with torch.inference_mode():
            policy.reset()
            # the first action of an episode makes a plan, which fills the queue
            return after(policy.select_action(batch()))

    plan()
    chunk = config.chunk_size if kind == "act" else config.horizon
    return plan, chunk, config.n_action_steps


def compare(px: int, exported: Path | None, *, repeats: int) -> list[dict[str, Any]]:
    """One row per policy: medians in milliseconds, and how many times as long as our tiny in PyTorch."""
    observations = drawn(px, 24)
    work: Work = {}
    chunks: dict[str, tuple[int, int, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        systems: dict[str, Any] = {"torch": random_tiny(Path(folder) / "run")}
        if exported:
            systems["onnxruntime"] = load_policy(exported, "onnxruntime")
        for engine, system in systems.items():
            own, *sizes = ours(observations, engine, system)
            work |= own
            chunks[f"tiny, {engine}"] = tuple(sizes)  # type: ignore[assignment]
        for kind in ("act", "diffusion"):
            plan, chunk, executed = theirs(kind, observations[-1], px)
            work[f"LeRobot {kind}"] = plan
            chunks[f"LeRobot {kind}"] = (chunk, executed, 0)
        seconds = {name: float(np.median(values)) for name, values in measure(work, repeats).items()}
    first = seconds[next(iter(chunks))]
    rows = []
    for name, (chunk, executed, refresh_every) in chunks.items():
        refresh = seconds.get(f"{name}: one refresh of System 2", 0.0)
        action = seconds[name] / executed + (refresh / refresh_every if refresh_every else 0.0)
        rows.append(
            {
                "policy": name,
                "plan_ms": 1000 * seconds[name],
                "plan_ratio": seconds[name] / first,
                "refresh_ms": 1000 * refresh,
                "chunk": chunk,
                "executed": executed,
                "ms_per_executed_action": 1000 * action,
            }
        )
    for row in rows:
        row["action_ratio"] = row["ms_per_executed_action"] / rows[0]["ms_per_executed_action"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--px", type=int, default=64, help="side of the pictures; tiny's own is 64")
    parser.add_argument("--exported", type=Path, help="what --export has written; default: without onnxruntime")
    parser.add_argument("--export", type=Path, help="write that folder, and end")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.export:
        export(chosen.export)
        return
    rows = compare(chosen.px, chosen.exported, repeats=chosen.repeats)
    print("| policy | one plan, ms | times tiny's | chunk, executed | refresh, ms | ms per executed action | times |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        plan = f"{row['plan_ms']:.1f} | {row['plan_ratio']:.2f} | {row['chunk']}, {row['executed']}"
        refresh = f"{row['refresh_ms']:.1f}" if row["refresh_ms"] else "-"
        action = f"{row['ms_per_executed_action']:.2f} | {row['action_ratio']:.2f}"
        print(f"| {row['policy']} | {plan} | {refresh} | {action} |")
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
