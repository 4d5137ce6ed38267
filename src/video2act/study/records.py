"""The small json of each job of a study, and where it and the log lie."""

from pathlib import Path
from typing import Any

from video2act.config.plain import read_json
from video2act.files.evaluation_folder import INFO_FILE
from video2act.study.jobs import StudyJob

MADE_FROM = "made_from"
"""in a record: the places that the job read -> their fingerprints"""


def read_record(folder: Path, job: StudyJob) -> dict[str, Any] | None:
    """What is recorded of a job; None: nothing, or that another command failed before it made anything.

    Raises:
        ValueError: it was run with another command, or its file is damaged.
    """
    path = record_path(folder, job.name)
    if not path.is_file():
        return None
    try:
        record = read_json(path)
        words = tuple(record["words"])
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it, and the job is looked at again") from error
    if words != job.words and not record.get("finished") and not (folder / job.out).exists():
        return None
    if words != job.words:
        changed = [f"{word} then" for word in words if word not in job.words]
        changed += [f"{word} now" for word in job.words if word not in words]
        raise ValueError(
            f"{folder} holds job {job.name} with another command ({', '.join(changed) or 'another order'}); choose "
            f"another out, or remove {path} and {folder / job.out}, and what was made from them"
        )
    return record


def is_finished(folder: Path, job: StudyJob) -> bool:
    record = read_record(folder, job)
    has_result = job.kind != "eval" or (folder / job.out / INFO_FILE).is_file()
    return record is not None and bool(record.get("finished")) and has_result


def log_path(folder: Path, name: str) -> Path:
    return folder / "logs" / f"{name}.log"


def record_path(folder: Path, name: str) -> Path:
    return folder / "jobs" / f"{name}.json"
