"""`video2act bench`: the time of each stage between a camera and an action, of a training step, and of engines.

Times on a shared machine are noisy: pieces of work run in turns, and medians are compared. Beside a ratio stands the
largest difference of both results.
"""

import json
import os
import platform
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from video2act.config.checks import check
from video2act.config.data_options import BenchOptions
from video2act.engines.choice import check_engine, check_exportable
from video2act.engines.folder import Engine
from video2act.files.atomic import write_text
from video2act.files.run_folder import load_config
from video2act.presets import make_preset
from video2act.programs.bench.timing import ROBOT, Timing, Work, measure, random_policy
from video2act.viz.markdown import markdown_table

__all__ = ["Timing", "Work", "bench", "measure", "random_policy"]

ENGINES: tuple[Engine, ...] = ("onnxruntime", "openvino")
COLUMNS = ("work", "p50 ms", "p95 ms", "times faster", "largest difference")


def bench(options: BenchOptions) -> dict[str, list[Timing]]:
    """Time everything and print the tables; write them as markdown and json if `out` is given.

    Returns:
        title of each table -> its rows.
    Raises:
        FileNotFoundError, ValueError: the run folder cannot be read, an unknown preset; `official` is no checkout.
        ImportError: `official` needs a package that is not installed.
    """
    config = load_config(options.run) if options.run else make_preset(options.preset, ROBOT)
    if options.run:
        check_engine(options.run, "torch")
    check(options.out is None or not options.out.is_file(), f"out={options.out} is a file; name a folder")
    if options.official:
        _check_released(options.official)

    import torch  # after the input was checked

    from video2act.policy import Video2Act
    from video2act.programs.bench.engines import engine_timings
    from video2act.programs.bench.stages import stage_timings
    from video2act.programs.bench.training import training_timings

    policy = Video2Act.load(options.run, options.device) if options.run else random_policy(options.preset)
    policy = policy.to(options.device).eval()
    repeats, tables, notes = options.repeats, dict[str, list[Timing]](), list[str]()
    with torch.no_grad():
        tables[f"Acting on {options.device}, {torch.get_num_threads()} threads"] = stage_timings(policy, repeats)
    tables["Training"] = training_timings(policy, repeats)
    try:
        check_exportable(config, has_system2=True)
        check(options.device == "cpu", f"they compute on the CPU, not on {options.device}")
        chosen: list[Engine] = [name for name in ENGINES if find_spec(name)]
        if missing := [name for name in ENGINES if name not in chosen]:
            notes.append(f"Engines that are not installed: {', '.join(missing)} (pip install 'video2act[engine]')")
        if chosen:
            tables["Engines, one thread each"] = engine_timings(policy.eval(), chosen, repeats=repeats)
    except ValueError as error:
        notes.append(f"Engines were not timed: {error}")
    if options.official:
        pairs = import_module("video2act_released.timing").load_pairs(options.official)
        with torch.no_grad():
            tables["The released code's modules beside ours"] = _beside(pairs, repeats)
    for title, rows in tables.items():
        Console().print(_table(title, rows))
    for note in notes:
        print(note)
    if options.out is not None:
        _write(options.out, tables, notes=notes, options=options)
    return tables


def _check_released(checkout: Path) -> None:
    """Raises ImportError, FileNotFoundError: the released code's modules cannot be loaded."""
    if find_spec("video2act_released") is None:
        raise ImportError("official needs video2act_released: pip install -e video2act_released")
    import_module("video2act_released.checkout").find_checkout(checkout)


def _beside(pairs: Any, repeats: int) -> list[Timing]:
    found = []
    for pair in pairs:
        difference = float((pair.theirs() - pair.ours()).abs().max())
        seconds = measure({"theirs": pair.theirs, "ours": pair.ours}, repeats)
        found.append(Timing(pair.name, seconds["ours"], seconds["theirs"], difference))
    return found


def _cells(row: Timing) -> tuple[str, ...]:
    p50, p95 = (f"{1000 * np.percentile(row.seconds, share):.2f}" for share in (50, 95))
    faster = "" if row.times_faster is None else f"{row.times_faster:.1f}"
    return row.name, p50, p95, faster, "" if row.difference is None else f"{row.difference:.1e}"


def _table(title: str, rows: list[Timing]) -> Table:
    count = len(COLUMNS) if any(row.than is not None for row in rows) else 3
    table = Table(*COLUMNS[:count], title=title)
    for row in rows:
        table.add_row(*_cells(row)[:count])
    return table


def _write(out: Path, tables: dict[str, list[Timing]], *, notes: list[str], options: BenchOptions) -> None:
    from video2act.evaluation.findings import versions

    out.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    said = {"policy": str(options.run or options.preset), "device": options.device, "machine": machine}
    lines = ["# video2act bench", "", *(f"- {name}: {value}" for name, value in said.items()), ""]
    for title, rows in tables.items():
        lines += [f"## {title}", "", markdown_table(COLUMNS, map(_cells, rows)), ""]
    write_text(out / "bench.md", "\n".join([*lines, *notes]) + "\n")
    numbers = {
        title: [
            {
                "work": row.name,
                "seconds": row.seconds.tolist(),
                "times_faster": row.times_faster,
                "difference": row.difference,
            }
            for row in rows
        ]
        for title, rows in tables.items()
    }
    content = {**said, "versions": versions(), "notes": notes, "tables": numbers}
    write_text(out / "bench.json", json.dumps(content, indent=2) + "\n")
