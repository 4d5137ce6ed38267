"""Does a checkpoint of the released code hold what its yaml describes?

Our config is read off the tensors. If some are lost, the rest may look like a smaller policy. So the tensors are first
compared with the yaml: blocks, layers of adaptors, one stream or two, formers or none.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from video2act.config.checks import shown
from video2act.interop.rdt_names import BLOCK, layers_of, num_blocks
from video2act_released.config import HEAD_DIM
from video2act_released.settings import Model
from video2act_released.streams import STREAMS, stream_names, stream_settings
from video2act_released.weights import FRAME_BLOCK

SHOWN = 6
"""names listed of each kind"""


def check_structure(state: Mapping[str, Tensor], model: Model, *, source: str) -> None:
    """Compare the tensors with the yaml's `model` section.

    Raises:
        ValueError: they do not fit. The message lists missing and unexpected tensors, each with the setting that asks
            for it.
    """
    if not num_blocks(state, "model.blocks"):
        some = ", ".join(sorted(state)[:5]) or "nothing"
        raise ValueError(
            f"{source} is not a checkpoint of the released code: no tensor model.blocks.0.*, but {some}, ..."
        )
    problems = _axes(state) or [*_core(state, model), *_adaptors(state, model), *_formers(state, model)]
    if problems:
        raise ValueError(
            f"{source} does not hold what its yaml describes:\n  "
            + "\n  ".join(problems)
            + "\nname the yaml that it was trained with, or copy the checkpoint again, whole"
        )


def _axes(state: Mapping[str, Tensor]) -> list[str]:
    """Tensors whose shapes are read that have another number of axes."""
    former = "(video|motion)_token_compressor"
    kinds = {
        r"model\.blocks\.0\.attn\.q_norm\.weight": 1,
        rf"model\.t_embedder\.mlp\.0\.weight|\w+_adaptor(\.\d+)?\.weight|{former}\.layers\.0\.0\.to_q\.weight": 2,
        rf"model\.(x|lang_cond|img_cond)_pos_embed|{former}\.latents": 3,
    }
    return [
        f"{name} is {list(tensor.shape)}, expected {num_axes} axes"
        for name, tensor in state.items()
        for kind, num_axes in kinds.items()
        if re.fullmatch(kind, name) and tensor.ndim != num_axes
    ]


def _core(state: Mapping[str, Tensor], model: Model) -> list[str]:
    depth, hidden, heads = model.core.depth, model.core.hidden_size, model.core.num_heads
    problems = _blocks(state, "model.blocks", depth=depth, parts=BLOCK.values(), setting=f"core.depth={depth}")
    position, head = "model.x_pos_embed", "model.blocks.0.attn.q_norm.weight"
    if position in state and state[position].shape[2] != hidden:
        problems.append(f"core.hidden_size={hidden}, but {position} is {list(state[position].shape)}")
    if head in state and (channels := len(state[head])) * heads != hidden:
        problems.append(
            f"core.num_heads={heads} of core.hidden_size={hidden} have {hidden / heads:g} channels each, but "
            f"{head} has {channels}"
        )
    return problems


def _adaptors(state: Mapping[str, Tensor], model: Model) -> list[str]:
    words = {name: (name, getattr(model, name)) for name in ("lang_adaptor", "img_adaptor", "state_adaptor")}
    key = "video_adaptor" if model.video_adaptor else "framepack_adaptor"
    words["video_adaptor"] = key, getattr(model, key)
    if model.use_dual_stream_framepack and not model.has_formers:
        words["motion_adaptor"] = words["video_adaptor"]
    problems = []
    for name, (key, word) in words.items():
        found = layers_of(state, name)
        written = re.fullmatch(r"linear|mlp([1-9])x_gelu", word)
        if written is None:
            raise ValueError(
                f"the yaml says {key}: {shown(word)}; the released code's adaptors are written linear or mlpNx_gelu"
            )
        expected = [f"{name}.{2 * number}" for number in range(int(written[1]))] if written[1] else [name]
        problems += _missing([f"{layer}.weight" for layer in expected if layer not in found], f"{key}: {word}")
        problems += _unexpected([f"{layer}.weight" for layer in found if layer not in expected], f"{key}: {word}")
    return problems


def _formers(state: Mapping[str, Tensor], model: Model) -> list[str]:
    problems = []
    if model.use_dual_stream_framepack:
        lost = [name for name in ("motion_layernorm.weight", "motion_layernorm.bias") if name not in state]
        problems += _missing(lost, "use_dual_stream_framepack: true")
    else:
        setting = "one stream: use_dual_stream_framepack is false, or absent"
        problems += _unexpected([name for name in state if name.startswith("motion_")], setting)
    if not model.has_formers:
        names = [name for name in state if name.startswith(("video_token_compressor.", "motion_token_compressor."))]
        return problems + _unexpected(names, "use_video_token_compressor: false")
    setting = "use_video_token_compressor is true, or absent"
    for stream in stream_names(model):
        prefix, settings = f"{STREAMS[stream][0]}_token_compressor.", stream_settings(stream, model)
        depth = model.token_compressor_depth if settings.compressor_depth is None else settings.compressor_depth
        heads = settings.compressor_heads or model.token_compressor_heads
        problems += _missing([f"{prefix}latents"] if f"{prefix}latents" not in state else [], setting)
        problems += _blocks(state, f"{prefix}layers", depth=depth, parts=FRAME_BLOCK.values(), setting=f"depth {depth}")
        query = f"{prefix}layers.0.0.to_q.weight"
        if query in state and state[query].shape[0] != heads * HEAD_DIM:
            problems.append(
                f"{heads} heads (compressor_heads of {STREAMS[stream][1]}, or token_compressor_heads, or 8) of "
                f"{HEAD_DIM} channels, but {query} is {list(state[query].shape)}"
            )
    return problems


def _blocks(state: Mapping[str, Tensor], prefix: str, *, depth: int, parts: Iterable[str], setting: str) -> list[str]:
    """Whole blocks that are missing, or too many; `rename` finds single tensors of a block."""
    found = num_blocks(state, prefix)
    lost = [f"{prefix}.{number}.{part}.weight" for number in range(found, depth) for part in parts]
    more = [name for name in state if name.startswith(tuple(f"{prefix}.{number}." for number in range(depth, found)))]
    return _missing(lost, setting) + _unexpected(more, setting)


def _missing(names: list[str], setting: str) -> list[str]:
    return [f"missing {_listed(names)} ({setting})"] if names else []


def _unexpected(names: list[str], setting: str) -> list[str]:
    return [f"unexpected {_listed(sorted(names))} ({setting})"] if names else []


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
