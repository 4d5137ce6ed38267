"""System 2s for a process of their own: module-level, because they travel there by name."""

import os
import signal
import time
from pathlib import Path

import torch

from video2act.types import Tokens, Video


class Counting:
    """Its two tokens are the number of the newest frame and of the oldest one in the clip; what else it does is in a
    file."""

    def __init__(self, orders: Path | None = None):
        self._orders = orders

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        if not clips:
            return Tokens.empty(1, 1, like=torch.zeros(1))
        numbers = ((clips["motion"].grid[0, 0, :, 0, 0] + 1) * 127.5).round()
        if self._orders is not None and self._orders.exists():
            self._obey(self._orders.read_text(), newest=int(numbers[-1]))
        return Tokens.all_visible(torch.stack([numbers[-1], numbers[0]])[None, :, None])

    def _obey(self, order: str, newest: int) -> None:
        if order == "raise":
            raise ZeroDivisionError("a broken lens")
        if order == "hang":
            time.sleep(1000)
        if order == "raise after the first" and newest > 0:
            raise ZeroDivisionError("a broken lens")
        if order.startswith("sleep "):
            time.sleep(float(order.split()[1]))


def counting() -> Counting:
    return Counting()


def obedient(orders: Path) -> Counting:
    return Counting(orders)


def cannot_be_built() -> Counting:
    raise FileNotFoundError("runs/nowhere does not exist")


def ends_early() -> Counting:
    raise EOFError("the weights end early")


def dies_at_once() -> Counting:
    os.kill(os.getpid(), signal.SIGKILL)
    return Counting()


def threads_and_niceness() -> "Reporting":
    return Reporting()


class Reporting:
    """Its tokens tell how the process was set up."""

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        return Tokens.all_visible(torch.tensor([[[float(torch.get_num_threads())], [float(os.nice(0))]]]))
