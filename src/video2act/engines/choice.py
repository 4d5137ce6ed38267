"""A folder and the engine that runs it -> the policy."""

from pathlib import Path
from typing import Any

from video2act.engines.folder import ENGINE_FILE, is_exported
from video2act.engines.policy import EnginePolicy

ENGINES = ("torch", "onnxruntime", "openvino")


def check_engine(folder: Path | str, engine: str) -> None:
    """Raises ValueError where this engine does not run what the folder holds, and says which one does."""
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; choose from {', '.join(ENGINES)}")
    if engine == "torch" and is_exported(Path(folder)):
        raise ValueError(
            f"{folder} holds an exported policy ({ENGINE_FILE}), not PyTorch's weights: choose engine onnxruntime or "
            f"openvino, whichever it was exported for, or name the run folder that it was exported from"
        )


def load_policy(folder: Path | str, engine: str = "torch", *, device: str = "cpu", num_threads: int = 1) -> Any:
    """A policy, ready to act: `Video2Act` for engine torch, `EnginePolicy` for the others.

    Args:
        device: of PyTorch; the other engines compute on the CPU.
        num_threads: of the other engines.
    Raises:
        ImportError: the engine is not installed.
        FileNotFoundError, ValueError: the folder holds no policy for this engine; the message says what to do.
    """
    check_engine(folder, engine)
    if engine == "torch":
        from video2act.policy import Video2Act

        return Video2Act.load(folder, device)
    if device != "cpu":
        raise ValueError(f"engine {engine} computes on the CPU, got device={device!r}")
    return EnginePolicy(folder, engine, num_threads=num_threads)  # type: ignore[arg-type]
