"""`video2act probe`: which tap of a video model says most about the next actions, on your own data, in minutes.

Rows share their episodes, moments and seeds, so they compare in pairs. Done rows are kept, so an interrupted probe goes
on. The table says first whether the task can show a difference. If the true future lowers the error no further than the
past does, the task cannot rank taps that look ahead.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from video2act.config import PolicyConfig
from video2act.config.plain import damage_named, read_json
from video2act.config.probe import ProbeOptions
from video2act.data import Dataset, FrameStore
from video2act.data.fit import check_columns
from video2act.data.opening import open_chosen
from video2act.files.atomic import write_text
from video2act.files.differences import differences
from video2act.files.fingerprint import fingerprint
from video2act.files.lock import FolderLock
from video2act.files.video_model import own_weights
from video2act.presets import DataSpec
from video2act.training.choice import check_kind, choose_policy
from video2act.training.probe_arms import Arm, arms_of, split_of
from video2act.viz.dots import Dots, draw_dots
from video2act.viz.markdown import markdown_table

BLIND = "blind: no features"
T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""quantiles of t for 1 to 30 degrees of freedom: scipy is no dependency of a probe"""


@dataclass(frozen=True)
class Row:
    """What an arm reached: held-out error of each seed, in units of the actions' variance."""

    name: str
    weights: str
    looks_ahead: bool
    errors: list[float]


def probe(options: ProbeOptions) -> Path:
    """Run every arm, and write the table anew after each.

    Returns:
        The path of `table.md`.
    Raises:
        ValueError: the policy has no such stream, too few episodes, or features that do not fit into memory.
    """
    dataset = open_chosen(options)
    check_columns(dataset)
    policy = choose_policy(options, DataSpec.of(dataset))
    arms = list(arms_of(options, policy.system2))
    for arm in arms:
        check_kind(arm.system2, options.video_model)
    _check_predicted(options, dataset)
    needed = options.labelled + options.held_out
    if len(dataset) < needed:
        raise ValueError(
            f"{options.labelled} labelled and {options.held_out} held-out episodes make {needed}, the data have "
            f"{len(dataset)}; lower --labelled or --held-out, or record more"
        )
    from video2act.training import probing  # torch: after the input was checked

    out = options.out
    with FolderLock(out, "a probe"):
        settings = _identity(options, dataset, policy)
        done = _read(out, settings)
        store = FrameStore(dataset)
        split = split_of(options, dataset)
        moments = probing.moments_of(options, dataset, horizon=policy.horizon, split=split)
        if BLIND not in done:
            done[BLIND] = probing.measure(options, moments, num_layers=1, former=arms[0].stream.former, split=split)
        _write(out, options, settings, _rows(arms, done))
        for arm in arms:
            if arm.name not in done:
                system2 = probing.system2_of(arm, options)
                seen = replace(
                    moments, features=probing.see(arm, system2, dataset, store=store, options=options, split=split)
                )
                num_layers = len(system2.mixtures) and len(system2.config.backbone.feature_layers)
                given = {"num_layers": num_layers or 1, "former": arm.stream.former, "split": split}
                done[arm.name] = probing.measure(options, seen, **given)
            _write(out, options, settings, _rows(arms, done))
    _print(_rows(arms, done))
    return out / "table.md"


def _check_predicted(options: ProbeOptions, dataset: Dataset) -> None:
    names = dataset.stats["state"].names or ()
    for name in options.predict:
        if name not in names:
            listed = ", ".join(names) or "without names"
            raise ValueError(f"--predict {name}: the state has no such dimension; those of the data are {listed}")


# what is written


def _rows(arms: list[Arm], done: dict[str, list[float]]) -> list[Row]:
    rows = [Row(BLIND, "blind", False, done[BLIND])] if BLIND in done else []
    for arm in arms:
        if arm.name in done:
            rows.append(Row(arm.name, arm.weights, arm.stream.imagine.num_frames > 0, done[arm.name]))
    return rows


