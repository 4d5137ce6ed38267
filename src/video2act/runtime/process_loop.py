"""System 2 in a process, and on a device, of its own: it slows the control loop only through cores that both use.

A thread beside the control loop sends clips and waits for tokens. A process that raised, died or gives no answer for
`hang_timeout_s` is killed, and another one is started. The frames stay here, so the new one sees the same past.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from video2act.clips import to_frames
from video2act.interfaces import Perceiver, System2Error
from video2act.refresh_rule import RefreshRule, RefreshSpec
from video2act.runtime.main_guard import check_main
from video2act.runtime.process_worker import FAILED, Job, run, unpack
from video2act.runtime.thread_loop import ThreadSlowLoop
from video2act.runtime.workers import worker_context
from video2act.threads import default_threads
from video2act.types import Tokens, Video

NICENESS = 5
"""added to the control loop's: a process that starts again is busy for seconds, and cores may be short"""


class SlowProcessError(RuntimeError):
    """The process is of no more use; the message says why."""


class SlowProcessHangsError(SlowProcessError, TimeoutError):
    """It gave no answer in time."""


class ProcessSystem2:
    """A `Perceiver` in a process. Arguments and errors as `ProcessSlowLoop`."""

    def __init__(self, job: Job, *, start_timeout_s: float, hang_timeout_s: float):
        check_main("choose system2='thread'")
        self.num_starts = 0
        self.on_death: Callable[[], None] = lambda: None
        """called in another thread when the process dies between two refreshes"""
        self._job = job
        self._start_timeout_s = start_timeout_s
        self._hang_timeout_s = hang_timeout_s
        self._lock = threading.Lock()
        self._is_closed = self._is_busy = False
        self._process: BaseProcess | None = None
        try:
            self.start()
        except SlowProcessError as problem:
            raise System2Error(f"System 2 could not be started in a process:\n{problem}") from None

    @property
    def process(self) -> BaseProcess | None:
        """The one that works now."""
        return self._process

    def start(self) -> None:
        """Start a process, unless there is one, and wait until it is ready.

        Raises:
            SlowProcessError: it could not be started, raised or died.
            TimeoutError: it was not ready in time.
        """
        if self._process is not None:
            return
        context = worker_context(run, self._job.build)
        ours, theirs = context.Pipe()
        process = context.Process(target=run, args=(self._job, theirs), name="system2", daemon=True)
        try:
            process.start()
            if process.pid is not None:
                # one that has died already: its answer, below, says why
                with suppress(ProcessLookupError):
                    # from here, not there: it begins with imports, at the pace of whoever sets no limit
                    os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
        except OSError as problem:  # no memory, too many processes
            raise SlowProcessError(f"a process could not be started: {problem}") from problem
        theirs.close()  # or its end would not be noticed
        self.num_starts += 1
        with self._lock:
            self._process, self._pipe = process, ours
            if self._is_closed:
                process.kill()
        try:
            self._answer(None, timeout_s=self._start_timeout_s)
        except TimeoutError:
            raise TimeoutError(
                f"System 2's process was not ready within {self._start_timeout_s:g} s; its first run hangs, or "
                "loading is slower than that: raise start_timeout_s"
            ) from None
        self._watcher = threading.Thread(target=self._watch, args=(process,), name="system2-watcher", daemon=True)
        self._watcher.start()

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        """Raises SlowProcessError: the process raised, died or hangs. It is killed, and `start` starts another one."""
        if self._process is None:
            raise SlowProcessError("the process is not there; call start")
        try:
            sent = {name: (to_frames(clip), clip.fps) for name, clip in clips.items()}
            return unpack(self._answer((sent, instruction), timeout_s=self._hang_timeout_s))
        except TimeoutError:
            problem = f"no progress for {self._hang_timeout_s:g} s; the process was killed"
            raise SlowProcessHangsError(problem) from None

    def close(self) -> None:
        """End the process, whatever it does."""
        self._is_closed = True
        self._kill()
        self._watcher.join(1.0)

    def _answer(self, message: object, *, timeout_s: float) -> bytes:
        """What the process answers; None: to its start. Without an answer, the process is ended.

        Raises:
            SlowProcessError: the process raised or died.
            TimeoutError: it gave no answer in time.
        """
        process, pipe, is_late = self._process, self._pipe, threading.Event()
        killer = threading.Timer(timeout_s, lambda: (is_late.set(), self._kill()))
        killer.daemon = True
        killer.start()
        self._is_busy = True
        try:
            with suppress(OSError):  # it has died; to receive says how
                if message is not None:
                    pipe.send(message)
            answer = pipe.recv_bytes()
            if answer[:1] == FAILED:
                raise SlowProcessError(answer[1:].decode())
            return answer[1:]
        except (EOFError, ConnectionError, SlowProcessError) as problem:
            self._end()
            if is_late.is_set():
                raise TimeoutError from None
            if isinstance(problem, SlowProcessError):
                raise
            code = None if process is None else process.exitcode
            how = f"killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
            raise SlowProcessError(f"the process was {how}") from None
        finally:
            self._is_busy = False
            killer.cancel()

    def _kill(self) -> None:
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def _end(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.join(1.0)  # one that died keeps its own exit code
            process.kill()
            process.join()
            self._pipe.close()

    def _watch(self, process: BaseProcess) -> None:
        wait([process.sentinel])  # not `join`: only one thread can read how it ended
        if self._process is process and not self._is_closed and not self._is_busy:
            self.on_death()


class ProcessSlowLoop(ThreadSlowLoop):
    """System 2 in a process of its own. Ready when it is constructed: the process has built System 2 and run it once.

    Args:
        build: makes System 2 there. It travels by name: a function of a module, or a `functools.partial` of one.
        instruction: for the run that warms up; one that the video model's text encoder knows.
        num_threads: of torch in that process; None: half of the machine's cores, so that the control loop keeps the
            others.
        first_condition_timeout_s: longest wait for the first condition of an episode.
        start_timeout_s: longest wait for the process to be ready.
        hang_timeout_s: without an answer for so long, the process is killed. Must be longer than any refresh.
    Raises:
        System2Error: System 2 cannot be built there, or its first run fails; the message holds its traceback.
        TimeoutError: it was not ready in time.
        ValueError: a process cannot import the program.
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
        threads = default_threads() if num_threads is None else num_threads
        job = Job(build, spec, instruction, threads)
        self._system2 = ProcessSystem2(job, start_timeout_s=start_timeout_s, hang_timeout_s=hang_timeout_s)
        super().__init__(
            self._system2,
            spec,
            first_condition_timeout_s=first_condition_timeout_s,
            hang_timeout_s=start_timeout_s + hang_timeout_s,  # the process has limits of its own
            where="process",
            end_system=self._system2.close,
        )
        self._system2.on_death = self._begin_again

    @property
    def num_starts(self) -> int:
        """How often the process was started, the first time included."""
        return self._system2.num_starts

    @property
    def pid(self) -> int | None:
        """The number of the process that works now; None without one."""
        process = self._system2.process
        return None if process is None else process.pid

    def _prepare(self) -> None:
        self._system2.start()  # after a failure, which takes seconds

    def _begin_again(self) -> None:
        """The process has died: notice that at once, not at the next refresh."""
        with self._changed:
            self._rule = RefreshRule(self._spec.refresh_every)
        self._worker.ask(self)
