"""How long jobs take: measured in this study where jobs of the same kind are done, else on push."""

from collections.abc import Collection, Mapping
from pathlib import Path

from video2act.study.jobs import StudyJob
from video2act.study.worker import read_record

SECONDS = {"collect": 0.8, "label": 0.1, "train-video": 0.3, "train": 0.3, "eval": 2.0}
"""of one core, for an episode or a training step of the preset tiny (docs/training.md)"""


def seconds_per_unit(jobs: Mapping[str, StudyJob], folder: Path) -> dict[str, float]:
    """By kind of job."""
    found = dict(SECONDS)
    for kind in SECONDS:
        records = [(job, read_record(folder, job)) for job in jobs.values() if job.kind == kind]
        measured = [(job.amount, r["seconds"]) for job, r in records if r and r["finished"] and r["attempts"]]
        if measured:
            amounts, seconds = zip(*measured, strict=True)
            found[kind] = sum(seconds) / sum(amounts)
    return found


def time_table(jobs: Mapping[str, StudyJob], folder: Path, *, done: Collection[str]) -> str:
    """Every job, whether it is done, and about how long it takes, as text."""
    rates = seconds_per_unit(jobs, folder)
    lines, total = [], 0.0
    for name, job in jobs.items():
        seconds = rates[job.kind] * job.amount
        begun = (folder / job.out).is_dir()
        state = "done" if name in done else f"{'begun' if begun else 'to do'}, about {_hours(seconds)}"
        total += 0 if name in done else seconds
        lines.append(f"{name}: {state}\n    video2act {' '.join(job.words)}")
    left = len(jobs) - len(done)
    lines.append(f"{left} of {len(jobs)} jobs to do, about {_hours(total)} of one core; results go to {folder}")
    return "\n".join(lines)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
