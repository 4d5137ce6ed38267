"""The same data is what training reads alike, whatever else differs."""

import json
import shutil
from inspect import unwrap

import numpy as np
import pyarrow.parquet as pq
import pytest
from recordings import change_column, copy, make_episode, pack_videos, write_dataset

from video2act.data import DatasetWriter, LeRobotDataset, open_dataset, open_datasets
from video2act.data.fingerprint import of_file
from video2act.data.opening import as_dataset
from video2act.data.video_file import encode

DATA = "data/chunk-000/file-001.parquet"
VIDEO = "videos/observation.images.front/chunk-000/file-001.mp4"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("same")
    episodes = [make_episode(i) for i in range(3)]
    return {storage: write_dataset(folder / storage, episodes, storage=storage) for storage in ("video", "image")}


def name_of(root, **options):
    return open_dataset(root, **options).fingerprint


def compress(root):
    for path in root.rglob("*.parquet"):
        pq.write_table(pq.read_table(path), path, compression="zstd", write_statistics=False)


def leave(root, *names):
    for name in names:
        (root / name).write_bytes(b"\x00\x05\x16\x07")


def rewrite_stats(root):
    stats = json.loads((root / "meta/stats.json").read_text())
    stats["action"]["q01"] = stats["action"]["min"]
    (root / "meta/stats.json").write_text(json.dumps(stats))


HARMLESS = {
    "a file browser": lambda r: leave(r, ".DS_Store", "meta/.DS_Store", "data/chunk-000/.DS_Store"),
    "a Mac": lambda r: leave(r, "data/chunk-000/._file-000.parquet", "meta/episodes/chunk-000/._file-000.parquet"),
    "a readme": lambda r: leave(r, "README.md", "meta/notes.txt", "videos/notes.txt"),
    "statistics": rewrite_stats,
    "no statistics": lambda r: (r / "meta/stats.json").unlink(),
    "indents": lambda r: (r / "meta/info.json").write_text(json.dumps(json.loads((r / "meta/info.json").read_text()))),
    "compression": compress,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_training_does_not_read_changes_nothing(sound, tmp_path, name):
    root = copy(sound["video"], tmp_path / "set")
    HARMLESS[name](root)
    assert name_of(root) == name_of(sound["video"])


def test_the_same_data_elsewhere(sound, tmp_path, monkeypatch):
    root = copy(sound["video"], tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert name_of("elsewhere") == name_of(root) == name_of(sound["video"]) == open_datasets(["elsewhere"]).fingerprint


def other_frames(path):
    encode(path, make_episode(5).frames["front"], fps=20)


@pytest.mark.parametrize("link", ["videos", "videos/observation.images.front", VIDEO])
def test_pictures_that_were_exchanged_behind_a_link(sound, tmp_path, link):
    root = copy(sound["video"], tmp_path / "set")
    outside = tmp_path / "outside"
    shutil.move(root / link, outside)
    (root / link).symlink_to(outside)
    assert name_of(root) == name_of(sound["video"])
    other_frames(root / VIDEO)
    assert name_of(root) != name_of(sound["video"])


def test_actions_that_were_doubled_behind_a_link(sound, tmp_path):
    root = copy(sound["video"], tmp_path / "set")
    shutil.move(root / "data", tmp_path / "outside")
    (root / "data").symlink_to(tmp_path / "outside")
    action = LeRobotDataset(root).episode(1).action
    assert action is not None
    change_column(root, DATA, "action", list(2 * action))
    assert name_of(root) != name_of(sound["video"])


def rename_task(root):
    change_column(root, "meta/tasks.parquet", "task", ["pull"])
    for path in root.glob("meta/episodes/*/*.parquet"):
        change_column(root, str(path.relative_to(root)), "tasks", [["pull"]])


def exchange_pictures(root):
    cells = pq.read_table(root / DATA)["observation.images.front"].to_pylist()
    change_column(root, DATA, "observation.images.front", [*cells[3:4], *cells[1:]])


CHANGES = {
    "state": ("video", lambda r: change_column(r, DATA, "observation.state", list(np.zeros((7, 3), np.float32)))),
    "sentence": ("video", rename_task),
    "video": ("video", lambda r: other_frames(r / VIDEO)),
    "picture": ("image", exchange_pictures),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_training_reads_changes_it(sound, tmp_path, name):
    storage, change = CHANGES[name]
    root = copy(sound[storage], tmp_path / "set")
    change(root)
    assert name_of(root) != name_of(sound[storage])


def test_a_part_has_a_name_of_its_own_which_more_episodes_do_not_change(sound, tmp_path):
    root = copy(sound["video"], tmp_path / "set")
    with DatasetWriter.resume(root) as writer:
        writer.add_episode(make_episode(3))
    assert name_of(root, episodes=range(3)) == name_of(sound["video"])
    assert name_of(root) != name_of(sound["video"])
    assert name_of(root, episodes=[0, 1]) != name_of(root, episodes=[1, 0])


def test_packed_episodes_are_told_from_each_other(sound, tmp_path):
    root = pack_videos(copy(sound["video"], tmp_path / "set"))
    names = [LeRobotDataset(root).episode_fingerprint(i) for i in range(3)]
    assert len(set(names)) == 3


def test_other_columns_are_other_data(sound):
    assert name_of(sound["video"], state=["action"]) != name_of(sound["video"])


def test_a_byte_in_the_middle_of_a_file_of_a_megabyte(tmp_path):
    """Files above 256 KiB were sampled."""
    path = tmp_path / "pictures.mp4"
    content = bytearray(np.random.default_rng(0).bytes(2**20))
    names = set()
    for place in (300_000, 500_001, 700_002):
        content[place] ^= 1
        path.write_bytes(content)
        names.add(of_file(path))
    assert len(names) == 3


def test_a_dataset_that_is_handed_over_is_not_read_for_it(sound, monkeypatch):
    """On Python 3.11 its fingerprint was computed to see whether it is a dataset."""
    monkeypatch.setattr("video2act.data.fingerprint.of_file", lambda path: pytest.fail(f"{path} is read"))
    dataset = LeRobotDataset(sound["video"])
    assert unwrap(as_dataset)(dataset) is dataset  # the tests' check of types would read all properties, too
