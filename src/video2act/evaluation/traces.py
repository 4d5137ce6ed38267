"""`traces.safetensors`: what every episode of an evaluation did, under names `ENV SEED FIELD`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from video2act.files.atomic import write_bytes
from video2act.trace import Trace, trace_of

TRACES_FILE = "traces.safetensors"


def write_traces(folder: Path, traces: Sequence[tuple[str, int, Trace]]) -> None:
    """Write the traces of environments and seeds, whole or not at all."""
    named = {f"{env} {seed} {name}": array for env, seed, trace in traces for name, array in trace.arrays().items()}
    write_bytes(folder / TRACES_FILE, save(named))


def read_traces(folder: Path) -> dict[tuple[str, int], Trace]:
    """(environment, seed) -> trace; empty for an evaluation that kept none. Raises ValueError: the file is damaged."""
    path = folder / TRACES_FILE
    if not path.is_file():
        return {}
    try:
        found: dict[tuple[str, int], dict[str, np.ndarray]] = {}
        for key, array in load(path.read_bytes()).items():
            env, seed, name = key.rsplit(" ", 2)
            found.setdefault((env, int(seed)), {})[name] = array
        return {key: trace_of(arrays) for key, arrays in found.items()}
    except (SafetensorError, ValueError, LookupError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it, or evaluate again") from error
