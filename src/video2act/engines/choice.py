"""A folder and the engine that runs it -> the policy; which policies engines other than torch can run."""

from pathlib import Path
from typing import Any

from video2act.config import BackboneConfig, PolicyConfig
from video2act.engines.folder import ENGINE_FILE, is_exported
from video2act.engines.policy import EnginePolicy
from video2act.engines.session import check_installed
from video2act.files.run_folder import CONFIG_FILE, WEIGHTS_FILE, check_weights_exist

ENGINES = ("torch", "onnxruntime", "openvino")


def check_engine(folder: Path | str, engine: str) -> None:
    """Raises ValueError where this engine does not run what the folder holds, and says which one does;
    FileNotFoundError: the folder has no weights."""
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; choose from {', '.join(ENGINES)}")
    if engine == "torch" and is_exported(Path(folder)):
        raise ValueError(
            f"{folder} holds an exported policy ({ENGINE_FILE}), not PyTorch's weights: choose engine onnxruntime or "
            f"openvino, whichever it was exported for, or name the run folder that it was exported from"
        )
    if engine == "torch" and (Path(folder) / CONFIG_FILE).is_file():
        check_weights_exist(Path(folder) / WEIGHTS_FILE)


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


def check_exportable(config: PolicyConfig, *, has_system2: bool) -> None:
    """Raises ValueError naming the part of the policy that cannot be exported."""
    if config.system1.image_encoder is not None:
        raise ValueError(
            f"System 1's image encoder ({config.system1.image_encoder.source}) is a published network, which is not "
            f"exported; run this policy with engine torch"
        )
    if config.system2 is None or not has_system2:
        return
    backbone, elsewhere = config.system2.backbone, "export System 1 alone (--only system1) and serve System 2"
    if not isinstance(backbone, BackboneConfig) and backbone.name != "wan_small":
        raise ValueError(
            f"System 2's video model ({backbone.name}) cannot be exported, only tiny and wan_small; {elsewhere}"
        )
    if not isinstance(backbone, BackboneConfig) and backbone.dtype != "float32":
        raise ValueError(f"System 2's video model runs in {backbone.dtype}, engines in float32; {elsewhere}")
    for stream in config.system2.streams:
        if stream.encoding == "stream":
            raise ValueError(
                f"stream {stream.name!r} of System 2 has encoding='stream', whose encoder keeps a state through an "
                f"episode and cannot be exported; {elsewhere}"
            )


def check_export(config: PolicyConfig, out: Path, *, engine: str, has_system2: bool, int8: bool) -> None:
    """What an export refuses before any work: raises as `export_policy`."""
    check_exportable(config, has_system2=has_system2)
    check_installed(engine)
    if int8 and engine != "onnxruntime":
        raise ValueError("int8 is written for onnxruntime; export with --to onnx")
    if out.exists():
        raise FileExistsError(f"{out} exists; remove it, or choose another folder with --out")
