"""A policy -> the folder of an engine, with its check: the engine gives what PyTorch gives, or no folder is left."""

import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jaxtyping
import numpy as np
import torch
from torch import Tensor, nn
from torch.onnx.errors import OnnxExporterError

from video2act.engines.choice import check_export
from video2act.engines.folder import ARRAYS_FILE, ENGINE_FILE, SUFFIX, Engine, Exported, fingerprints
from video2act.engines.graphs import (
    ConditionsGraph,
    InstructionGraph,
    PerceiveGraph,
    StepGraph,
    exportable_copy,
    linear_schedule,
)
from video2act.engines.parity import Parity, compare
from video2act.engines.policy import EnginePolicy
from video2act.engines.session import import_engine
from video2act.extras import extra
from video2act.files.atomic import publish, write_text
from video2act.files.run_folder import BESIDE, INSTRUCTIONS_FILE, STATISTICS_FILE, load_instructions, save_config
from video2act.policy import Video2Act
from video2act.precision import full_precision
from video2act.statistics import statistics_to_json
from video2act.text.encoder import ByteTextEncoder
from video2act.text.instruction import MAX_BYTES
from video2act.types import Observation

OPSET = 18
INSTRUCTION = "move"
"""stands for any sentence while a graph is traced"""
PARTS = {
    "instruction": "the text encoders",
    "perceive": "System 2",
    "conditions": "System 1's image encoder or conditions",
    "step": "System 1's denoiser",
}
"""graph -> what it holds"""
ANY_TOKENS = 8
"""of System 2, where it is not exported and gives any number"""


def export_policy(
    policy: Video2Act,
    out: Path,
    *,
    engine: Engine,
    observations: Sequence[Observation],
    checked_on: str,
    only_system1: bool = False,
    int8: bool = False,
) -> Parity:
    """Write `out`, whole or not at all. Returns how far what was written is from PyTorch in float32.

    Args:
        policy: loaded from a run folder.
        observations: consecutive ones of an episode, for the check.
        checked_on: what they are, for the record.
        int8: quantise the weights of matrices (onnxruntime); the check is made before that, and again for the record.
    Raises:
        ImportError: the engine, or onnx, is not installed.
        FileExistsError: there is something at `out`.
        ValueError: a part of the policy cannot be exported, or the check fails.
    """
    config, has_system2 = policy.config, policy.system2 is not None and not only_system1
    check_export(config, out, engine=engine, has_system2=has_system2, int8=int8)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        stack.enter_context(full_precision())
        temporary.mkdir(parents=True)
        exported = _write(policy, temporary, engine=engine, has_system2=has_system2)
        write_text(temporary / ENGINE_FILE, exported.to_json())
        parity = compare(policy, EnginePolicy(temporary, engine), observations=observations)
        parity.check()
        record = {**parity.to_json(), "checked_on": checked_on}
        if int8:
            _quantise(temporary)
            parity = compare(policy, EnginePolicy(temporary, engine), observations=observations)
            parity.check(limit=sys.float_info.max)
            record["int8"] = parity.to_json()
        found = Exported(**{**vars(exported), "is_int8": int8, "parity": record, "files": fingerprints(temporary)})
        write_text(temporary / ENGINE_FILE, found.to_json())
        publish(temporary, out)
    return parity


def _write(policy: Video2Act, folder: Path, *, engine: Engine, has_system2: bool) -> Exported:
    assert policy.folder is not None
    # the policy's own: one for a robot out of several shares the folder of the whole
    save_config(folder, policy.config)
    write_text(folder / STATISTICS_FILE, statistics_to_json(policy.statistics))
    for name in BESIDE:
        if (policy.folder / name).is_file():
            shutil.copyfile(policy.folder / name, folder / name)
    own = exportable_copy(policy)
    system2 = own.slow if has_system2 else None
    perceive = None if system2 is None else PerceiveGraph(system2, own.config.fps)
    is_read = isinstance(own.system1.text, ByteTextEncoder) and (perceive is None or perceive.reads_bytes)
    sentences = [INSTRUCTION] if is_read else list(load_instructions(policy.folder))
    if not sentences:
        raise ValueError(
            f"{policy.folder} records no instruction ({INSTRUCTIONS_FILE}), and this policy's text encoder is not "
            f"exported; write the sentences that the robot will hear into that file, as a json list"
        )
    greys = () if perceive is None else tuple(f"grey_{stream.name}" for stream in perceive.referenced)
    heard = ("text",) if perceive is None else ("text", "said", *greys)
    with torch.no_grad():
        read = [_read(own, perceive, sentence) for sentence in sentences]
        if is_read:
            ids, free = (
                {"ids": torch.ones(1, 7, dtype=torch.long)},
                {"ids": (1, "bytes"), "text": (1, "bytes"), "said": (1, "bytes")},
            )
            _save(InstructionGraph(own, perceive), ids, outputs=heard, path=folder / "instruction.onnx", free=free)
        tokens = torch.zeros(1, ANY_TOKENS, own.config.system1.hidden)
        if perceive is not None:
            seen = dict(zip(heard[1:], read[0][1:], strict=True))
            seen |= {f"pixels_{s.name}": torch.zeros(1, 3, s.num_frames, *s.frame_px) for s in perceive.streams}
            free = {"said": (1, "bytes")} if is_read else {}
            tokens = _save(perceive, seen, outputs=["tokens"], path=folder / "perceive.onnx", free=free)[0]
        keys = _save_system1(own, folder, text=read[0][0], video=tokens, is_any_video=perceive is None)
        arrays = _arrays(own)
    if not is_read:
        for number, embedding in enumerate(read):
            arrays |= {
                f"instruction_{number}_{name}": tensor.numpy() for name, tensor in zip(heard, embedding, strict=True)
            }
    np.savez(folder / ARRAYS_FILE, **arrays)  # type: ignore[arg-type]
    if engine == "openvino":
        _to_openvino(folder)
    known = (MAX_BYTES, ()) if is_read else (0, tuple(sentences))
    return Exported(engine, has_system2, False, *known, tuple(keys), system2=policy.system2_fingerprint())


