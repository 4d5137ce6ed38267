"""Where System 1 attends while it makes a plan: at which words, which camera, which place of its picture, which stream.

Blocks that read the text read nothing else, and so do those that read images and video (`system1/action_dit.py`):
shares are of one block's attention.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from video2act.policy import Video2Act
from video2act.system1.attention import attention_recorded
from video2act.system1.encoders import MAP_SIZE
from video2act.text.encoder import ByteTextEncoder
from video2act.types import ActionChunk, Observation, VideoCondition


@dataclass(frozen=True)
class Attention:
    """The attention of one plan, as means over actions, heads and denoising steps."""

    chunk: ActionChunk
    """the plan"""
    blocks: tuple[dict[str, float], ...]
    """for each block: `text`, or each camera and each stream of System 2 -> share; empty where it reads nothing"""
    num_tokens: dict[str, int]
    """of `text`, each camera and each stream"""
    words: tuple[tuple[str, float], ...]
    """of the instruction, in their order -> share, mean of the blocks that read text"""
    maps: dict[str, Float[np.ndarray, "h w"]]
    """camera -> share of each place of its picture, mean of the blocks that read images; without its key points,
    which have no place"""


def attend(policy: Video2Act, observation: Observation, *, condition: VideoCondition) -> Attention:
    """Make a plan and record where System 1 attends meanwhile. Raises as `Video2Act.act`."""
    with attention_recorded(policy.system1.dit) as attended:
        chunk = policy.act(observation, condition)
    blocks = [block.double().numpy() for block in attended.blocks()]
    text, seen = blocks[0::2], blocks[1::2]
    num_tokens = {"text": len(text[0]), **_seen(policy, len(seen[0]) if seen else 0)}
    names = [name for name in num_tokens if name != "text"]
    ends = np.cumsum([0, *(num_tokens[name] for name in names)])
    spans = {name: slice(*span) for name, span in zip(names, pairwise(ends.tolist()), strict=True)}
    shares = [
        ({"text": 1.0} if number % 2 == 0 else {name: float(block[span].sum()) for name, span in spans.items()})
        if block.sum() > 0
        else {}
        for number, block in enumerate(blocks)
    ]
    mean_seen = np.mean(seen, axis=0) if seen else np.zeros(0)
    maps = {
        name: grid
        for name in policy.config.cameras
        if name in spans
        if (grid := _grid(mean_seen[spans[name]])) is not None
    }
    return Attention(
        chunk, tuple(shares), num_tokens, _words(policy, observation.instruction, np.mean(text, axis=0)), maps
    )


def _seen(policy: Video2Act, total: int) -> dict[str, int]:
    """Tokens of each camera and of each stream, in their order."""
    config = policy.config
    cameras = () if policy.is_blind else config.cameras
    streams = config.system2.streams if config.system2 and not policy.is_blind else ()
    of_streams = {f"System 2: {stream.name}": stream.former.num_tokens for stream in streams}
    per_camera, rest = divmod(total - sum(of_streams.values()), len(cameras) or 1)
    if rest or per_camera < 0:
        raise ValueError(f"{total} tokens cannot be those of cameras {cameras} and {of_streams}")
    return {**dict.fromkeys(cameras, per_camera), **of_streams} if cameras else of_streams


def _grid(share: Float[np.ndarray, "n"]) -> Float[np.ndarray, "h w"] | None:
    """Tokens as places of a picture; None if they are not a square. Our own encoder has one more token: key points."""
    places = share[: MAP_SIZE**2] if len(share) == MAP_SIZE**2 + 1 else share
    side = math.isqrt(len(places))
    return places.reshape(side, side) if side and side**2 == len(places) else None


def _words(policy: Video2Act, instruction: str, share: Float[np.ndarray, "n"]) -> tuple[tuple[str, float], ...]:
    """The byte encoder's tokens are added up per word, with the space before it. Other encoders' stay tokens."""
    if not isinstance(policy.system1.text, ByteTextEncoder):
        return tuple((f"token {number + 1}", float(value)) for number, value in enumerate(share))
    found, begin = [], 0
    for word in instruction.split(" "):
        end = begin + len(word.encode()) + (begin > 0)
        found.append((word, float(share[begin:end].sum())))
        begin = end
    return (*found, ("(end)", float(share[begin:].sum())))
