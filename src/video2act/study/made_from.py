"""What the jobs of a study were made from: datasets, video models and policies, known by their fingerprints.

What was made from something that has changed since would stand beside what is made from the new one, as if both were
alike.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from video2act.data import LeRobotDataset
from video2act.data.lerobot_format import INFO_PATH
from video2act.files.fingerprint import fingerprint
from video2act.files.run_folder import CONFIG_FILE, ENGINE_FILE, WEIGHTS_FILE, policy_fingerprint
from video2act.files.video_model import is_video_model, own_weights
from video2act.study.jobs import StudyJob
from video2act.study.records import MADE_FROM, places_now, read_record, record_path


def fingerprints(folder: Path, job: StudyJob) -> dict[str, str]:
    """Of what a job reads; `folder` is the study's."""
    return {place: _fingerprint(folder / place) for place in job.reads}


def check_made_from(folder: Path, jobs: Mapping[str, StudyJob], done: Collection[str]) -> None:
    """Raise ValueError where what a job was made from has changed since, or will be made anew: what is done would not
    change with it."""
    now: dict[str, str] = {}
    for name in done:
        record = read_record(folder, jobs[name]) or {}
        places = places_now(record, jobs[name])
        for before, then in record.get(MADE_FROM, {}).items():
            place = places[before]
            if place not in now:
                now[place] = _fingerprint(folder / place)
            if now[place] and now[place] != then:  # what is there no more cannot be told, and harms nothing
                made = f"{record_path(folder, name)} and {folder / jobs[name].out}"
                moved = f" (then {before})" if before != place else ""
                raise ValueError(
                    f"{name} was made from {folder / place}{moved}, which has changed since, so what is made now would "
                    f"not be comparable; choose another out, or remove {made}, and what was made from them"
                )
    fresh = set[str]()
    for name, job in jobs.items():  # those that a job needs stand before it
        if name in done and fresh.issuperset(job.needs):
            fresh.add(name)
    if old := [jobs[name] for name in jobs if name in done and name not in fresh]:
        places = ", ".join(f"{record_path(folder, job.name)} and {folder / job.out}" for job in old)
        names = ", ".join(job.name for job in old)
        raise ValueError(f"{names}: made from what will be made anew, and would stay as before; remove {places}")


def _fingerprint(place: Path) -> str:
    """Of what is at a place. Empty if the place is empty, or holds neither a file nor data nor weights."""
    if place.is_file():
        return fingerprint([place])
    if (place / INFO_PATH).is_file():
        return LeRobotDataset(place).fingerprint
    if (place / CONFIG_FILE).is_file() or (place / ENGINE_FILE).is_file():
        return policy_fingerprint(place)
    if (place / WEIGHTS_FILE).is_file():
        return fingerprint([place / WEIGHTS_FILE])
    weights = own_weights(place) if is_video_model(place) else sorted(place.rglob("*.safetensors"))
    return fingerprint(weights) if weights else ""
