"""Folders -> a dataset: one, several as one, or some episodes of them.

Datasets must agree in everything that a policy is built for. Robots are compared by name, and so are the numbers of
state and action, because equal numbers of joints do not make equal joints. Different robots go together if their
embodiments are given: then their vectors become the unified one.
"""

import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from video2act.config import PolicyConfig
from video2act.config.calls import check_listed
from video2act.config.checks import check_once
from video2act.config.training_options import DataOptions
from video2act.data.dataset_files import DatasetError
from video2act.data.embodied import EmbodiedDataset
from video2act.data.lerobot_reader import Dataset, LeRobotDataset
from video2act.data.view import DatasetView, choose, parse_episodes
from video2act.files.run_folder import load_trained_datasets
from video2act.presets import Demonstrations, make_preset

AnyDataset = Dataset | PathLike[str] | str
"""a dataset, or what `open_dataset` takes"""
_OF_A_ROBOT = ("robot", "state_dim", "action_dim")
"""may differ between datasets whose embodiments are given"""
APART, SEVERAL = "record them alike, train on them apart", ", or train with each one's --embodiments"
SAME = "If two names mean the same, give both datasets one of them in meta/info.json"


def open_dataset(
    path: Path | str,
    *,
    episodes: Sequence[int] | None = None,
    state: Sequence[str] | None = None,
    action: Sequence[str] | None = None,
) -> Dataset:
    """A dataset folder or a Hugging Face repo id (`owner/name`), or some of its episodes (`range(50)`).

    Args:
        state: columns that are joined to the state, in this order; None: `observation.state`, if there is one.
        action: the same for actions; None: `action`.
    Raises:
        FileNotFoundError, DatasetError: it cannot be read.
        ValueError: an episode or a column that does not exist, or one that is named twice.
    """
    dataset = LeRobotDataset(path, state=state, action=action)
    return dataset if episodes is None else choose(dataset, episodes)


def open_datasets(
    paths: Sequence[Path | str] | Path | str,
    *,
    episodes: Sequence[int] | None = None,
    embodiments: Sequence[str] | None = None,
    state: Sequence[str] | None = None,
    action: Sequence[str] | None = None,
) -> Dataset:
    """One dataset, or several under one numbering of episodes.

    Args:
        paths: folders or Hugging Face repo ids.
        episodes: the episodes to use of EACH dataset; None: all.
        embodiments: the name in `EMBODIMENTS` of each dataset's robot; None: all have the same robot.
        state: as for `open_dataset`, the same for all.
        action: likewise.
    Raises:
        FileNotFoundError, DatasetError: one of them cannot be read, or two do not go together.
        ValueError: no path; a dataset twice; an episode that does not exist; an embodiment that is unknown, or of
            another size.
    """
    check_listed(embodiments=embodiments)
    paths = [paths] if isinstance(paths, Path | str) else paths
    if not paths:
        raise ValueError("expected at least one dataset folder, got none")
    parts = [LeRobotDataset(path, state=state, action=action) for path in paths]
    folders = [part.root.resolve() for part in parts]
    check_once(folders, "dataset", why="its episodes that are held out would also be trained on")
    chosen = None if episodes is None else [choose(part, episodes).episodes[0] for part in parts]
    if embodiments is not None:
        if len(embodiments) != len(parts):
            given = f"got {len(embodiments)}: {', '.join(embodiments) or 'none'}"
            raise ValueError(f"{len(parts)} datasets need as many embodiments, one each, {given}")
        _check_alike(parts, ("fps", "cameras", "orientation"))
        for embodiment in dict.fromkeys(embodiments):
            _check_names([part for part, own in zip(parts, embodiments, strict=True) if own == embodiment], APART)
        return EmbodiedDataset(parts, embodiments, episodes=chosen)
    if len(parts) == 1 and chosen is None:
        return parts[0]
    _check_alike(parts, ("fps", "cameras", "orientation", *_OF_A_ROBOT))
    _check_names(parts, f"{APART}{SEVERAL}")
    # one that records none says nothing: the policy does, for all (`check_relative_agree`)
    _check_alike([part for part in parts if part.relative_actions], ("relative_actions",))
    return DatasetView(parts, chosen)


def open_as_trained(path: Path | str, run: Path) -> LeRobotDataset:
    """A dataset, with the columns of state and action that a run was trained on, where it has them. Raises as
    `open_dataset`; ValueError: the run's record is damaged."""
    plain = LeRobotDataset(path)
    for trained in load_trained_datasets(run)[:1]:
        columns = {"state": trained.state, "action": trained.action}
        chosen = {name: each for name, each in columns.items() if each and set(each) <= plain.info.columns.keys()}
        if any(getattr(plain.info, name) != each for name, each in chosen.items()):
            return LeRobotDataset(path, **chosen)
    return plain


