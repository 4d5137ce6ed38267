"""The answers of a server, checked against its contract before a robot is driven by them."""

import math
from typing import Any

import numpy as np

from video2act.serving.codec import MessageError
from video2act.serving.contract import Contract
from video2act.serving.message_checks import describe
from video2act.types import ActionChunk


def read_plan(answer: dict[str, Any], contract: Contract, *, newest_time: float) -> ActionChunk:
    """The plan of an answer.

    Args:
        newest_time: of the frames that the server had: a plan is not of a later moment.
    Raises:
        MessageError: it is not as the contract says.
    """
    actions = _floats(answer.get("actions"), "actions", shape=(contract.horizon, contract.action_dim))
    period_s, observed_at = _number(answer, "period_s"), _number(answer, "observed_at")
    if not math.isclose(period_s, contract.period_s, rel_tol=1e-6):
        raise _breaks(f"'period_s' is {contract.period_s:g}", f"{period_s:g}")
    if observed_at > newest_time:
        raise _breaks(f"'observed_at' is at most {newest_time:.6f}, the time of the newest frame", f"{observed_at:.6f}")
    return ActionChunk(actions, observed_at, period_s)


def read_tokens(answer: dict[str, Any], token_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens `[1 n d]` and their mask `[1 n]`, of System 2.

    Args:
        token_dim: d; 0: any.
    Raises:
        MessageError: they are missing, of another type or shape, or not finite.
    """
    tokens = _floats(answer.get("tokens"), "tokens", shape=(1, None, token_dim or None))
    mask, wanted = answer.get("mask"), tokens.shape[:2]
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != wanted:
        raise _breaks(f"'mask' is an array of bool {list(wanted)}", describe(mask))
    return tokens, mask


def _floats(value: Any, name: str, *, shape: tuple[int | None, ...]) -> np.ndarray:
    """A finite array of this shape; None stands for any size."""
    wanted = f"{name!r} is an array of float32 [{' '.join('n' if size is None else str(size) for size in shape)}]"
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.ndim != len(shape):
        raise _breaks(wanted, describe(value))
    if any(wish is not None and size != wish for size, wish in zip(value.shape, shape, strict=True)):
        raise _breaks(wanted, describe(value))
    if not np.isfinite(value).all():
        place = np.argwhere(~np.isfinite(value))[0].tolist()
        raise _breaks(f"{name!r} is finite", f"{value[tuple(place)]} at {place}")
    return value


def _number(answer: dict[str, Any], name: str) -> float:
    value = answer.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise _breaks(f"{name!r} is a finite number of seconds", describe(value))
    return float(value)


def _breaks(promised: str, got: str) -> MessageError:
    remedy = "serve with `video2act serve`, of the same version"
    return MessageError(f"the server does not keep to its metadata: {promised}, but its answer has {got}; {remedy}")
