"""RDT-1B (arXiv 2410.07864) as a beginning for System 1: its published weights, into a System 1 of its form.

Its checkpoint (`pytorch_model.bin` or `model.safetensors`) has the names of the released Video2Act code without a video branch.
What ours has beyond it starts so that it changes nothing.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from video2act.interop.checkpoints import find_checkpoint, read_checkpoint
from video2act.interop.released_names import system1_names
from video2act.interop.released_weights import own_tensors, rename
from video2act.system1 import System1

NUM_IMAGES = 6
"""head, right and left camera one control step ago, then the same three now"""


@dataclass(frozen=True)
class Initialised:
    """What a System 1 took over."""

    taken: tuple[str, ...]
    """our names of tensors that are now RDT-1B's"""
    own: tuple[str, ...]
    """our names of tensors that RDT-1B does not have"""


def load_rdt(system1: System1, path: Path, *, image_places: tuple[int, ...] = ()) -> Initialised:
    """Fill a System 1 with RDT-1B's weights, strictly.

    Args:
        path: the file, or the folder it lies in.
        image_places: for each camera of ours, which of RDT-1B's six images (0 to 5) it takes the place of; 0 to 5 in order, if
            there are six cameras; the newest three (3, 4, 5), if there are three.
    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the System 1 is not of RDT-1B's form, or a tensor is missing, unexpected or of another shape; they are named.
    """
    file = find_checkpoint(path)
    state = read_checkpoint(file)
    position = "model.img_cond_pos_embed"
    if position in state and system1.config.dit.num_image_positions:
        state[position] = _places(state[position], _chosen(image_places, len(system1.cameras)))
    own = {f"system1.{name}": tensor for name, tensor in system1.state_dict().items()}
    names = {f"system1.{ours}": theirs for ours, theirs in system1_names(state).items()}
    added = own_tensors(own)
    strangers = sorted(set(own) - set(names) - set(added))
    if strangers:
        raise ValueError(
            f"this System 1 is not of RDT-1B's form, which has no {', '.join(strangers[:5])}; use the preset rdt_1b, "
            "and name the robot (system1.embodiment, e.g. aloha_agilex)"
        )
    weights = rename(state, names, own=own, source=str(file)) | added
    system1.load_state_dict({name.removeprefix("system1."): tensor for name, tensor in weights.items()})
    return Initialised(tuple(sorted(names)), tuple(sorted(added)))


def _chosen(image_places: tuple[int, ...], num_cameras: int) -> tuple[int, ...]:
    usual = {6: (0, 1, 2, 3, 4, 5), 3: (3, 4, 5), 1: (3,)}
    places = image_places or usual.get(num_cameras, ())
    if len(places) != num_cameras or not all(0 <= place < NUM_IMAGES for place in places):
        raise ValueError(
            f"{num_cameras} cameras need as many places among RDT-1B's six images (0 to 5: head, right, left, one step ago, then "
            f"now), got {places or 'none'}; name them as image_places"
        )
    return places


def _places(positions: Tensor, places: tuple[int, ...]) -> Tensor:
    """`[1 6n d]` -> `[1 kn d]`."""
    if positions.shape[1] % NUM_IMAGES:
        raise ValueError(f"model.img_cond_pos_embed has {positions.shape[1]} rows, which are not six images'")
    images = positions.unflatten(1, (NUM_IMAGES, -1))
    return torch.cat([images[:, place] for place in places], dim=1)
