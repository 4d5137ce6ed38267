"""`video2act info`: a dataset, a policy, a video model, a preset, or all environments on one screen."""

from difflib import get_close_matches
from pathlib import Path

from video2act.data import DatasetError
from video2act.data.check import check_dataset
from video2act.data.dataset_files import locate_dataset
from video2act.data.lerobot_format import load_info
from video2act.files.run_folder import (
    ROBOTS,
    STATISTICS_FILE,
    TRAINING_FILE,
    WEIGHTS_FILE,
    check_no_address,
    load_config,
)
from video2act.files.video_model import is_video_model
from video2act.presets import PRESETS
from video2act.programs.info.dataset import Columns, describe_dataset
from video2act.programs.info.environments import WORD, describe_environments
from video2act.programs.info.models import describe_preset, describe_video_model
from video2act.programs.info.run import describe_run


def describe(what: Path | str, *, state: Columns = None, action: Columns = None) -> str:
    """A folder's dataset, policy or video model, a repo's dataset, a preset, or `environments`; plain text.

    Args:
        state, action: columns of a dataset, as for `open_dataset`.
    Raises:
        FileNotFoundError, DatasetError: it is none of them, or cannot be read.
        ValueError: the video model's files are damaged, or its family is unknown; or it is a server's address.
    """
    what, name = Path(what), str(what)
    check_no_address(what)
    if name == WORD and not what.exists():
        return describe_environments()
    # a video model's folder may hold a config.json, too
    if (what / STATISTICS_FILE).is_file() or (what / ROBOTS).is_dir():
        return describe_run(what)
    if is_video_model(what):
        return describe_video_model(what)
    if (what / TRAINING_FILE).is_file() and not (what / WEIGHTS_FILE).exists():
        load_config(what)  # raises, and says how the training goes on
    if name in PRESETS and not what.exists():
        return describe_preset(name)
    close = get_close_matches(name, PRESETS, n=1)
    if close and what.name == name and not what.exists():  # the id of a repo has an owner, too
        raise FileNotFoundError(
            f"{name} is not a folder, nor a preset; did you mean {close[0]!r}? presets are {', '.join(PRESETS)}; "
            "expected one of them, a dataset (a folder with meta/info.json, or a repo id owner/name), or a video "
            "model's folder"
        )
    return describe_dataset(what, state=state, action=action)


def check(path: Path | str, *, state: Columns = None, action: Columns = None) -> str:
    """Read every byte of a dataset; returns a sentence if nothing is wrong.

    Raises:
        FileNotFoundError: there is no dataset.
        DatasetError: lists all faults.
    """
    root = locate_dataset(path)
    if faults := check_dataset(root, state=state, action=action):
        listed = "\n  ".join(faults)
        raise DatasetError(f"{path} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n  {listed}")
    depth = ", ".join(load_info(root).depth)
    not_read = f", but not {depth}, which is no colour camera" if depth else ""
    return f"{path}: every file was read and every picture decoded{not_read}; nothing is wrong\n"
