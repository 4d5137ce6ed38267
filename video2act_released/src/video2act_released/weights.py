"""Tensors of the released code under our names.

An error names tensors that are missing, left over or of another shape.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor

from video2act.interop import rdt
from video2act.interop.rdt_names import adaptor_names, num_blocks, parameters, system1_names
from video2act_released.streams import STREAMS

DEAD = {"model.video_cond_pos_embed", "model.video_encoder_pos_embed"}
"""parameters of the released code that nothing reads"""
FRAME_BLOCK = {
    "cross.norm_features": "0.norm_media",
    "cross.norm_queries": "0.norm_latents",
    "cross.query": "0.to_q",
    "cross.key": "0.to_k",
    "cross.value": "0.to_v",
    "cross.out": "0.to_out",
}


def policy_names(state: Mapping[str, Tensor], streams: tuple[str, ...]) -> dict[str, str]:
    """Every tensor that is converted: our name in `Video2Act` -> theirs."""
    names = {f"system1.{ours}": theirs for ours, theirs in system1_names(state).items()}
    for stream in streams:
        theirs = STREAMS[stream][0]
        is_former = f"{theirs}_token_compressor.latents" in state
        found = frame_former_names(state, theirs) if is_former else projection_names(state, theirs)
        names |= {f"system2.formers.{stream}.{name}": other for name, other in found.items()}
    return names


def projection_names(names: Iterable[str], stream: str) -> dict[str, str]:
    """Names of a `Projection`: LayerNorm and adaptor of one stream, `video` or `motion`."""
    names = set(names)
    norm = parameters({"norm_in": f"{stream}_layernorm"}, names)
    return norm | adaptor_names(names, "adaptor", theirs=f"{stream}_adaptor")


def frame_former_names(state: Mapping[str, Tensor], stream: str) -> dict[str, str]:
    """Names of a `FrameFormer`, or, without layers, a `ConstantTokens`. Both streams end with `video_adaptor`."""
    names, prefix = set(state), f"{stream}_token_compressor."
    depth = num_blocks(names, f"{prefix}layers")
    joined, modules = {"queries": f"{prefix}latents"}, {"norm_out": f"{prefix}norm"}
    if depth:
        joined["frame_position"] = f"{prefix}time_pos_emb"
        modules |= {"norm_in": f"{stream}_layernorm"}
        modules |= {f"features_in.{number}": f"{prefix}goal_emb.{number}" for number in (0, 2)}
    for number in range(depth):
        theirs = f"{prefix}layers.{number}."
        modules |= {f"blocks.{number}.{ours}": theirs + name for ours, name in FRAME_BLOCK.items()}
        is_temporal = f"{theirs}1.qkv.weight" in names
        if is_temporal:
            modules |= {f"blocks.{number}.time.qkv": f"{theirs}1.qkv", f"blocks.{number}.time.out": f"{theirs}1.proj"}
        mlp = 2 if is_temporal else 1
        modules |= {f"blocks.{number}.mlp.{layer}": f"{theirs}{mlp}.{layer}" for layer in (0, 1, 3)}
    return joined | parameters(modules, names) | adaptor_names(names, "adaptor", theirs="video_adaptor")


def unread_names(names: Iterable[str]) -> set[str]:
    """Tensors that the released code never reads in its forward pass.

    A former of depth 0 has no layers, so the norm, the embedding and the positions of the features lead nowhere.
    """
    names = set(names)
    unread = names & DEAD
    for stream in ("video", "motion"):
        prefix = f"{stream}_token_compressor."
        if f"{prefix}latents" in names and not num_blocks(names, f"{prefix}layers"):
            dead = (f"{prefix}goal_emb.", f"{prefix}time_pos_emb", f"{stream}_layernorm.")
            unread |= {name for name in names if name.startswith(dead)}
    return unread


def rename(
    state: Mapping[str, Tensor], names: Mapping[str, str], *, own: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """Their tensors under our names, in fp32; see `rdt.rename`."""
    state = dict(state)
    for stream in ("video", "motion"):
        position, queries = (state.get(f"{stream}_token_compressor.{name}") for name in ("time_pos_emb", "latents"))
        if position is not None and queries is not None and position.ndim == queries.ndim == 3:
            # theirs reads the first of too many, and repeats a single one
            frames = position[: len(queries)] if len(position) > 1 else position.expand(len(queries), -1, -1)
            state[f"{stream}_token_compressor.time_pos_emb"] = frames
    return rdt.rename(state, names, own=own, source=source, unread=unread_names(state))
