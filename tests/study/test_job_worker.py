"""A job is a process that ends with its study, also where that was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from video2act.study.jobs import StudyJob
from video2act.study.records import read_record

STUDY = """
import sys
from pathlib import Path
from video2act.study import worker
from video2act.study.jobs import StudyJob
code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
worker.COMMAND = (sys.executable, "-S", "-c", code)
worker.JobWorker(Path(sys.argv[1]), "")(StudyJob("long", ("train", "--out", "policies/long"), "policies/long"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the system call is Linux's")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_does_not_outlive_a_study_that_was_killed(tmp_path: Path, number: int):
    study = subprocess.Popen([sys.executable, "-c", STUDY, str(tmp_path)])
    pid = tmp_path / "pid"
    deadline = time.monotonic() + 60
    while not (pid.is_file() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    job = int(pid.read_text())
    study.send_signal(number)
    study.wait(timeout=60)
    while _is_alive(job) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_alive(job)


def test_a_damaged_record_is_named_with_the_remedy(tmp_path: Path):
    job = StudyJob("a", ("eval", "policies/a"), "evaluations/a")
    assert read_record(tmp_path, job) is None
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/a.json").write_text('{"words": ')
    with pytest.raises(ValueError, match=r"jobs/a\.json is damaged .*; remove it, and the job is looked at again"):
        read_record(tmp_path, job)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
