"""The released code's action transformer as ours: the same weights under our names."""

from collections.abc import Mapping

import torch
from torch import Tensor

from video2act.config import DitConfig, NormForm
from video2act.interop.rdt_names import OWN_OF_DIT, dit_names, num_blocks
from video2act.system1.action_dit import ActionDiT
from video2act_released.weights import rename, unread_names


def action_transformer(state: Mapping[str, Tensor], *, num_heads: int, norm: NormForm) -> ActionDiT:
    """A transformer without its adaptors, whose weights stay random: state and actions come as tokens.

    Args:
        state: the weights of `Video2ActCore`.
    Raises:
        ValueError: tensors are missing, unexpected or of another shape.
    """
    form = DitConfig(
        norm=norm,
        clock="frequency",
        sinusoids=state["t_embedder.mlp.0.weight"].shape[1],
        sinusoid_activation="silu",
        pools_text=False,
        num_text_positions=state["lang_cond_pos_embed"].shape[1],
        positions_per_image=state["img_cond_pos_embed"].shape[1],
    )
    dit = ActionDiT(
        action_dim=state["final_layer.ffn_final.fc2.weight"].shape[0],
        state_dim=1,
        horizon=state["x_pos_embed"].shape[1] - 3,
        width=state["x_pos_embed"].shape[2],
        depth=num_blocks(state, "blocks"),
        num_heads=num_heads,
        form=form,
        num_images=1,
    )
    own = dit.state_dict()
    dead = {name.removeprefix("model.") for name in unread_names({f"model.{name}" for name in state})}
    read = {name: tensor for name, tensor in state.items() if name not in dead}
    renamed = rename(read, dit_names(state, prefix=""), own=own, source="the action transformer")
    silent = {name: torch.zeros_like(tensor) for name, tensor in own.items() if name.startswith(OWN_OF_DIT)}
    adaptors = {name: tensor for name, tensor in own.items() if name.startswith(("state_in.", "action_in."))}
    dit.load_state_dict(renamed | silent | adaptors)
    return dit.eval()
