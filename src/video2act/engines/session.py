"""One exported graph, run by onnxruntime or OpenVINO: named arrays in, named arrays out."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from video2act.engines.folder import SUFFIX
from video2act.extras import extra

Arrays = dict[str, np.ndarray]
Graph = Callable[[Arrays], Arrays]
"""may be called from several threads"""


def open_graph(folder: Path, name: str, *, engine: str, num_threads: int) -> Graph:
    """A graph of an exported folder, ready to run.

    Args:
        num_threads: that one run uses; no thread spins while it waits.
    Raises:
        FileNotFoundError, ValueError: the file is missing or damaged.
        ImportError: the engine is not installed; with the line that installs it.
    """
    path = folder / f"{name}{SUFFIX[engine]}"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; export the policy again")
    open_one = _onnxruntime if engine == "onnxruntime" else _openvino
    try:
        return open_one(path, num_threads)
    except ImportError:
        raise
    except Exception as error:  # engines have no common class of errors
        raise ValueError(f"{engine} cannot read {path}: {error}; export the policy again") from error


def import_engine(module: str, purpose: str) -> Any:
    """The library of an engine. OpenVINO comes without its telemetry: at its import it would tell its makers, in a
    process forked beside the threads of a robot's program. Raises ImportError with the line that installs it."""
    if module == "openvino":
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it fails then, as is foreseen
    with extra("engine", purpose):
        return importlib.import_module(module)


def check_installed(engine: str) -> None:
    """Raises ImportError with the line that installs the engine."""
    import_engine(engine, f"engine {engine}")


def _onnxruntime(path: Path, num_threads: int) -> Graph:
    with extra("engine", "engine onnxruntime"):
        import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    read, names = {given.name for given in session.get_inputs()}, [made.name for made in session.get_outputs()]

    def run(given: Arrays) -> Arrays:
        # an input that no output depends on is not in the graph
        made: Any = session.run(names, {name: array for name, array in given.items() if name in read})
        return dict(zip(names, made, strict=True))

    return run


def _openvino(path: Path, num_threads: int) -> Graph:
    openvino = import_engine("openvino", "engine openvino")
    # a processor with bfloat16 would use it by itself
    settings = {"INFERENCE_NUM_THREADS": num_threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    request, turn = compiled.create_infer_request(), Lock()
    # a port may have other names beside that of the graph
    inputs, outputs = ([port.get_names() for port in ports] for ports in (compiled.inputs, compiled.outputs))

    def run(given: Arrays) -> Arrays:
        with turn:
            made = request.infer({name: array for name, array in given.items() if any(name in own for own in inputs)})
            # copied: the request writes its next results into the same memory
            arrays = [np.array(made[number]) for number in range(len(outputs))]
        return {name: array for names, array in zip(outputs, arrays, strict=True) for name in names}

    return run
