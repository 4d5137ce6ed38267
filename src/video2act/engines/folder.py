"""The folder of an exported policy.

```
engine.json          this file's `Exported`: engine, parts, arrays' meaning, the result of the check
config.json, stats.json, instructions.json, scenes.json, data.json    as in the run folder
arrays.npz           schedule of the denoising, bounds of the state, map of the actions; embeddings of instructions
instruction.onnx     bytes of an instruction -> what both systems read of it; only with encoders that read bytes
conditions.onnx      images, state, age, text and video tokens -> keys and values of System 1
step.onnx            noisy actions, timestep, keys and values -> prediction
perceive.onnx        clips and text -> tokens of System 2; not in a folder of System 1 alone
```

OpenVINO's graphs are `.xml` with a `.bin` beside them. Nothing in the folder can run code.
"""

import json
import zipfile
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from video2act.config.checks import shown
from video2act.config.files import build
from video2act.config.plain import damage_named, read_json
from video2act.files.fingerprint import fingerprint
from video2act.files.run_folder import CONFIG_FILE, ENGINE_FILE, STATISTICS_FILE, WEIGHTS_FILE

Engine = Literal["onnxruntime", "openvino"]
ARRAYS_FILE = "arrays.npz"
MAX_ARRAYS_BYTES = 2**30
"""of the embeddings of instructions, once they are unpacked"""
FORMAT = 1
SUFFIX: dict[str, str] = {"onnxruntime": ".onnx", "openvino": ".xml"}
WRITTEN_BY: dict[str, str] = {"onnxruntime": "onnx", "openvino": "openvino"}
"""engine -> the word of `video2act export --to`"""


@dataclass(frozen=True)
class Exported:
    """What `engine.json` says."""

    engine: Engine
    has_system2: bool
    """False: the video model is not in the folder, and System 2 must run elsewhere"""
    is_int8: bool
    max_bytes: int
    """of an instruction, where encoders read bytes; 0: only the instructions below are known"""
    instructions: tuple[str, ...]
    """those whose embeddings are in `arrays.npz`, by their number"""
    keys: tuple[str, ...]
    """outputs of `conditions` that are inputs of `step`"""
    parity: dict[str, Any] = field(default_factory=dict)
    """the largest differences from PyTorch, and what they were measured on"""
    files: dict[str, str] = field(default_factory=dict)
    """fingerprints of the files that decide what the policy does; empty in exports of older versions"""
    system2: str = ""
    """fingerprint of System 2's weights, exported or not; empty without System 2, and in exports of older versions"""
    format: int = FORMAT

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"


def is_exported(folder: Path) -> bool:
    return (folder / ENGINE_FILE).is_file()


def load_exported(folder: Path, engine: str) -> Exported:
    """Raises FileNotFoundError or ValueError for a folder that is no export for this engine; it says what to do."""
    path = folder / ENGINE_FILE
    if not path.is_file():
        if (folder / CONFIG_FILE).is_file() and (folder / WEIGHTS_FILE).is_file():
            raise ValueError(
                f"{folder} is a run folder of PyTorch, which {engine} cannot run; export it with\n"
                f"  video2act export {folder} --to {WRITTEN_BY[engine]}\nand name the folder that it writes"
            )
        raise FileNotFoundError(
            f"{folder} is no exported policy: it has no {ENGINE_FILE}; write one with video2act export RUN --to "
            f"{WRITTEN_BY[engine]}"
        )
    with damage_named(path, "export the policy again"):
        fields = read_json(path)
        form = fields.get("format", FORMAT)
        found = build(Exported, fields, where=path.name) if form == FORMAT else None
    if found is None:
        raise ValueError(f"{path} has format {shown(form)}, this version reads {FORMAT}; export the policy again")
    if found.engine != engine:
        raise ValueError(
            f"{folder} was exported for {found.engine}, not for {engine}: choose engine {found.engine}, or export the "
            f"run folder with --to {WRITTEN_BY[engine]}"
        )
    for name, mark in fingerprints(folder).items():
        if found.files.get(name, mark) != mark:
            raise ValueError(f"{folder / name} is not the file that was exported and checked; export the policy again")
    return found


def fingerprints(folder: Path) -> dict[str, str]:
    """File -> fingerprint, of the graphs, the config, the statistics and the arrays."""
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".onnx", ".xml", ".bin", ".data"))
    chosen = (CONFIG_FILE, STATISTICS_FILE, ARRAYS_FILE, *names)
    return {name: fingerprint([folder / name]) for name in chosen if (folder / name).is_file()}


def load_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Raises FileNotFoundError or ValueError naming the file."""
    path = folder / ARRAYS_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; export the policy again")
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
        if size > MAX_ARRAYS_BYTES:
            raise ValueError(f"its arrays have {size} bytes, at most {MAX_ARRAYS_BYTES} are read")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}); export the policy again") from error
