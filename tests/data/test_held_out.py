"""Which episodes are held out of a training."""

from pathlib import Path

import pytest
from recordings import make_episode, make_writer

from video2act.config.probe import ProbeOptions
from video2act.data import open_dataset, open_datasets, split
from video2act.data.view import DatasetView, hold_out
from video2act.training.probe_arms import split_of


def record(root: Path, tasks: str) -> Path:
    """An episode for each letter, which is its task."""
    with make_writer(root) as writer:
        for number, task in enumerate(tasks):
            writer.add_episode(make_episode(number, length=3, instruction=task))
    return root


def test_no_task_of_a_suite_is_held_out_as_a_whole(tmp_path: Path):
    """A suite is recorded task after task. Its last episodes were held out, all of one task, which nothing learned."""
    suite = open_dataset(record(tmp_path / "suite", "aaaabbbbcccc"))
    training, held_out = split(suite, 0.25)
    assert held_out.episodes == ((3, 7, 11),)
    assert training.episodes == ((0, 1, 2, 4, 5, 6, 8, 9, 10),)
    assert set(training.tasks) == set(held_out.tasks) == set("abc")
    probed = split_of(ProbeOptions(data=(tmp_path,), out=tmp_path, labelled=6, held_out=3, seeds=2), suite)
    assert probed.held_out == [3, 7, 11]
    assert all(set(drawn).isdisjoint(probed.held_out) for drawn in probed.labelled)


def test_one_task_holds_out_its_last_episodes(tmp_path: Path):
    parts = [record(tmp_path / name, "aaaaa") for name in ("one", "two")]
    assert split(open_datasets(parts), 0.4)[1].episodes == ((3, 4), (3, 4))


@pytest.mark.parametrize(
    ("tasks", "count", "expected"),
    [
        ("abcdef", 2, [4, 5]),  # a sentence of its own for each episode
        ("aaaaaab", 2, [4, 5]),  # the only one of its task is learned from
        ("aabbbbbb", 2, [1, 7]),
        ("aabbbbbb", 4, [1, 5, 6, 7]),
        ("abab", 1, [2]),
        ("aabbcc", 3, [1, 3, 5]),
        ("aabbcc", 4, [0, 1, 3, 5]),  # more than one of each: only then is a task held out whole
        ("aabbbb", 3, [1, 4, 5]),
    ],
)
def test_tasks_are_held_out_in_proportion(tmp_path: Path, tasks: str, count: int, expected: list[int]):
    assert hold_out(open_dataset(record(tmp_path / "set", tasks)), count) == expected


def test_places_are_those_of_the_view(tmp_path: Path):
    dataset = open_dataset(record(tmp_path / "set", "aabb"))
    assert hold_out(DatasetView([dataset], [[3, 0, 2, 1]]), 2) == [2, 3]
