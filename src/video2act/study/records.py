"""The small json of each job of a study, and where it and the log lie."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from video2act.config.plain import damage_named, read_json
from video2act.data.lerobot_format import INFO_PATH
from video2act.files.evaluation_folder import INFO_FILE
from video2act.study.jobs import StudyJob
from video2act.training.resuming import is_trained

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
    with damage_named(path, f"put it back from a copy, or remove it, {folder / job.out}, and what was made from them"):
        record = read_json(path)
        moved = places_now(record, job)
        words = tuple(moved.get(word, word) for word in record["words"])
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


def places_now(record: dict[str, Any], job: StudyJob) -> dict[str, str]:
    """Of what a job was made from: the places then -> the same ones now, if the study was moved. A place without a
    fingerprint is taken for the same only if it is called the same: `check_made_from` could not tell it from another.
    """
    then, now = dict(record.get(MADE_FROM, {})), tuple(dict.fromkeys(job.reads))
    if len(then) != len(now):  # an older version recorded fewer
        return {place: place for place in then}
    return {old: new if found else old for (old, found), new in zip(then.items(), now, strict=True)}


def check_recorded(folder: Path, jobs: Mapping[str, StudyJob]) -> None:
    """Raise ValueError where a job's folder holds a finished training or a dataset, and no record says how it was made:
    it may be of other settings. An evaluation, and a training that goes on, refuse other settings by themselves."""
    for name, job in jobs.items():
        out = folder / job.out
        if (is_trained(out) or (out / INFO_PATH).is_file()) and read_record(folder, job) is None:
            raise ValueError(
                f"{out} is there, but {record_path(folder, name)}, which says how it was made, is not; put it back "
                f"from a copy, or remove {out}, and what was made from it"
            )


def is_finished(folder: Path, job: StudyJob) -> bool:
    record = read_record(folder, job)
    has_result = job.kind != "eval" or (folder / job.out / INFO_FILE).is_file()
    return record is not None and bool(record.get("finished")) and has_result


def log_path(folder: Path, name: str) -> Path:
    return folder / "logs" / f"{name}.log"


def record_path(folder: Path, name: str) -> Path:
    return folder / "jobs" / f"{name}.json"
