"""The last frames of a robot's cameras in one block of memory, which another thread or process reads while it is
written.

The control loop writes one slot per control step and never waits; a reader that was slow finds the newest frame and as
many before it as a clip can need. A slot carries the number of its frame, taken away while it is written: a reader that
sees another number before or after its copy knows that the frame is gone. So there is no queue that could grow and no
lock that a dead process could hold.
"""

from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from video2act.refresh_rule import Frame
from video2act.types import Observation

INSTRUCTION_BYTES = 4096
HEADER = np.dtype([("newest", "i8"), ("progress", "i8"), ("is_busy", "i8"), ("seen", "i8")])
NO_STATE = np.zeros(0, np.float32)


@dataclass(frozen=True)
class RingLayout:
    """The shape of a ring, small enough to be told to another process."""

    cameras: dict[str, tuple[int, int]]
    """camera -> height, width"""
    capacity: int
    """frames"""

    @property
    def slot(self) -> np.dtype:
        fixed = [("ticket", "i8"), ("episode", "i8"), ("control_step", "i8"), ("time", "f8"), ("length", "i4")]
        images = [(f"image:{camera}", "u1", (*size, 3)) for camera, size in self.cameras.items()]
        return np.dtype([*fixed, ("instruction", "u1", (INSTRUCTION_BYTES,)), *images])

    @property
    def num_bytes(self) -> int:
        return HEADER.itemsize + self.capacity * self.slot.itemsize


class FrameRing:
    """A ring in memory of this process, or in shared memory.

    Args:
        shared: memory of at least `layout.num_bytes`; a block of this process's own, if None.
    """

    def __init__(self, layout: RingLayout, shared: SharedMemory | None = None, *, is_new: bool = True):
        self.layout = layout
        self.shared = shared
        memory = bytearray(layout.num_bytes) if shared is None else shared.buf
        self._header = np.ndarray(1, HEADER, memory)
        self._slots = np.ndarray(layout.capacity, layout.slot, memory, offset=HEADER.itemsize)
        if is_new:
            # every page is touched here, not by the first lap of frames
            np.ndarray(layout.num_bytes, np.uint8, memory)[:] = 0
            self._slots["ticket"] = -1
            self._header["newest"] = self._header["seen"] = -1

    @classmethod
    def in_shared_memory(cls, layout: RingLayout) -> "FrameRing":
        return cls(layout, SharedMemory(create=True, size=layout.num_bytes))

    @classmethod
    def attach(cls, layout: RingLayout, name: str) -> "FrameRing":
        """The reader's view of a ring that another process made."""
        return cls(layout, SharedMemory(name), is_new=False)

    def close(self, unlink: bool = False) -> None:
        """Let go of shared memory; its maker also unlinks it."""
        # to a watchdog that still looks, a closed ring is an idle one
        self._header, self._slots = np.zeros(1, HEADER), np.empty(0, self.layout.slot)
        if self.shared is not None:
            self.shared.close()
            if unlink:
                self.shared.unlink()

    # the control loop's side

    def write(self, observation: Observation, episode: int, *, control_step: int) -> None:
        """Make this frame the newest.

        Raises:
            ValueError: the instruction is longer than a slot holds.
        """
        words = observation.instruction.encode()
        if len(words) > INSTRUCTION_BYTES:
            raise ValueError(
                f"an instruction may have {INSTRUCTION_BYTES} bytes, got {len(words)}: "
                f"{observation.instruction[:40]}..."
            )
        ticket = int(self._header["newest"][0]) + 1
        slot = self._slots[ticket % self.layout.capacity]
        slot["ticket"] = -1
        slot["episode"], slot["control_step"], slot["time"] = episode, control_step, observation.time
        slot["length"] = len(words)
        slot["instruction"][: len(words)] = np.frombuffer(words, np.uint8)
        for camera in self.layout.cameras:
            slot[f"image:{camera}"] = observation.images[camera]
        slot["ticket"] = ticket
        self._header["newest"] = ticket

    # the reader's side

    @property
    def newest(self) -> int:
        """The number of the newest frame, counted from 0; -1 if there is none."""
        return int(self._header["newest"][0])

    def read(self, ticket: int) -> Frame | None:
        """A copy of a frame: the streams' cameras, no state. None if it has been overwritten."""
        slot = self._slots[ticket % self.layout.capacity]
        if int(slot["ticket"]) != ticket:
            return None
        images = {camera: slot[f"image:{camera}"].copy() for camera in self.layout.cameras}
        words = bytes(slot["instruction"][: int(slot["length"])])
        episode, control_step, time = int(slot["episode"]), int(slot["control_step"]), float(slot["time"])
        if int(slot["ticket"]) != ticket:
            return None
        return Frame(Observation(images, NO_STATE, words.decode(), time), episode, control_step)

    # how a watchdog tells work from a hang

    def report(self, is_busy: bool) -> None:
        """The reader says that it lives: what it has seen, and whether it works on it."""
        self._header["seen"] = self.newest
        self._header["is_busy"] = is_busy
        self._header["progress"] += 1

    def forget_reader(self) -> None:
        """A new reader begins."""
        self._header["seen"], self._header["is_busy"] = -1, 0

    @property
    def progress(self) -> int:
        return int(self._header["progress"][0])

    @property
    def is_idle(self) -> bool:
        """Whether the reader has nothing left to do."""
        return not self._header["is_busy"][0] and int(self._header["seen"][0]) >= self.newest
