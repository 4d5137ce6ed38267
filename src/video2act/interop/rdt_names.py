"""Our tensors' names in a checkpoint of RDT-1B, and of the released Video2Act code, which was finetuned from it.

Every map goes from our name to theirs. Their adaptor of state and actions becomes two of ours, with equal values.
"""

import re
from collections.abc import Iterable, Mapping

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
AROUND = {
    "timestep_in.up": "t_embedder.mlp.0",
    "timestep_in.down": "t_embedder.mlp.2",
    "frequency_in.up": "freq_embedder.mlp.0",
    "frequency_in.down": "freq_embedder.mlp.2",
    "norm_out": "final_layer.norm_final",
    "action_out.up": "final_layer.ffn_final.fc1",
    "action_out.down": "final_layer.ffn_final.fc2",
}
POSITIONS = {"position": "x_pos_embed", "text_position": "lang_cond_pos_embed", "image_position": "img_cond_pos_embed"}
ADAPTORS = {
    "text_in": "lang_adaptor",
    "image_in": "img_adaptor",
    "dit.state_in": "state_adaptor",
    "dit.action_in": "state_adaptor",
}
OWN_OF_DIT = ("image_type", "video_type", "staleness_in.up", "staleness_in.down", "committed_mark")
"""tensors that only our transformer has; with zero types, marks and a zero `staleness_in.down` they add nothing"""
NUMBER = "[0-9]{1,9}"
"""of a block or a layer, in a tensor's name"""


def layers_of(names: Iterable[str], adaptor: str) -> list[str]:
    """An adaptor's linear layers in order: numbered 0, 2, 4, ... in `mlpNx_gelu`, the adaptor itself if `linear`."""
    found = [re.fullmatch(rf"{re.escape(adaptor)}(?:\.({NUMBER}))?\.weight", name) for name in names]
    numbers = sorted(int(match[1] or 0) for match in found if match)
    is_linear = any(match and match[1] is None for match in found)
    return [adaptor] if is_linear else [f"{adaptor}.{number}" for number in numbers]


def num_blocks(names: Iterable[str], prefix: str) -> int:
    """The number of blocks under `prefix`, e.g. `model.blocks`.

    A block has a tensor at least, so a number that is not below that of all tensors is no block's: `check_fit` names
    the tensor as unexpected.
    """
    names = list(names)
    found = (re.match(rf"{re.escape(prefix)}\.({NUMBER})\.", name) for name in names)
    numbers = (int(match[1]) for match in found if match)
    return 1 + max((number for number in numbers if number < len(names)), default=-1)


def dit_names(names: Iterable[str], prefix: str = "model.") -> dict[str, str]:
    """Names of the transformer without its adaptors: ours in `ActionDiT` -> theirs."""
    names = set(names)
    modules = {ours: prefix + theirs for ours, theirs in AROUND.items()}
    for number in range(num_blocks(names, f"{prefix}blocks")):
        modules |= {f"blocks.{number}.{ours}": f"{prefix}blocks.{number}.{theirs}" for ours, theirs in BLOCK.items()}
    return parameters(modules, names) | {ours: prefix + theirs for ours, theirs in POSITIONS.items()}


def adaptor_names(names: Iterable[str], ours: str, *, theirs: str) -> dict[str, str]:
    """Names of an adaptor.

    Ours is a Linear, an Mlp or a Sequential, by its number of layers (`layers.make_adaptor`).
    """
    names = set(names)
    layers = layers_of(names, theirs)
    words = {1: [""], 2: [".up", ".down"]}.get(len(layers), [f".{2 * number}" for number in range(len(layers))])
    return parameters({ours + word: layer for word, layer in zip(words, layers, strict=True)}, names)


def system1_names(names: Iterable[str]) -> dict[str, str]:
    """Our name in `System1` -> theirs."""
    names = set(names)
    joined = {f"dit.{ours}": theirs for ours, theirs in dit_names(names).items()}
    for ours, theirs in ADAPTORS.items():
        joined |= adaptor_names(names, ours, theirs=theirs)
    return joined


def parameters(modules: Mapping[str, str], names: set[str]) -> dict[str, str]:
    """Weights and biases of modules. A weight is always listed, so that a missing one is reported."""
    return {
        f"{ours}.{kind}": f"{theirs}.{kind}"
        for ours, theirs in modules.items()
        for kind in ("weight", "bias")
        if kind == "weight" or f"{theirs}.{kind}" in names
    }
