"""What runs in System 2's own process: build it, warm it up, then follow the ring of frames until the control loop is
gone.

It talks over one pipe. Towards it: json, where the ring lies. Back: a letter, then words or safetensors. When the
pipe ends, the worker ends too, even in the middle of a refresh that hangs. So it never outlives the control loop.
"""

import json
import os
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch
from safetensors.torch import load, save

from video2act.interfaces import Perceiver
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.frame_ring import FrameRing, RingLayout
from video2act.runtime.refresh import Refreshed, Refresher, warm_up
from video2act.types import Tokens

IDLE_S = 0.002
"""between two looks for a new frame; small beside any refresh"""

READY, REFRESHED, FAILED = b"r", b"t", b"f"


@dataclass(frozen=True)
class Job:
    """What the process shall do; travels to it when it is started."""

    build: Callable[[], Perceiver]
    spec: RefreshSpec
    instruction: str
    """for the warm-up"""
    num_threads: int


def run(job: Job, pipe: Connection) -> None:
    """The process's main function."""
    torch.set_num_threads(job.num_threads)
    # Ctrl-C in a terminal reaches every process; this one ends when the control loop's end of the pipe does
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    post = Post(pipe)
    try:
        system = job.build()
        warm_up(system, job.spec, instruction=job.instruction)
        post.tell(READY)
        refresher = Refresher(system, job.spec)
        while True:
            ring = post.ring(IDLE_S)
            if ring is None:
                continue
            ring.report(is_busy=True)
            refreshed = refresher.work(ring)
            ring.report(is_busy=False)
            if refreshed is not None:
                post.tell(REFRESHED, pack(refreshed))
    except Exception:  # noqa: BLE001 - whatever it is, the control loop must learn of it, and starts another process
        post.tell(FAILED, traceback.format_exc().encode())


class Post:
    """The process's end of the pipe. A thread listens, so that a hang does not outlive the control loop."""

    def __init__(self, pipe: Connection):
        self._pipe = pipe
        self._layout: tuple[RingLayout, str] | None = None
        self._ring: FrameRing | None = None
        self._ring_name = ""
        self._has_news = threading.Event()
        threading.Thread(target=self._listen, name="listener", daemon=True).start()

    def tell(self, kind: bytes, content: bytes = b"") -> None:
        self._pipe.send_bytes(kind + content)

    def ring(self, wait_s: float) -> FrameRing | None:
        """The ring to follow, if one is known; pauses for `wait_s` or until there is another one."""
        self._has_news.wait(wait_s)
        self._has_news.clear()
        if self._layout is not None and self._layout[1] != self._ring_name:
            layout, name = self._layout
            if self._ring is not None:
                self._ring.close()
            self._ring, self._ring_name = FrameRing.attach(layout, name), name
        return self._ring

    def _listen(self) -> None:
        try:
            while True:
                told = json.loads(self._pipe.recv_bytes())
                cameras = {camera: (size[0], size[1]) for camera, size in told["cameras"].items()}
                self._layout = RingLayout(cameras, told["capacity"]), told["name"]
                self._has_news.set()
        except (EOFError, OSError):
            os._exit(0)  # the control loop is gone, or does not want this process any more


def ring_address(ring: FrameRing) -> bytes:
    """Where a ring lies, for `Post`."""
    assert ring.shared is not None
    place = {"name": ring.shared.name, "capacity": ring.layout.capacity, "cameras": ring.layout.cameras}
    return json.dumps(place).encode()


def pack(refreshed: Refreshed) -> bytes:
    """A result as bytes: safetensors, so that every dtype passes and nothing is unpickled."""
    stamp = torch.tensor([refreshed.observed_at, refreshed.episode, refreshed.duration_s], dtype=torch.float64)
    return save(
        {
            "data": refreshed.tokens.data.cpu().contiguous(),
            "mask": refreshed.tokens.mask.cpu().contiguous(),
            "stamp": stamp,
        }
    )


def unpack(content: bytes) -> Refreshed:
    """The inverse of `pack`."""
    tensors = load(content)
    observed_at, episode, duration_s = tensors["stamp"].tolist()
    return Refreshed(Tokens(tensors["data"], tensors["mask"]), observed_at, int(episode), duration_s)
