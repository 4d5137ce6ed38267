"""RDT-1B (arXiv 2410.07864) as a start for System 1: its published weights in a System 1 of its form.

Its checkpoint is `pytorch_model.bin` or `model.safetensors`; `rdt_names` has its names. Parts that only our System 1
has start so that they add nothing.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from video2act.files.weights import check_fit, shapes_of
from video2act.interop.checkpoints import check_numbers, find_checkpoint, read_checkpoint
from video2act.interop.rdt_names import OWN_OF_DIT, system1_names
from video2act.system1 import System1

NUM_IMAGES = 6
"""head, right and left camera one control step ago, then the same three now"""
RESHAPED = ("position", "queries")
"""endings of our names whose tensors have other axes in a checkpoint: a leading one, or frames and tokens apart"""


@dataclass(frozen=True)
class Initialised:
    """Where the tensors of a System 1 come from."""

    taken: tuple[str, ...]
    """our names of RDT-1B's tensors"""
    own: tuple[str, ...]
    """our names of tensors that RDT-1B lacks"""


def load_rdt(system1: System1, path: Path | str, *, image_places: tuple[int, ...] = ()) -> Initialised:
    """Fill a System 1 with RDT-1B's weights, strictly.

    Args:
        path: the file, or its folder.
        image_places: for each camera, the RDT-1B image (0 to 5) that it replaces. Default: 0 to 5 for six cameras, the
            newest images (3, 4, 5) for three, 3 for one.
    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: System 1 does not have RDT-1B's form, or tensors are missing, unexpected or of another shape.
    """
    file = find_checkpoint(Path(path))
    state = read_checkpoint(file)
    check_numbers(state, source=file)
    position = "model.img_cond_pos_embed"
    if position in state and system1.config.dit.positions_per_image:
        state[position] = _places(state[position], _chosen(image_places, len(system1.cameras)))
    own = {f"system1.{name}": tensor for name, tensor in system1.state_dict().items()}
    names = {f"system1.{ours}": theirs for ours, theirs in system1_names(state).items()}
    added = silent_tensors(own)
    strangers = sorted(set(own) - set(names) - set(added))
    if strangers:
        raise ValueError(
            f"RDT-1B's checkpoint has no {', '.join(strangers[:5])}, which this System 1 needs; use --preset rdt_1b "
            "and name the robot: --policy.system1.embodiment, e.g. aloha_agilex"
        )
    weights = rename(state, names, own=own, source=str(file)) | added
    system1.load_state_dict({name.removeprefix("system1."): tensor for name, tensor in weights.items()})
    return Initialised(tuple(sorted(names)), tuple(sorted(added)))


def rename(
    state: Mapping[str, Tensor],
    names: Mapping[str, str],
    *,
    own: Mapping[str, Tensor],
    source: str,
    unread: Set[str] = frozenset(),
) -> dict[str, Tensor]:
    """A checkpoint's tensors under our names, in fp32.

    Args:
        names: our name -> the checkpoint's.
        own: our module's tensors, for their shapes; those that `names` lacks are ignored.
        unread: tensors of the checkpoint that its code never reads.
    Raises:
        ValueError: a tensor is missing, unexpected, or of another shape. The message has both names.
    """
    biases = {f"{ours[:-6]}bias": f"{theirs[:-6]}bias" for ours, theirs in names.items() if ours.endswith(".weight")}
    # a bias that our module has is expected in the checkpoint
    names = {ours: theirs for ours, theirs in biases.items() if ours in own} | dict(names)
    both = {ours: f"{theirs} (here {ours})" for ours, theirs in names.items()}
    expected = shapes_of({both[ours]: tensor for ours, tensor in own.items() if ours in names})
    there = {ours: state[theirs] for ours, theirs in names.items() if theirs in state}
    found = {both[ours]: _shape(ours, tensor, own.get(ours)) for ours, tensor in there.items()}
    found |= shapes_of({name: state[name] for name in set(state) - set(names.values()) - unread})
    check_fit(expected, found, source=source)  # before a tensor is copied
    return {ours: tensor.reshape(own[ours].shape).float() for ours, tensor in there.items()}


def silent_tensors(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors that RDT-1B lacks, with values that change nothing: types of tokens, age, streams' embedding."""
    silent = ("system2.stream_embedding", *(f"system1.dit.{name}" for name in OWN_OF_DIT))
    tensors = {name: torch.zeros(tensor.shape) for name, tensor in own.items() if name.startswith(silent)}
    # the layer after it is zero; with zeros here, too, neither could learn
    first = "system1.dit.staleness_in.up.weight"
    tensors[first] = 0.02 * torch.randn(tensors[first].shape, generator=torch.Generator().manual_seed(0))
    return tensors


def _shape(ours: str, tensor: Tensor, own: Tensor | None) -> tuple[int, ...]:
    """The shape of a checkpoint's tensor, with the axes of ours if they are other ones of the same numbers."""
    if own is None or not ours.endswith(RESHAPED) or tensor.ndim == 0:
        return tuple(tensor.shape)
    fits = tensor.numel() == own.numel() and tensor.shape[-1] == own.shape[-1]
    return tuple(own.shape if fits else tensor.shape)


def _chosen(image_places: tuple[int, ...], num_cameras: int) -> tuple[int, ...]:
    usual = {6: (0, 1, 2, 3, 4, 5), 3: (3, 4, 5), 1: (3,)}
    places = image_places or usual.get(num_cameras, ())
    if len(places) != num_cameras or not all(0 <= place < NUM_IMAGES for place in places):
        raise ValueError(
            f"{num_cameras} cameras need as many places among RDT-1B's six images (0 to 5: head, right, left, one step "
            f"ago, then now), got {places or 'none'}; name them as image_places"
        )
    return places


def _places(positions: Tensor, places: tuple[int, ...]) -> Tensor:
    """`[1 6n d]` -> `[1 kn d]`."""
    if positions.ndim != 3 or positions.shape[1] % NUM_IMAGES:
        raise ValueError(
            f"model.img_cond_pos_embed is {list(positions.shape)}, expected [1, rows, width] with a multiple of "
            f"{NUM_IMAGES} rows, one share an image"
        )
    images = positions.unflatten(1, (NUM_IMAGES, -1))
    return torch.cat([images[:, place] for place in places], dim=1)
