"""What our tensors are called in a checkpoint of the released code, and in RDT-1B's, which it was finetuned from.

Every map goes from our name to the other one. Two of ours may come from one of theirs: their code embeds state and actions with
one adaptor, and the tokens of both streams' formers with another; ours have one each. Their values are equal after a conversion;
in a later finetuning they may part.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

DEAD = ("model.video_cond_pos_embed", "model.video_encoder_pos_embed")
"""parameters of the released code that nothing reads"""

BLOCK = {
    "norm_self": "norm1",
    "attention.qkv": "attn.qkv",
    "attention.query_norm": "attn.q_norm",
    "attention.key_norm": "attn.k_norm",
    "attention.out": "attn.proj",
    "norm_cross": "norm2",
    "cross.query": "cross_attn.q",
    "cross.key_value": "cross_attn.kv",
    "cross.query_norm": "cross_attn.q_norm",
    "cross.key_norm": "cross_attn.k_norm",
    "cross.out": "cross_attn.proj",
    "norm_mlp": "norm3",
    "mlp.up": "ffn.fc1",
    "mlp.down": "ffn.fc2",
}
_AROUND = {
    "timestep_in.up": "t_embedder.mlp.0",
    "timestep_in.down": "t_embedder.mlp.2",
    "frequency_in.up": "freq_embedder.mlp.0",
    "frequency_in.down": "freq_embedder.mlp.2",
    "norm_out": "final_layer.norm_final",
    "action_out.up": "final_layer.ffn_final.fc1",
    "action_out.down": "final_layer.ffn_final.fc2",
}
_POSITIONS = {"position": "x_pos_embed", "text_position": "lang_cond_pos_embed", "image_position": "img_cond_pos_embed"}
FRAME_BLOCK = {
    "cross.norm_features": "0.norm_media",
    "cross.norm_queries": "0.norm_latents",
    "cross.query": "0.to_q",
    "cross.key": "0.to_k",
    "cross.value": "0.to_v",
    "cross.out": "0.to_out",
}

OWN_OF_DIT = ("image_type", "video_type", "staleness_in.up", "staleness_in.down")
"""what our transformer has and RDT-1B's lacks; zero in what `staleness_in.down` and the types add, it changes nothing"""


def layers_of(names: Iterable[str], adaptor: str) -> list[str]:
    """The linear layers of an adaptor, in order: of `mlpNx_gelu` those numbered 0, 2, 4, ..., of `linear` the adaptor itself."""
    found = [re.fullmatch(rf"{re.escape(adaptor)}(?:\.(\d+))?\.weight", name) for name in names]
    numbers = sorted(int(match[1] or 0) for match in found if match)
    is_linear = any(match and match[1] is None for match in found)
    return [adaptor] if is_linear else [f"{adaptor}.{number}" for number in numbers]


def num_blocks(names: Iterable[str], prefix: str) -> int:
    """How many blocks there are under `prefix`, e.g. `model.blocks`."""
    found = (re.match(rf"{re.escape(prefix)}\.(\d+)\.", name) for name in names)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def dit_names(names: Iterable[str], prefix: str = "model.") -> dict[str, str]:
    """Of the transformer, without its adaptors: our name in `ActionDiT` -> theirs."""
    names = set(names)
    modules = {ours: prefix + theirs for ours, theirs in _AROUND.items()}
    for number in range(num_blocks(names, f"{prefix}blocks")):
        modules |= {f"blocks.{number}.{ours}": f"{prefix}blocks.{number}.{theirs}" for ours, theirs in BLOCK.items()}
    return _parameters(modules, names) | {ours: prefix + theirs for ours, theirs in _POSITIONS.items()}


def adaptor_names(names: Iterable[str], ours: str, *, theirs: str) -> dict[str, str]:
    """Of an adaptor: ours is a Linear, an Mlp or a Sequential, by its number of layers (`layers.make_adaptor`)."""
    names = set(names)
    layers = layers_of(names, theirs)
    words = {1: [""], 2: [".up", ".down"]}.get(len(layers), [f".{2 * number}" for number in range(len(layers))])
    return _parameters({ours + word: layer for word, layer in zip(words, layers, strict=True)}, names)


def system1_names(names: Iterable[str]) -> dict[str, str]:
    """Our name in `System1` -> theirs."""
    names = set(names)
    adaptors = (
        ("text_in", "lang_adaptor"),
        ("image_in", "img_adaptor"),
        ("dit.state_in", "state_adaptor"),
        ("dit.action_in", "state_adaptor"),
    )
    joined = {f"dit.{ours}": theirs for ours, theirs in dit_names(names).items()}
    for ours, theirs in adaptors:
        joined |= adaptor_names(names, ours, theirs=theirs)
    return joined


def projection_names(names: Iterable[str], stream: str) -> dict[str, str]:
    """Of a `Projection`: LayerNorm and adaptor of one stream, `video` or `motion`."""
    names = set(names)
    return _parameters({"norm_in": f"{stream}_layernorm"}, names) | adaptor_names(
        names, "adaptor", theirs=f"{stream}_adaptor"
    )


def frame_former_names(state: Mapping[str, Tensor], stream: str) -> dict[str, str]:
    """Of a `FrameFormer`, or, without layers, a `ConstantTokens`. Both streams end with the adaptor called `video_adaptor`."""
    names, prefix = set(state), f"{stream}_token_compressor."
    depth = num_blocks(names, f"{prefix}layers")
    joined = {"queries": f"{prefix}latents"}
    modules = {"norm_out": f"{prefix}norm"}
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
    return joined | _parameters(modules, names) | adaptor_names(names, "adaptor", theirs="video_adaptor")


def unread_names(names: Iterable[str]) -> set[str]:
    """Tensors that a checkpoint may hold and the released code never reads in its forward pass.

    At depth 0 its former has no layers, so the norm and the embedding of the features, and their positions, lead nowhere.
    """
    names = set(names)
    unread = {name for name in names if name in DEAD}
    for stream in ("video", "motion"):
        prefix = f"{stream}_token_compressor."
        if f"{prefix}latents" in names and not num_blocks(names, f"{prefix}layers"):
            unread |= {
                n
                for n in names
                if n.startswith((f"{prefix}goal_emb.", f"{prefix}time_pos_emb", f"{stream}_layernorm."))
            }
    return unread


def _parameters(modules: Mapping[str, str], names: set[str]) -> dict[str, str]:
    """Weights and biases of modules. A weight is always named, so that a missing one is found missing."""
    return {
        f"{ours}.{kind}": f"{theirs}.{kind}"
        for ours, theirs in modules.items()
        for kind in ("weight", "bias")
        if kind == "weight" or f"{theirs}.{kind}" in names
    }
