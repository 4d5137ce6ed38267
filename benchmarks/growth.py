"""How a dataset's size changes what it costs to open and to read.

    python benchmarks/growth.py

Makes datasets of 10, 100, 1,000 and 10,000 episodes and reads batches of one image a sample. The episodes share the
bytes of one video by hard links, so that no disk is filled. Prints for each size the time to open it, to the first
batch and for a later batch, once with all episodes in memory that the budget holds (kept) and once with none (sought),
and the largest memory of the process. The last column is the rate of training steps of `--step-ms` beside the loader,
sought over kept.
"""

import json
import os
import resource
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from video2act.cli_flags import parse
from video2act.data import DatasetWriter, Episode, FrameStore, LeRobotDataset
from video2act.data.batches import BatchLoader
from video2act.data.fit import batch_bytes
from video2act.presets import DataSpec, make_preset

CHUNK = 1000
"""files in a folder"""


@dataclass(frozen=True, kw_only=True)
class GrowthOptions:
    """Time a dataset as it grows."""

    episodes: tuple[int, ...] = (10, 100, 1000, 10000)
    """sizes to measure"""
    frames: int = 100
    """frames of an episode"""
    image_px: int = 128
    """side of the recorded images"""
    batch_size: int = 32
    """samples of a batch"""
    num_batches: int = 10
    """later batches to time"""
    step_ms: float = 200.0
    """time of a training step, for the rate; about 200 for the preset tiny on one core"""


def main(options: GrowthOptions) -> dict[int, dict[str, float]]:
    """Seconds, MiB and the share of the rate, for each size."""
    found = {}
    print("| episodes | open s | first batch s, sought | batch ms, kept | batch ms, sought | MiB | rate, sought/kept |")
    print("|---|---|---|---|---|---|---|")
    for count in options.episodes:
        with tempfile.TemporaryDirectory() as folder:
            grow(Path(folder) / "set", count, options=options)
            row = found[count] = measure(Path(folder) / "set", options=options)
        print(f"| {count} | " + " | ".join(f"{value:.3g}" for value in row.values()) + " |", flush=True)
    return found


def measure(root: Path, *, options: GrowthOptions) -> dict[str, float]:
    """One size."""
    began = perf_counter()
    dataset = LeRobotDataset(root)
    opened = perf_counter() - began
    spec = DataSpec(dataset.state_dim, dataset.state_dim, dataset.fps, dataset.cameras)
    config = replace(make_preset("tiny", spec), system2=None)
    small = batch_bytes(config, options.batch_size, is_cached=True)
    seconds, first = {}, 0.0
    for way, budget in (("sought", small), ("kept", 2**31)):
        store = FrameStore(dataset, budget)
        loader = BatchLoader(dataset, store, config=config, batch_size=options.batch_size, seed=0)
        if way == "kept":  # as after the first epoch
            steps = range(options.num_batches + 1)
            for episode in {episode for step in steps for episode, _ in loader.places(step)}:
                store.read([(episode, (0,))], "top", size=(config.image_px, config.image_px), rule=config.image)
        began = perf_counter()
        loader[0]
        first = first or perf_counter() - began
        times = []
        for step in range(1, options.num_batches + 1):
            began = perf_counter()
            loader[step]
            times.append(perf_counter() - began)
        seconds[way] = float(np.median(times))
    step = options.step_ms / 1000
    return {
        "open": opened,
        "first": first,
        "kept": 1000 * seconds["kept"],
        "sought": 1000 * seconds["sought"],
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
        "rate": (step + seconds["kept"]) / (step + seconds["sought"]),
    }


def grow(root: Path, count: int, *, options: GrowthOptions) -> None:
    """A dataset of equal episodes, in the layout of our writer."""
    length, px = options.frames, options.image_px
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 255, (px // 8 + 1, (px + length) // 8 + 1, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    frames = np.stack([scene[:px, k : k + px] for k in range(length)])
    state = rng.normal(size=(length, 3)).astype(np.float32)
    names = ("x", "y", "z")
    with DatasetWriter.create(
        root, fps=20.0, robot="arm", cameras=("top",), image_size=px, state_names=names, action_names=names
    ) as writer:
        writer.add_episode(Episode({"top": frames}, state, state, "push"))
    first = {kind: next(root.glob(f"{kind}/**/file-000.*")) for kind in ("data", "meta/episodes", "videos")}
    data, meta = pq.read_table(first["data"]), pq.read_table(first["meta/episodes"])
    for episode in range(1, count):
        chunk, file = divmod(episode, CHUNK)
        begin, end = episode * length, (episode + 1) * length
        changes = {"dataset_from_index": begin, "dataset_to_index": end, "episode_index": episode}
        changes |= {name: chunk for name in meta.column_names if name.endswith("chunk_index")}
        changes |= {name: file for name in meta.column_names if name.endswith("file_index")}
        tables = {
            "data": change(data, {"episode_index": [episode] * length, "index": list(range(begin, end))}),
            "meta/episodes": change(meta, {name: [value] for name, value in changes.items()}),
        }
        for kind, path in first.items():
            path = path.parents[1] / f"chunk-{chunk:03d}/file-{file:03d}{path.suffix}"
            path.parent.mkdir(exist_ok=True)
            if kind == "videos":
                os.link(first[kind], path)
            else:
                pq.write_table(tables[kind], path)
    info = json.loads((root / "meta/info.json").read_text())
    info |= {"total_episodes": count, "total_frames": count * length}
    (root / "meta/info.json").write_text(json.dumps(info))


def change(table: pa.Table, columns: dict[str, list[int]]) -> pa.Table:
    """The table with other columns of numbers."""
    for name, values in columns.items():
        place = table.column_names.index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type))
    return table


if __name__ == "__main__":
    main(parse(GrowthOptions, sys.argv[1:], program="benchmarks/growth.py"))
