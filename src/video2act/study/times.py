"""How long jobs take: measured in this study where jobs of the same kind are done, else on push."""

from collections.abc import Collection, Mapping
from pathlib import Path

from video2act.study.jobs import StudyJob
from video2act.study.records import read_record

SECONDS = {"collect": 0.8, "label": 0.1, "train-video": 0.3, "train": 0.3, "eval": 2.0}
"""of one core, for an episode or a training step of the preset tiny (docs/training.md)"""
START_SECONDS = {"collect": 3.0, "label": 10.0, "train-video": 20.0, "train": 10.0, "eval": 10.0}
"""of one core, before and after its units: libraries, checks, models; measured on short jobs (label: as train)"""


def job_seconds(jobs: Mapping[str, StudyJob], folder: Path) -> dict[str, float]:
    """About how long each job takes on one core: its start, then each of its units. The start is at most half of the
    shortest job of its kind that is done, as a machine may be faster than the one where it was measured."""
    starts, units = dict(START_SECONDS), dict(SECONDS)
    for kind in SECONDS:
        records = [(job, read_record(folder, job)) for job in jobs.values() if job.kind == kind]
        measured = [(job.amount, r["seconds"]) for job, r in records if r and r["finished"] and r["attempts"]]
        if measured:
            amounts, seconds = zip(*measured, strict=True)
            starts[kind] = min(starts[kind], min(seconds) / 2)
            units[kind] = (sum(seconds) - len(seconds) * starts[kind]) / sum(amounts)
    return {name: starts[job.kind] + units[job.kind] * job.amount for name, job in jobs.items()}


def time_table(jobs: Mapping[str, StudyJob], folder: Path, *, done: Collection[str]) -> str:
    """Every job, whether it is done, and about how long it takes, as text."""
    expected = job_seconds(jobs, folder)
    lines, total = [], 0.0
    for name, job in jobs.items():
        begun = (folder / job.out).is_dir()
        state = "done" if name in done else f"{'begun' if begun else 'to do'}, about {_hours(expected[name])}"
        total += 0 if name in done else expected[name]
        lines.append(f"{name}: {state}\n    video2act {' '.join(job.words)}")
    left = len(jobs) - len(done)
    lines.append(f"{left} of {len(jobs)} jobs to do, about {_hours(total)} of one core; results go to {folder}")
    return "\n".join(lines)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
