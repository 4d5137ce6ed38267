"""Runs one job of a study after another: each is a process of its own, with a log, whose result is a small json.

    jobs/NAME.json   command, fingerprints of what it was made from, result, seconds and CPU-seconds of every attempt
                     that ended by itself, machine, versions
    logs/NAME.log    what it printed

An interrupted job goes on where it was: trainings at their newest checkpoint, evaluations after their last episode.
What is there already counts by its record alone.
"""

import ctypes
import json
import os
import platform
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from video2act.evaluation.findings import versions
from video2act.files.atomic import write_text
from video2act.files.evaluation_folder import read_evaluation
from video2act.files.run_folder import TRAINING_FILE
from video2act.study.jobs import StudyJob
from video2act.study.made_from import fingerprints
from video2act.study.records import MADE_FROM, log_path, read_record, record_path
from video2act.training.resuming import is_trained

COMMAND = (sys.executable, "-m", "video2act.cli")
TRAININGS = ("train", "train-video")


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    job: StudyJob
    record: dict[str, Any]
    error: str = ""
    """the last line of its log; empty: it is done"""


class JobWorker:
    """Runs jobs in the study's folder.

    Args:
        folder: the study's, absolute.
        path: PYTHONPATH of the jobs.
    """

    def __init__(self, folder: Path, path: str):
        self._folder = folder
        self._environment = {**os.environ, "PYTHONPATH": path}
        # one thread each: two jobs of one thread do more than one of two, and sums do not depend on the machine
        self._environment.setdefault("OMP_NUM_THREADS", "1")

    def __call__(self, job: StudyJob) -> Outcome:
        found = read_record(self._folder, job)
        record = found or {"name": job.name, "finished": False, "attempts": []}
        for attempt in record["attempts"]:
            _close(attempt, log_path(self._folder, job.name))
        is_begun = job.kind in TRAININGS and (self._folder / job.out / TRAINING_FILE).is_file()
        code = 0
        # an evaluation that is there is made again: by itself it does not say that it is this job's
        if found is None or not is_trained(self._folder / job.out):
            # recorded before it runs: it may end together with the study
            record |= {"command": f"video2act {shlex.join(job.words)}", "words": list(job.words)}
            record[MADE_FROM] = fingerprints(self._folder, job)
            record["attempts"].append({"started": _now(), "exit_code": None, "machine": machine()})
            self._write(job, record)
            code, record["attempts"][-1] = self._run(job, [*job.words, *["--resume"] * is_begun])
        for name in ("seconds", "cpu_seconds"):
            record[name] = round(sum(attempt.get(name, 0.0) for attempt in record["attempts"]), 3)
        if code == 0:
            record |= {"finished": True, "result": _result(self._folder / job.out, job), "versions": versions()}
        self._write(job, record)
        return Outcome(job, record, "" if code == 0 else _last_line(log_path(self._folder, job.name), code))

    def close(self) -> None:
        pass

    def _write(self, job: StudyJob, record: dict[str, Any]) -> None:
        write_text(record_path(self._folder, job.name), json.dumps(record, indent=2) + "\n")

    def _run(self, job: StudyJob, words: list[str]) -> tuple[int, dict[str, Any]]:
        log, command = log_path(self._folder, job.name), [*COMMAND, *words]
        log.parent.mkdir(parents=True, exist_ok=True)
        started, began = _now(), time.monotonic()
        with log.open("ab") as written:
            written.write(f"== {started} video2act {shlex.join(words)}\n".encode())
            written.flush()
            with _child(command, cwd=self._folder, env=self._environment, output=written) as process:
                # the child's own use, with that of its processes: what the computation cost
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode, {
            "started": started,
            "seconds": round(time.monotonic() - began, 3),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
            "max_memory_mib": usage.ru_maxrss // 1024,
            "exit_code": process.returncode,
            "machine": machine(),
        }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _close(attempt: dict[str, Any], log: Path) -> None:
    """Give an attempt that ended together with the study its seconds, up to the last line of its log. Its CPU-seconds
    nobody counted."""
    if attempt["exit_code"] is None and "seconds" not in attempt and log.is_file():
        attempt["seconds"] = max(0.0, log.stat().st_mtime - datetime.fromisoformat(attempt["started"]).timestamp())


@contextmanager
def _child(command: list[str], *, cwd: Path, env: dict[str, str], output: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when this one does, however that ended."""
    parent = os.getpid()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def end_with_parent() -> None:
        if libc is not None:
            libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: a training then writes a checkpoint
            if os.getppid() != parent:
                os._exit(1)

    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        preexec_fn=end_with_parent,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            process.wait()


def machine() -> dict[str, Any]:
    """Of this process: what the seconds depend on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        model = next((value.strip() for name, _, value in lines if name.strip() == "model name"), model)
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    return {"host": socket.gethostname(), "cpu": model, "cores": os.cpu_count(), "threads": threads}


def _result(out: Path, job: StudyJob) -> dict[str, Any]:
    if job.kind != "eval":
        return {}
    return read_evaluation(out)["overall"]["success"]


def _last_line(log: Path, code: int) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"exit code {code}: {lines[-1][:500]}; see {log}"
