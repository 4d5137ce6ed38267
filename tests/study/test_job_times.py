"""What a dry run says of the time that a study takes."""

import json
from pathlib import Path

import pytest

from video2act.study.jobs import StudyJob
from video2act.study.times import SECONDS, START_SECONDS, job_seconds, time_table


def job(name: str, amount: int) -> StudyJob:
    return StudyJob(name, ("eval", "policies/a", "--out", name), name, amount=amount)


def finish(folder: Path, done: StudyJob, seconds: float) -> None:
    (folder / "jobs").mkdir(exist_ok=True)
    record = {"words": list(done.words), "seconds": seconds, "finished": True, "attempts": [{}]}
    (folder / "jobs" / f"{done.name}.json").write_text(json.dumps(record))


def test_the_start_of_every_program_is_counted(tmp_path: Path):
    """Twenty evaluations of one scene each were said to take 40 seconds; the programs alone start for minutes."""
    jobs = {f"job{number}": job(f"job{number}", 1) for number in range(20)}
    assert sum(job_seconds(jobs, tmp_path).values()) == 20 * (START_SECONDS["eval"] + SECONDS["eval"])
    assert "20 of 20 jobs to do, about 4.0 min of one core" in time_table(jobs, tmp_path, done=())


def test_a_short_job_that_was_measured_is_mostly_start(tmp_path: Path):
    """A study's smoke run of 5 scenes in 25 s made 50 scenes 250 s; they take 120."""
    jobs = {"smoke": job("smoke", 5), "full": job("full", 50)}
    finish(tmp_path, jobs["smoke"], 25.0)
    assert job_seconds(jobs, tmp_path) == {"smoke": 25.0, "full": 10.0 + 3.0 * 50}


@pytest.mark.parametrize("seconds", [0.0, 4.0])
def test_where_programs_start_faster_no_unit_takes_less_than_nothing(tmp_path: Path, seconds: float):
    jobs = {"one": job("one", 2), "two": job("two", 4)}
    finish(tmp_path, jobs["one"], seconds)
    assert job_seconds(jobs, tmp_path) == {"one": seconds, "two": 1.5 * seconds}
