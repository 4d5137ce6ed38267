"""`video2act sweep`, and `sweep` in Python: success against the refresh interval of System 2, and against latency.

One evaluation per point, all on the same seeds. Against n: System 2 in lockstep, refreshed every n control steps.
Against latency: the virtual clock, where System 2 refreshes as often as its latency allows. Both are reproducible on
any machine. Each evaluation keeps its folder and is not repeated, so an interrupted sweep goes on.
"""

import csv
import io
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from video2act.config import SimulatedLatency, SweepOptions
from video2act.envs import expand_suites
from video2act.files.atomic import write_text
from video2act.files.evaluation_folder import INFO_FILE, is_of, read_evaluation
from video2act.programs.evaluate import evaluate
from video2act.viz.curves import Curve, draw_curves

TITLES = {
    "refresh_every": "control steps between refreshes of System 2 (n)",
    "system1_latency_ms": "latency of System 1 (ms, simulated)",
    "system2_latency_ms": "latency of System 2 (ms, simulated)",
}


def sweep(run: Path | str, env: str, *, show: bool = False, **options: Any) -> Path:
    """Evaluate every point, and write `sweep.csv` and `sweep.png` anew after each.

    Args:
        run: the policy's run folder.
        env: name of an environment, or of a suite.
        show: print progress and tables.
        options: the fields of `SweepOptions`.
    Returns:
        The path of the csv.
    Raises:
        TypeError: an option does not exist.
        ValueError: an option is out of range, or a folder holds another evaluation.
    """
    run, chosen = Path(run), SweepOptions(**options)
    out = chosen.out or run / "sweep"
    points: list[tuple[str, float, dict[str, Any]]] = [
        ("refresh_every", float(n), {"refresh_every": n}) for n in chosen.refresh_every
    ]
    for ms in chosen.latency_ms:
        latency = replace(SimulatedLatency(), **{chosen.which: ms / 1000})
        points.append((f"{chosen.which}_latency_ms", float(ms), {"simulate_latency": latency}))
    names = ("episodes", "seed", "image_size", "runtime")
    shared = {name: getattr(chosen, name) for name in names}
    shown, envs = [chosen.image_size] * 2, list(expand_suites([env]))
    rows: list[dict[str, Any]] = []
    for curve, x, point in points:
        folder = out / f"{curve}_{x:g}"
        if not (folder / INFO_FILE).is_file():
            machine = {"workers": chosen.workers, "pool": chosen.pool, "device": chosen.device, "num_videos": 0}
            evaluate(run, env, out=folder, show=show, **shared, **machine, **point)
        info = read_evaluation(folder)
        seeds = list(range(chosen.seed, chosen.seed + chosen.episodes))
        if chosen.image_size is None and not rows:  # all points alike
            shown = info["settings"].get("image_size")
        asked = {"env": envs, "seeds": seeds, "image_size": shown, "runtime": asdict(chosen.runtime)}
        asked |= {"blind": False, "instruction": None, "visual_shift": None}
        _check_same(info["settings"], folder, **asked)
        # by its fingerprint, not by its path, which may be spelt in several ways; older evaluations have none
        is_same = info.get("policy_fingerprint") or Path(info["settings"]["run"] or "").resolve() == run.resolve()
        if not (is_same and is_of(run, info)):
            raise ValueError(f"{folder} evaluated another policy than {run} has now; remove it, or choose another out")
        rows.append(_row(curve, x, info=info))
        _write(out, rows)
    return out / "sweep.csv"


def _check_same(settings: dict[str, Any], folder: Path, **asked: Any) -> None:
    for name, value in asked.items():
        if (found := settings.get(name)) != value:
            raise ValueError(
                f"{folder} holds an evaluation with {name} = {found}, not {value}; choose another out, or remove it"
            )


def _row(curve: str, x: float, *, info: dict[str, Any]) -> dict[str, Any]:
    success, staleness = info["overall"]["success"], info["staleness"]["control_steps"] or {}
    low, high = success["wilson_95"]
    names = ("p50", "p95", "max")
    return {
        "curve": curve,
        "x": x,
        "successes": success["successes"],
        "n_episodes": success["n_episodes"],
        "success": success["successes"] / success["n_episodes"],
        "wilson_95_low": low,
        "wilson_95_high": high,
        **{f"staleness_steps_{name}": round(staleness[name], 3) if name in staleness else "" for name in names},
        "held_steps": info["runtime"]["held_steps"],
        "control_steps": info["control_steps"],
    }


def _write(out: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    lines = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    lines.writeheader()
    lines.writerows(rows)
    write_text(out / "sweep.csv", text.getvalue())
    curves = []
    for name in dict.fromkeys(row["curve"] for row in rows):
        chosen = [row for row in rows if row["curve"] == name]
        curves.append(
            Curve(
                TITLES[name],
                *([row[column] for row in chosen] for column in ("x", "success", "wilson_95_low", "wilson_95_high")),
            )
        )
    draw_curves(out / "sweep.png", curves, y_title="success (Wilson 95 %)")