def verdict(rows: list[Row]) -> str:
    """Whether the probe can tell: does the true future lower the error beyond what the best past gives, and does the
    past lower it at all?"""
    ceilings = [row for row in rows if row.weights == "future"]
    pasts = [row for row in rows if row.weights in ("trained", "latents") and not row.looks_ahead]
    if not ceilings or not pasts:
        return "no ceiling beside the past was measured (weights trained and future), so nothing is said of the task"
    ceiling, past = (min(group, key=lambda row: float(np.mean(row.errors))) for group in (ceilings, pasts))
    figures = f"{np.mean(past.errors):.3f} without, {np.mean(ceiling.errors):.3f} with the true future"
    blind = [float(np.mean(row.errors)) for row in rows if row.weights == "blind"]
    if blind and blind[0] <= np.mean(past.errors):
        shares = f"{blind[0]:.3f} without features, {np.mean(past.errors):.3f} with the best of the past"
        few = f". TOO FEW LABELLED EPISODES to rank taps: {shares}; raise --labelled"
    else:
        few = ""
    gain = np.array(past.errors) - np.array(ceiling.errors)
    if len(gain) == 1:
        remedy = "One seed has no interval; probe with more --seeds, in another folder"
        return f"NOT KNOWN whether this task can tell: {figures}. {remedy}{few}"
    half = t_quantile(len(gain)) * float(gain.std(ddof=1)) / len(gain) ** 0.5
    low, high = float(gain.mean()) - half, float(gain.mean()) + half
    interval = f"a difference of {gain.mean():+.3f}, 95 % interval {low:+.3f} to {high:+.3f} (t over {len(gain)} seeds)"
    if low > 0:
        return f"this task can tell: {figures}, {interval}{few}"
    if high > 0:
        remedy = "The interval holds 0; with more --seeds, in another folder, it is narrower"
        return f"NOT KNOWN whether this task can tell: {figures}, {interval}. {remedy}{few}"
    return (
        f"THIS TASK CANNOT TELL whether looking ahead helps: {figures}, {interval}. Even the truth brings nothing{few}"
    )


def t_quantile(num_seeds: int) -> float:
    """Half the width of a 95 % t interval, in standard errors; from 32 seeds on that of 31, which is 4 % too wide."""
    return T_975[min(num_seeds - 1, len(T_975)) - 1]


def _identity(options: ProbeOptions, dataset: Dataset, policy: PolicyConfig) -> dict[str, Any]:
    """What a row depends on, but for what its name says."""
    names = ("labelled", "held_out", "seeds", "seed", "every", "num_steps", "stream", "camera", "predict")
    chosen = {name: getattr(options, name) for name in names}
    made = {"policy": asdict(policy), "data": dataset.fingerprint, "model": _model(options)}
    return json.loads(json.dumps(chosen | made, default=str))


def _model(options: ProbeOptions) -> str:
    """Fingerprint of the video model's weights; empty for a published one at its own source."""
    return fingerprint(own_weights(options.video_model)) if options.video_model else ""


def _read(out: Path, now: dict[str, Any]) -> dict[str, list[float]]:
    path = out / "probe.json"
    if not path.is_file():
        return {}
    with damage_named(path, "remove it to probe from the start"):
        before = read_json(path)
        then, errors = dict(before["settings"]), {row["name"]: row["errors"] for row in before["rows"]}
    changed = differences(then, now, words=("then", "now"))
    if changed:
        raise ValueError(f"{out} holds another probe ({'; '.join(changed)}); choose another folder, or remove it")
    return errors


def _write(out: Path, options: ProbeOptions, settings: dict[str, Any], rows: list[Row]) -> None:
    if not rows:
        return
    text = json.dumps({"settings": settings, "rows": [asdict(row) for row in rows]}, indent=2)
    write_text(out / "probe.json", text + "\n")
    columns = ("row", "error", *(f"seed {options.seed + i}" for i in range(len(rows[0].errors))))
    cells = [(row.name, *(f"{error:.3f}" for error in (np.mean(row.errors), *row.errors))) for row in rows]
    target = ", ".join(options.predict) or "the next actions"
    told = (
        f"Mean square error of {target} on {options.held_out} held-out episodes, {options.labelled} labelled ones, "
        "as a share of the variance: 1 is predicting the mean."
    )
    write_text(out / "table.md", f"{verdict(rows)}\n\n{markdown_table(columns, cells)}\n\n{told}\n")
    draw_dots(out / "probe.png", [Dots(row.name, row.errors) for row in rows], x_title=f"held-out error of {target}")


def _print(rows: list[Row]) -> None:
    table = Table("row", "error", "each seed", title=verdict(rows))
    for row in rows:
        table.add_row(row.name, f"{np.mean(row.errors):.3f}", " ".join(f"{error:.3f}" for error in row.errors))
    Console().print(table)
