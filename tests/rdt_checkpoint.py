"""A checkpoint of RDT-1B's layout, small and random."""

from itertools import pairwise

import torch
from torch import Tensor

HIDDEN, DEPTH, HEADS, HORIZON = 32, 2, 4, 4
TEXT, IMAGE = 24, 20
NUM_TEXT, TOKENS_PER_IMAGE = 64, 4
UNIFIED = 128


def rdt_shapes() -> dict[str, tuple[int, ...]]:
    """What RDT-1B's file holds."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, before: int, after: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (after, before), (after,)

    for name, sizes in (
        ("lang_adaptor", (TEXT, HIDDEN, HIDDEN)),
        ("img_adaptor", (IMAGE, HIDDEN, HIDDEN)),
        ("state_adaptor", (2 * UNIFIED, HIDDEN, HIDDEN, HIDDEN)),
    ):
        for number, (before, after) in enumerate(pairwise(sizes)):
            linear(f"{name}.{2 * number}", before, after)
    shapes["model.x_pos_embed"] = (1, HORIZON + 3, HIDDEN)
    shapes["model.lang_cond_pos_embed"] = (1, NUM_TEXT, HIDDEN)
    shapes["model.img_cond_pos_embed"] = (1, 6 * TOKENS_PER_IMAGE, HIDDEN)
    for name in ("t_embedder", "freq_embedder"):
        linear(f"model.{name}.mlp.0", 256, HIDDEN)
        linear(f"model.{name}.mlp.2", HIDDEN, HIDDEN)
    for number in range(DEPTH):
        block = f"model.blocks.{number}"
        for norm in ("norm1", "norm2", "norm3"):
            shapes[f"{block}.{norm}.weight"] = (HIDDEN,)
        for attention in ("attn", "cross_attn"):
            for norm in ("q_norm", "k_norm"):
                shapes[f"{block}.{attention}.{norm}.weight"] = (HIDDEN // HEADS,)
            linear(f"{block}.{attention}.proj", HIDDEN, HIDDEN)
        linear(f"{block}.attn.qkv", HIDDEN, 3 * HIDDEN)
        linear(f"{block}.cross_attn.q", HIDDEN, HIDDEN)
        linear(f"{block}.cross_attn.kv", HIDDEN, 2 * HIDDEN)
        linear(f"{block}.ffn.fc1", HIDDEN, HIDDEN)
        linear(f"{block}.ffn.fc2", HIDDEN, HIDDEN)
    shapes["model.final_layer.norm_final.weight"] = (HIDDEN,)
    linear("model.final_layer.ffn_final.fc1", HIDDEN, HIDDEN)
    linear("model.final_layer.ffn_final.fc2", HIDDEN, UNIFIED)
    return shapes


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