def as_dataset(data: AnyDataset) -> Dataset:
    """The dataset itself, or the one in a folder. Raises TypeError for anything else; or as `open_dataset`."""
    if isinstance(data, str | PathLike):
        return open_dataset(Path(data) if isinstance(data, PathLike) else data)
    # ours first: to compare with the protocol, Python 3.11 reads all properties, and the fingerprint reads files
    if not isinstance(data, LeRobotDataset | DatasetView | Dataset):
        raise TypeError(f"expected a dataset or its folder, got {_kind(data)}; open_dataset(folder) opens one")
    return data


def as_datasets(data: AnyDataset | Sequence[AnyDataset]) -> list[Dataset]:
    """One or several, each as `as_dataset`."""
    return [as_dataset(each) for each in (data if isinstance(data, list | tuple) else [data])]  # type: ignore[list-item]


def preset(
    name: str, data: Demonstrations | PathLike[str] | str | None = None, cameras: tuple[str, ...] | None = None
) -> PolicyConfig:
    """The policy of a name for a dataset: `preset("tiny", "data/push")`.

    Args:
        data: a dataset, or its folder; always needed, since sizes, cameras and the rate are the data's.
        cameras: of the policy, System 2's first; all of the data's, if None.
    Raises:
        TypeError: not a name and a dataset.
        ValueError: an unknown name.
    """
    if not isinstance(name, str):
        raise TypeError(f"a preset is asked for by its name, then the data: preset('tiny', data); got {_kind(name)}")
    if data is None:
        raise TypeError(f"preset({name!r}) lacks the data, whose sizes the policy gets: preset({name!r}, 'data/push')")
    check_listed(cameras=cameras)
    known = data if isinstance(data, Demonstrations) else as_dataset(data)
    return make_preset(name, known, cameras)


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"


def open_chosen(options: DataOptions) -> Dataset:
    """The datasets, episodes and columns that a command line asks for; raises as `open_datasets`."""
    return open_datasets(
        options.data,
        episodes=parse_episodes(options.episodes) if options.episodes else None,
        embodiments=options.embodiments,
        state=options.state,
        action=options.action,
    )


def _check_alike(parts: Sequence[LeRobotDataset], names: Sequence[str]) -> None:
    def sizes(dataset: LeRobotDataset) -> dict[str, tuple[int, int]]:
        return {camera: dataset.image_size(camera) for camera in sorted(dataset.cameras)}

    for other in parts[1:]:
        first = parts[0]
        unlabelled = [part.root for part in (first, other) if "action_dim" in names and part.action_dim is None]
        if len(unlabelled) == 1:
            remedy = (
                "label it first (video2act label), or learn its frames alone: train-video, or --video-data of train"
            )
            raise DatasetError(
                f"{first.root} and {other.root} do not go together: {unlabelled[0]} has no actions", remedy
            )
        pairs = {name: (getattr(first, name), getattr(other, name)) for name in names}
        if "cameras" in pairs:
            ours, theirs = pairs["cameras"] = sizes(first), sizes(other)
            if ours.keys() == theirs.keys():  # name the one that differs
                pairs |= {f"the height and width of camera {key!r}": (ours[key], theirs[key]) for key in ours}
                del pairs["cameras"]
        for name, (value, others) in pairs.items():
            if value != others:
                found = f"{name} is {value} in the first and {others} in the second"
                remedy = APART + (SEVERAL if name in _OF_A_ROBOT else "")
                raise DatasetError(f"{first.root} and {other.root} do not go together: {found}", remedy)


def _check_names(parts: Sequence[LeRobotDataset], remedy: str) -> None:
    """Raise DatasetError where a number of the state or the action is another one in the next dataset."""
    for number, first in enumerate(parts):
        for other in parts[number + 1 :]:  # each with each: names that only count agree with any others
            for word in ("state", "action"):
                ours, theirs = (getattr(part.info, f"{word}_names") for part in (first, other))
                if problem := name_problem(word, ours, theirs, words=("the first", "the second")):
                    together = f"{first.root} and {other.root} do not go together: {problem}"
                    raise DatasetError(together, f"{remedy}. {SAME}")


def name_problem(word: str, ours: Sequence[str], theirs: Sequence[str], *, words: tuple[str, str]) -> str:
    """The first number of two vectors of one size that is not the same one by its names; empty if there is none. A name
    that only counts (`state_0`, `motor_1`) says nothing, unless the other vector has it elsewhere.

    Args:
        word: `state` or `action`.
        words: where the vectors stand: `the first`.
    """
    known = {*ours} & {*theirs}
    for place, pair in enumerate(zip(ours, theirs, strict=False)):
        own, other = pair
        if own == other:
            continue
        counting = [bool(re.fullmatch(rf"\D*({place}|{place + 1})", name)) for name in pair]
        if not all(counting) and (not any(counting) or not known.isdisjoint(pair)):
            return f"{word}[{place}] is {own} in {words[0]} and {other} in {words[1]}"
    return ""
