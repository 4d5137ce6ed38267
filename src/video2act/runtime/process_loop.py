"""System 2 in a process, and on a device, of its own: what it does cannot slow the control loop but by the cores they
share.

Frames go out through a ring in shared memory, tokens come back through a pipe. A thread beside the control loop
watches: a process that raised, died or shows no progress for `hang_timeout_s` is killed, and another one is started.
The ring outlives it, so the new one sees the same past.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from video2act.interfaces import Perceiver, System2Error
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.background import BackgroundSlowLoop
from video2act.runtime.frame_ring import FrameRing, RingLayout
from video2act.runtime.process_worker import FAILED, READY, REFRESHED, Job, ring_address, run, unpack
from video2act.runtime.workers import worker_context

WATCH_S = 0.05
"""between two looks at whether the process still makes progress"""

NICENESS = 5
"""added to the control loop's: a process that starts again is busy for seconds, and cores may be short"""


class SlowProcessError(RuntimeError):
    """The process is of no more use; the message says why."""


class ProcessSlowLoop(BackgroundSlowLoop):
    """System 2 in a process of its own. Ready when it is constructed: the process has built System 2 and run it once.

    Args:
        build: makes System 2 there. It travels by name: a function of a module, or a `functools.partial` of one.
        instruction: for the run that warms up; one that the video model's text encoder knows.
        num_threads: of torch in that process; half of the machine's cores, if None, so that the control loop keeps the
            others.
        first_condition_timeout_s: bounds the wait for the first condition of an episode.
        start_timeout_s: bounds the wait for the process to be ready.
        hang_timeout_s: without progress for so long, it is taken to hang. Must be longer than any refresh.
    Raises:
        System2Error: System 2 cannot be built there, or its first run fails; the message holds its traceback.
        TimeoutError: it was not ready in time.
    """

    def __init__(
        self,
        build: Callable[[], Perceiver],
        spec: RefreshSpec,
        *,
        instruction: str,
        num_threads: int | None = None,
        first_condition_timeout_s: float = 60.0,
        start_timeout_s: float = 300.0,
        hang_timeout_s: float = 10.0,
    ):
        super().__init__(
            "process", spec, first_condition_timeout_s=first_condition_timeout_s, hang_timeout_s=hang_timeout_s
        )
        self.num_starts = 0
        """of the process, the first one included"""
        threads = max(1, (os.cpu_count() or 2) // 2) if num_threads is None else num_threads
        self._job = Job(build, spec, instruction, threads)
        self._start_timeout_s = start_timeout_s
        self._pipe_lock = threading.Lock()
        self._process: BaseProcess | None = None
        try:
            self._start()
            self._wait_ready()
        except SlowProcessError as problem:
            self._end_process()
            raise System2Error(f"System 2 could not be started in a process:\n{problem}") from None
        except TimeoutError:
            self._end_process()
            raise
        self._watcher = threading.Thread(target=self._watch, name="system2-watcher", daemon=True)
        self._watcher.start()

    @property
    def pid(self) -> int | None:
        """Of the process that works now."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """End the process, whatever it does, and free the shared memory."""
        self._closing.set()
        self._watcher.join(self._start_timeout_s)
        if self._ring is not None:
            ring, self._ring = self._ring, None
            ring.close(unlink=True)

    # frames

    def _make_ring(self, layout: RingLayout) -> FrameRing:
        return FrameRing.in_shared_memory(layout)

    def _ring_changed(self, ring: FrameRing, old: FrameRing | None) -> None:
        with self._pipe_lock:
            self._tell_ring(ring)
        if old is not None:
            old.close(unlink=True)

    # the watcher's thread

    def _watch(self) -> None:
        try:
            while not self._closing.is_set():
                try:
                    if self._process is None:
                        self._restart()
                    self._serve()
                except SlowProcessError as problem:
                    self._end_process()
                    self._closing.wait(self._failed(str(problem)))
        finally:
            self._end_process()

    def _restart(self) -> None:
        if self._ring is not None:
            self._ring.forget_reader()
        self._start()
        try:
            self._wait_ready()
        except TimeoutError as problem:
            raise SlowProcessError(str(problem)) from problem

    def _serve(self) -> None:
        """Pass on what the process understands, until it fails or the loop is closed.

        Raises:
            SlowProcessError: it raised, died or hangs.
        """
        progress, since = -1, time.monotonic()
        while not self._closing.is_set():
            kind, content = self._receive(WATCH_S)
            if kind == REFRESHED:
                self._publish(unpack(content))
            ring = self._ring
            if ring is None or ring.is_idle or ring.progress != progress:
                progress, since = -1 if ring is None else ring.progress, time.monotonic()
            elif time.monotonic() - since > self._hang_timeout_s:
                raise SlowProcessError(f"no progress for {self._hang_timeout_s:g} s; the process was killed")

    def _receive(self, timeout_s: float) -> tuple[bytes, bytes]:
        """A message, or two empty ones if none comes in time. Raises SlowProcessError for a failure or the end."""
        if not wait([self._pipe], timeout_s):
            return b"", b""
        try:
            message = self._pipe.recv_bytes()
        except (EOFError, OSError):
            assert self._process is not None
            self._process.join(1.0)
            code = self._process.exitcode
            how = f"killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
            raise SlowProcessError(f"the process was {how}") from None
        if message[:1] == FAILED:
            raise SlowProcessError(message[1:].decode())
        return message[:1], message[1:]

    def _start(self) -> None:
        context = worker_context(self._job.build)
        ours, theirs = context.Pipe()
        process = context.Process(target=run, args=(self._job, theirs), name="system2", daemon=True)
        try:
            process.start()
            assert process.pid is not None
            # from here, not there: it begins with imports, at the pace of whoever sets no limit
            os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
        except OSError as problem:  # no memory, too many processes, or dead before it was given its priority
            raise SlowProcessError(f"a process could not be started: {problem}") from problem
        self._process = process
        theirs.close()  # or its end would not be heard
        self.num_starts += 1
        with self._pipe_lock:
            self._pipe = ours
            if self._ring is not None:
                self._tell_ring(self._ring)

    def _wait_ready(self) -> None:
        end = time.monotonic() + self._start_timeout_s
        while not self._closing.is_set():
            kind, _ = self._receive(WATCH_S)
            if kind == READY:
                return
            if time.monotonic() > end:
                raise TimeoutError(
                    f"System 2's process was not ready within {self._start_timeout_s:g} s; its first run hangs, or "
                    f"loading is "
                    "slower than that: raise start_timeout_s"
                )

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
            self._pipe.close()

    def _tell_ring(self, ring: FrameRing) -> None:
        with suppress(OSError):  # it has just died: the watcher notices, and the next process is told
            self._pipe.send_bytes(ring_address(ring))
