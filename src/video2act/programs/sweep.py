"""`video2act sweep`: what a policy loses when System 2 is refreshed less often, and when a system is slow.

Two questions, one point of each curve per evaluation, all on the same seeds. Against n: System 2 in lockstep, refreshed every n
control steps. Against latency: the virtual clock, where it is refreshed as often as its latency allows. Both are reproducible on
any machine. Each evaluation keeps its folder, and one that is done is not repeated, so an interrupted sweep goes on.
"""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from video2act.config import RuntimeConfig, SimulatedLatency
from video2act.files.atomic import write_text
from video2act.files.run_folder import WEIGHTS_FILE
from video2act.programs.evaluate import INFO_FILE, evaluate
from video2act.refresh_rule import check_refresh_every
from video2act.viz.curves import Curve, draw_curves

COLUMNS: tuple[str, ...] = (
    "curve",
    "x",
    "successes",
    "n_episodes",
    "success",
    "wilson_95_low",
    "wilson_95_high",
    "staleness_steps_p50",
    "staleness_steps_p95",
    "staleness_steps_max",
    "held_steps",
    "control_steps",
)


def sweep(
    run: Path,
    env: str,
    *,
    refresh_every: Sequence[int] = (1, 2, 4, 8, 16, 32),
    latency_ms: Sequence[float] = (0, 50, 100, 200, 400, 800),
    which: Literal["system1", "system2"] = "system2",
    episodes: int = 25,
    seed: int = 1000,
    workers: int = 2,
    out: Path | None = None,
    device: str = "cpu",
    runtime: RuntimeConfig | None = None,
) -> Path:
    """Evaluate at every point, and write `sweep.csv` and `sweep.png`, anew after each.

    Returns:
        The path of the csv.
    Raises:
        ValueError: there is nothing to do, or a folder holds an evaluation of something else.
    """
    if not refresh_every and not latency_ms:
        raise ValueError("a sweep needs values of refresh_every or of latency_ms; both are empty")
    for n in refresh_every:  # all of them before the first evaluation
        check_refresh_every(n)
    if not all(math.isfinite(ms) and ms >= 0 for ms in latency_ms):
        raise ValueError(f"latency_ms must be finite and not negative, got {', '.join(f'{ms:g}' for ms in latency_ms)}")
    out, runtime = out or run / "sweep", runtime or RuntimeConfig()
    points: list[tuple[str, float, int | None, SimulatedLatency | None]] = [
        *(("refresh_every", float(n), n, None) for n in refresh_every),
        *((f"{which}_latency_ms", ms, None, replace(SimulatedLatency(), **{which: ms / 1000})) for ms in latency_ms),
    ]
    rows: list[dict[str, Any]] = []
    for curve, x, n, latency in points:
        folder = out / f"{curve}_{x:g}"
        if not (folder / INFO_FILE).is_file():
            evaluate(
                run,
                env,
                episodes=episodes,
                seed=seed,
                refresh_every=n,
                system2="inline",
                blind=False,
                instruction=None,
                workers=workers,
                num_videos=0,
                out=folder,
                device=device,
                runtime=runtime,
                simulate_latency=latency,
            )
        info = json.loads((folder / INFO_FILE).read_text())
        asked = {"run": str(run), "env": [env], "seeds": list(range(seed, seed + episodes)), "runtime": asdict(runtime)}
        _check_same(info["settings"], folder, **asked)
        if (run / WEIGHTS_FILE).stat().st_mtime > (folder / INFO_FILE).stat().st_mtime:
            raise ValueError(
                f"{run} was trained again after it was evaluated in {folder}; remove that, or choose another out"
            )
        rows.append(_row(curve, x, info=info))
        _write(out, rows)
    return out / "sweep.csv"


def _check_same(settings: dict[str, Any], folder: Path, **asked: Any) -> None:
    for name, value in asked.items():
        if settings[name] != value:
            raise ValueError(
                f"{folder} holds an evaluation with {name} = {settings[name]}, but {value} is asked for; choose another folder "
                "with out, or remove it"
            )


def _row(curve: str, x: float, *, info: dict[str, Any]) -> dict[str, Any]:
    success, staleness = info["overall"]["success"], info["staleness"]["control_steps"] or {}
    low, high = success["wilson_95"]
    values = (
        curve,
        x,
        success["successes"],
        success["n_episodes"],
        success["successes"] / success["n_episodes"],
        low,
        high,
        *(round(staleness[name], 3) if name in staleness else "" for name in ("p50", "p95", "max")),
        info["runtime"]["held_steps"],
        info["control_steps"],
    )
    return dict(zip(COLUMNS, values, strict=True))


def _write(out: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    lines = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    lines.writeheader()
    lines.writerows(rows)
    write_text(out / "sweep.csv", text.getvalue())
    titles = {
        "refresh_every": "control steps between refreshes of System 2 (n)",
        "system1_latency_ms": "latency of System 1 (ms, simulated)",
        "system2_latency_ms": "latency of System 2 (ms, simulated)",
    }
    curves = []
    for name in dict.fromkeys(row["curve"] for row in rows):
        chosen = [row for row in rows if row["curve"] == name]
        curves.append(
            Curve(
                titles[name],
                [float(row["x"]) for row in chosen],
                [row["success"] for row in chosen],
                [row["wilson_95_low"] for row in chosen],
                [row["wilson_95_high"] for row in chosen],
            )
        )
    draw_curves(out / "sweep.png", curves, y_title="success (Wilson 95 %)")