def _read(policy: Video2Act, perceive: PerceiveGraph | None, sentence: str) -> tuple[Tensor, ...]:
    """Text tokens of System 1, and what System 2 reads of a sentence."""
    text = policy.system1.read([sentence]).data
    return (text,) if perceive is None else (text, *perceive.embed(sentence))


def _save_system1(policy: Video2Act, folder: Path, *, text: Tensor, video: Tensor, is_any_video: bool) -> list[str]:
    """Write the two graphs of System 1. Returns the names of what the first gives the second."""
    config = policy.config
    given = {"text": text, **({"video": video} if config.system2 else {})}
    given |= {"state": torch.zeros(1, config.state_dim), "staleness": torch.zeros(1)}
    image = torch.zeros(1, config.image_px, config.image_px, 3, dtype=torch.uint8)
    given |= {f"image_{camera}": image for camera in config.cameras}
    pairs = [(f"key_{block}", f"value_{block}") for block in range(config.system1.depth)]
    keys = ["clock", "state_token", *(name for pair in pairs for name in pair)]
    # blocks take turns: even ones read the text, whose length is that of the instruction, odd ones image and video
    free = {"text": (1, "text"), **{name: (2, "text") for pair in pairs[::2] for name in pair}}
    if is_any_video and config.system2:
        free |= {"video": (1, "video"), **{name: (2, "seen") for pair in pairs[1::2] for name in pair}}
    conditions = ConditionsGraph(policy)
    has_action = conditions.project(*given.values()).has_action
    made = _save(conditions, given, outputs=keys, path=folder / "conditions.onnx", free=free)
    step = {"noisy": torch.zeros(1, *policy.system1.noise_shape), "timestep": torch.ones(1)}
    step |= dict(zip(keys, made, strict=True))
    _save(StepGraph(policy.system1, has_action), step, outputs=["prediction"], path=folder / "step.onnx", free=free)
    return keys


def _arrays(policy: Video2Act) -> dict[str, np.ndarray]:
    timesteps, schedule = linear_schedule(policy.system1.denoising)
    exact, embodiment = policy.normalize_action.double(), policy.system1.embodiment

    def finish(actions: Tensor) -> Tensor:
        return exact.restore(embodiment.own(actions) if embodiment else actions)

    units = torch.eye(policy.system1.noise_shape[1], dtype=torch.float64)
    shift = finish(torch.zeros_like(units[0]))
    return {
        "timesteps": np.array(timesteps),
        "schedule": schedule.numpy(),
        "noise_shape": np.array(policy.system1.noise_shape),
        "action_matrix": (finish(units) - shift).numpy(),
        "action_shift": shift.numpy(),
        **{
            f"state_{name}": getattr(policy.normalize_state, name).numpy() for name in ("shift", "scale", "low", "high")
        },
    }


def _save(
    graph: nn.Module, given: dict[str, Tensor], *, outputs: Iterable[str], path: Path, free: dict[str, tuple[int, str]]
) -> tuple[Tensor, ...]:
    """Trace a graph. Returns what it makes of the inputs.

    Args:
        free: names of inputs and outputs -> their axis whose size is open, and the name of that size.
    """
    graph, arrays, names = graph.eval(), tuple(given.values()), [*given, *outputs]
    made = graph(*arrays)  # before the tracer, also to fill what is made once
    options = {
        "input_names": list(given),
        "output_names": list(outputs),
        "dynamic_axes": {name: dict([axis]) for name, axis in free.items() if name in names},
        "opset_version": OPSET,
        # the newer exporter takes 10 to 50 times as long for these graphs, and they run equally fast
        "dynamo": False,
    }
    with warnings.catch_warnings(), _unchecked():
        warnings.simplefilter("ignore")  # a tracer warns of every size that it takes for a constant, as is meant
        try:
            with _silent():
                torch.onnx.export(graph, arrays, str(path), **options)
        except (OnnxExporterError, RuntimeError) as error:
            reason = str(error).partition("[Caused")[0].strip()
            raise ValueError(
                f"{PARTS[path.stem]} cannot be exported: {reason[:300]}; run this policy with engine torch"
            ) from error
    return made if isinstance(made, tuple) else (made,)


@contextmanager
def _unchecked() -> Iterator[None]:
    """No checks of annotations, where a test run has installed them: to a tracer, sizes are tensors."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing on standard output: an exporter that fails prints its whole graph, from C++."""
    kept = os.dup(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _to_openvino(folder: Path) -> None:
    openvino = import_engine("openvino", "export --to openvino")
    for path in sorted(folder.glob("*.onnx")):
        openvino.save_model(openvino.convert_model(path), path.with_suffix(SUFFIX["openvino"]), compress_to_fp16=False)
        path.unlink()


def _quantise(folder: Path) -> None:
    with extra("engine", "export --int8"):
        from onnxruntime.quantization import QuantType, quantize_dynamic

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # a hint to optimise the graphs first, for each of them; that needs sympy
    try:
        for path in sorted(folder.glob("*.onnx")):
            smaller = path.with_suffix(".int8")
            quantize_dynamic(path, smaller, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
            os.replace(smaller, path)
    finally:
        logging.disable(before)
