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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from video2act.files.run_folder import CONFIG_FILE, WEIGHTS_FILE

Engine = Literal["onnxruntime", "openvino"]
ENGINE_FILE, ARRAYS_FILE = "engine.json", "arrays.npz"
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
    instructions: list[str]
    """those whose embeddings are in `arrays.npz`, by their number"""
    keys: list[str]
    """outputs of `conditions` that are inputs of `step`"""
    parity: dict[str, Any] = field(default_factory=dict)
    """the largest differences from PyTorch, and what they were measured on"""
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
    try:
        found = Exported(**json.loads(path.read_text()))
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); export the policy again") from error
    if found.format != FORMAT:
        raise ValueError(f"{path} has format {found.format}, this version reads {FORMAT}; export the policy again")
    if found.engine != engine:
        raise ValueError(
            f"{folder} was exported for {found.engine}, not for {engine}: choose engine {found.engine}, or export the "
            f"run folder with --to {WRITTEN_BY[engine]}"
        )
    return found


def load_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Raises FileNotFoundError or ValueError naming the file."""
    path = folder / ARRAYS_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; export the policy again")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); export the policy again") from error
