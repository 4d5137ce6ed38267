"""A job is a process that ends with its study, also where that was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from video2act.study.jobs import StudyJob
from video2act.study.records import check_recorded, read_record

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
    with pytest.raises(
        ValueError, match=r"jobs/a\.json is damaged .*; put it back from a copy, or remove it, .*ations/a, and"
    ):
        read_record(tmp_path, job)


def test_a_dataset_without_a_record_does_not_count_as_the_jobs(tmp_path: Path):
    """`collect` takes a dataset of more episodes than the study names now for its own."""
    job = StudyJob("collect_a", ("collect", "--out", "data/a"), "data/a")
    check_recorded(tmp_path, {job.name: job})
    (tmp_path / "data/a/meta").mkdir(parents=True)
    (tmp_path / "data/a/meta/info.json").write_text("{}")
    with pytest.raises(ValueError, match=r"data/a is there, but .*jobs/collect_a\.json, which says how it was made"):
        check_recorded(tmp_path, {job.name: job})


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
