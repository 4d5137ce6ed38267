"""Tensors of the released code under our names. Strict: what is missing, left over or of another shape is named in an error."""

from collections.abc import Mapping

import torch
from torch import Tensor

from video2act.files.weights import check_fit, shapes_of
from video2act.interop.released_names import (
    OWN_OF_DIT,
    frame_former_names,
    projection_names,
    system1_names,
    unread_names,
)
from video2act.interop.released_streams import STREAMS

RESHAPED = ("position", "queries")
"""endings of our names whose tensors have a leading axis of one in theirs, or frames and tokens as two axes"""


def policy_names(state: Mapping[str, Tensor], streams: tuple[str, ...]) -> dict[str, str]:
    """Everything that is converted: our name in `Video2Act` -> theirs."""
    names = {f"system1.{ours}": theirs for ours, theirs in system1_names(state).items()}
    for stream in streams:
        theirs = STREAMS[stream][0]
        is_former = f"{theirs}_token_compressor.latents" in state
        found = frame_former_names(state, theirs) if is_former else projection_names(state, theirs)
        names |= {f"system2.formers.{stream}.{name}": other for name, other in found.items()}
    return names


def rename(
    state: Mapping[str, Tensor], names: Mapping[str, str], *, own: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """Their tensors under our names, in fp32.

    Args:
        names: our name -> theirs.
        own: tensors of our module, for their shapes; those that `names` lacks are not looked at.
    Raises:
        ValueError: a tensor is missing, unexpected, or of another shape; they are named as in the file, and as here.
    """
    names = dict(names) | _biases(names, own)
    renamed = {}
    for ours, theirs in names.items():
        if theirs in state:
            renamed[ours] = _reshaped(
                ours, state[theirs], shape=own[ours].shape if ours in own else state[theirs].shape
            ).float()
    left_over = set(state) - set(names.values()) - unread_names(state)
    both = {ours: f"{theirs} (here {ours})" for ours, theirs in names.items()}
    expected = {both[ours]: tensor for ours, tensor in own.items() if ours in names}
    found = {both[ours]: tensor for ours, tensor in renamed.items()} | {name: state[name] for name in left_over}
    check_fit(shapes_of(expected), shapes_of(found), source=source)
    return renamed


def _biases(names: Mapping[str, str], own: Mapping[str, Tensor]) -> dict[str, str]:
    """Those that our modules have and the file lacks: named too, so that they are found missing."""
    weights = ((ours, theirs) for ours, theirs in names.items() if ours.endswith(".weight"))
    biases = {f"{ours[:-6]}bias": f"{theirs[:-6]}bias" for ours, theirs in weights}
    return {ours: theirs for ours, theirs in biases.items() if ours in own and ours not in names}


def _reshaped(ours: str, tensor: Tensor, *, shape: torch.Size) -> Tensor:
    if ours.endswith("frame_position") and tensor.ndim == 3 and tensor.shape[1:] == shape[1:]:
        # theirs reads the first of too many, and repeats a single one
        return tensor.expand(shape) if len(tensor) == 1 else tensor[: shape[0]]
    fits = ours.endswith(RESHAPED) and tensor.numel() == shape.numel() and tensor.shape[-1] == shape[-1]
    return tensor.reshape(shape) if fits else tensor


def own_tensors(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What ours has and theirs lacks, so set that it adds nothing: types of image and video, age, which stream a token is of."""
    silent = tuple(f"system1.dit.{name}" for name in OWN_OF_DIT)
    tensors = {
        name: torch.zeros(tensor.shape)
        for name, tensor in own.items()
        if name.startswith(silent) or name == "system2.stream_embedding"
    }
    # what comes before zeros may be anything but zero: it could never learn
    first = "system1.dit.staleness_in.up.weight"
    tensors[first] = 0.02 * torch.randn(tensors[first].shape, generator=torch.Generator().manual_seed(0))
    return tensors
