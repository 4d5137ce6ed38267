import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import (
    change_column,
    change_info,
    copy,
    make_episode,
    make_writer,
    pack_videos,
    read_numbers,
    write_dataset,
)

from video2act.data import DatasetError, DatasetWriter, Episode, LeRobotDataset
from video2act.data.lerobot_format import Feature

DATA = "data/chunk-000/file-001.parquet"
VIDEO = "videos/observation.images.front/chunk-000/file-001.mp4"


@pytest.fixture
def root(tmp_path):
    return write_dataset(tmp_path / "set", [make_episode(0), make_episode(1, 5, "pull")])


def test_description(root):
    dataset = LeRobotDataset(root)
    assert (dataset.robot, dataset.fps, dataset.cameras) == ("arm", 20, ("front", "wrist"))
    assert (dataset.state_dim, dataset.action_dim, dataset.lengths, dataset.total_frames) == (3, 2, (7, 5), 12)
    assert dataset.tasks == ("push", "pull")
    assert [entry.seed for entry in dataset.entries] == [0, 1]
    states = np.concatenate([make_episode(0).state, make_episode(1, 5).state])
    np.testing.assert_allclose(dataset.stats["state"].mean, states.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(dataset.stats["state"].max, states.max(axis=0))


def test_no_folder_and_no_dataset(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        LeRobotDataset(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        FileNotFoundError, match=r"not a LeRobot dataset: it has no meta/info\.json \(found: notes\.txt\)"
    ):
        LeRobotDataset(tmp_path)


def test_an_older_version_names_the_converter(root):
    change_info(root, codebase_version="v2.1")
    with pytest.raises(DatasetError, match=r"LeRobotDataset v2\.1, expected v3\.0; .*convert_dataset_v21_to_v30\.py"):
        LeRobotDataset(root)


def test_an_empty_dataset(tmp_path):
    make_writer(tmp_path / "set").close()
    with pytest.raises(DatasetError, match="holds no complete episode yet"):
        LeRobotDataset(tmp_path / "set")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"info\.json is not valid json"),
        ("[]", "names no codebase_version"),
        ('{"codebase_version": "v3.0"}', "missing field 'fps'"),
        ('{"codebase_version": "v3.0", "fps": 29.97}', r"whole number of frames per second, got fps=29\.97"),
        ('{"codebase_version": "v3.0", "fps": 0}', "fps must be positive, got 0"),
    ],
)
def test_a_damaged_description(root, text, message):
    (root / "meta/info.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        LeRobotDataset(root)


@pytest.mark.parametrize("file", [DATA, VIDEO, "meta/tasks.parquet"])
def test_a_missing_file(root, file):
    (root / file).unlink()
    with pytest.raises(FileNotFoundError, match=f"{file} does not exist.*copy"):
        LeRobotDataset(root)


@pytest.mark.parametrize("file", [DATA, "meta/tasks.parquet", "meta/episodes/chunk-000/file-000.parquet"])
def test_a_file_that_was_cut_short(root, file):
    (root / file).write_bytes((root / file).read_bytes()[:-20])
    with pytest.raises(DatasetError, match=f"{file} is not a readable parquet file"):
        LeRobotDataset(root)


def test_a_video_that_was_cut_short(root):
    (root / VIDEO).write_bytes((root / VIDEO).read_bytes()[:-200])
    with pytest.raises(DatasetError, match=f"{VIDEO} .* record its episodes again"):
        LeRobotDataset(root).frames(1, "front")


@pytest.mark.parametrize("name", ["observation.state", "action"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none(root, name, value):
    values = pq.read_table(root / DATA)[name].to_pylist()
    values[3][1] = value
    change_column(root, DATA, name, values)
    with pytest.raises(DatasetError, match=rf"{DATA}: episode 1, frame 3: {name}\[1\] is {value}"):
        LeRobotDataset(root)


def test_missing_values(root):
    change_column(root, DATA, "action", [None] * 5)
    with pytest.raises(DatasetError, match="action must hold numbers, equally many in each row and none missing"):
        LeRobotDataset(root)


def test_ragged_rows_are_not_read_askew(root):
    """As many numbers as there should be, but not equally many in each row."""
    table = pq.read_table(root / DATA)
    values = table["observation.state"].to_pylist()
    values[:2] = [values[0][:2], [*values[1], values[0][2]]]
    place = table.column_names.index("observation.state")
    pq.write_table(table.set_column(place, "observation.state", pa.array(values, pa.list_(pa.float32()))), root / DATA)
    with pytest.raises(DatasetError, match=r"observation\.state must hold numbers, equally many in each row"):
        LeRobotDataset(root)


def test_a_cell_of_an_episode_that_is_empty_is_named(root):
    file = "meta/episodes/chunk-000/file-001.parquet"
    change_column(root, file, "data/file_index", [None])
    with pytest.raises(DatasetError, match=rf"{file}: data/file_index of episode 1 is None, expected a whole number"):
        LeRobotDataset(root)


def test_a_task_without_a_sentence_is_not_called_none(root):
    change_column(root, "meta/tasks.parquet", "task", ["push", None])
    with pytest.raises(
        DatasetError, match=r"tasks\.parquet: expected a task_index and a sentence in each row, found 1 and None"
    ):
        LeRobotDataset(root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"total_episodes": 3}, "lists 2 episodes but .* says total_episodes=3"),
        ({"total_frames": 13}, "lists 12 frames but .* says total_frames=13"),
        ({"total_frames": "x"}, "total_frames must be a whole number of 0 or more, got 'x'"),
        ({"data_path": "data/{}.parquet"}, "info.json: data_path must be a path in which only"),
        ({"codebase_version": "v4.0"}, "v4.0, newer than v3.0, .*update video2act"),
    ],
)
def test_wrong_totals(root, changes, message):
    change_info(root, **changes)
    with pytest.raises(DatasetError, match=message):
        LeRobotDataset(root)


def test_wrong_counts(root):
    path = root / DATA
    pq.write_table(pq.read_table(path).slice(0, 4), path)
    with pytest.raises(DatasetError, match=f"{DATA} holds 4 frames of episode 1, expected 5"):
        LeRobotDataset(root)


def test_rows_out_of_order(root):
    change_column(root, DATA, "frame_index", [0, 2, 1, 3, 4])
    with pytest.raises(DatasetError, match="rows of episode 1 are not in the order of frame_index"):
        LeRobotDataset(root)


def test_a_gap_between_episodes(root):
    change_column(root, "meta/episodes/chunk-000/file-001.parquet", "dataset_from_index", [8])
    with pytest.raises(DatasetError, match=r"expected episode 1 to begin at row 7, found .* rows 8\.\.12"):
        LeRobotDataset(root)


class TestFingerprint:
    def test_other_pictures_of_the_same_size_are_other_data(self, root):
        before = LeRobotDataset(root).fingerprint
        content = bytearray((root / VIDEO).read_bytes())
        content[len(content) // 2] ^= 255
        (root / VIDEO).write_bytes(content)
        assert LeRobotDataset(root).fingerprint != before

    @pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
    def test_of_a_large_file_both_ends_and_blocks_count(self, root, place):
        """Frames are of other lengths where the pictures are others, and the lengths are listed at one of the ends."""
        path = root / VIDEO
        content = bytearray(path.read_bytes()) + bytes(2**20)
        path.write_bytes(content)
        before, size = LeRobotDataset(root).fingerprint, len(content)
        first = min(int(place * size), size - 2**16)
        content[first : first + 2**16] = bytes(byte ^ 255 for byte in content[first : first + 2**16])
        path.write_bytes(content)
        assert LeRobotDataset(root).fingerprint != before

    def test_it_is_the_same_for_the_same_files(self, root, tmp_path):
        assert LeRobotDataset(copy(root, tmp_path / "copy")).fingerprint == LeRobotDataset(root).fingerprint


def test_an_unknown_task(root):
    change_column(root, DATA, "task_index", [5] * 5)
    with pytest.raises(DatasetError, match="episode 1 refers to task_index 5"):
        LeRobotDataset(root)


def test_a_missing_column(root):
    pq.write_table(pq.read_table(root / DATA).drop_columns(["action"]), root / DATA)
    with pytest.raises(DatasetError, match=f"{DATA} lacks the column action"):
        LeRobotDataset(root)


def test_videos_at_another_rate(root):
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features["observation.images.front"]["info"]["video.fps"] = 30
    change_info(root, features=features)
    with pytest.raises(DatasetError, match="camera 'front' was recorded at 30 fps, but the dataset says 20 fps"):
        LeRobotDataset(root)


def test_images_in_parquet_come_back_exactly(tmp_path):
    episodes = [make_episode(0), make_episode(1, 5, "pull")]
    dataset = LeRobotDataset(write_dataset(tmp_path / "images", episodes, storage="image"))
    for i, episode in enumerate(episodes):
        for camera, frames in episode.frames.items():
            assert np.array_equal(dataset.frames(i, camera), frames)
            assert np.array_equal(dataset.frames(i, camera, numbers=range(2, 4)), frames[2:4])
    assert not (tmp_path / "images/videos").exists()


def test_images_of_several_episodes_in_one_file(tmp_path):
    """In whatever row groups they lie."""
    episodes = [make_episode(i, 4 + i) for i in range(3)]
    root = write_dataset(tmp_path / "images", episodes, storage="image")
    table = pa.concat_tables(pq.read_table(path) for path in sorted(root.glob("data/*/*.parquet")))
    pq.write_table(table, root / "data/chunk-000/file-000.parquet", row_group_size=5)
    for i in range(1, 3):
        (root / f"data/chunk-000/file-{i:03d}.parquet").unlink()
        change_column(root, f"meta/episodes/chunk-000/file-{i:03d}.parquet", "data/file_index", [0])
    dataset = LeRobotDataset(root)
    for i, episode in enumerate(episodes):
        assert np.array_equal(dataset.frames(i, "front"), episode.frames["front"])
        assert np.array_equal(
            dataset.frames(i, "wrist", numbers=range(3, dataset.lengths[i])), episode.frames["wrist"][3:]
        )


def test_a_file_of_many_episodes_is_not_searched_for_each_of_them(tmp_path, monkeypatch):
    """10,000 episodes in one file were 10,000 looks at all of its rows. Episodes in any order are found."""
    episodes = [make_episode(i, 4 + i) for i in range(3)]
    root = write_dataset(tmp_path / "joined", episodes)
    files = sorted(root.glob("data/*/*.parquet"))
    pq.write_table(pa.concat_tables(pq.read_table(files[i]) for i in (2, 0, 1)), files[0])
    for i in range(1, 3):
        files[i].unlink()
        change_column(root, f"meta/episodes/chunk-000/file-{i:03d}.parquet", "data/file_index", [0])
    sizes = []
    monkeypatch.setattr(np, "flatnonzero", lambda values: pytest.fail("all rows were searched"))
    argsort = np.argsort
    monkeypatch.setattr(
        np, "argsort", lambda values, **options: sizes.append(len(values)) or argsort(values, **options)
    )
    dataset = LeRobotDataset(root)
    assert sizes == [sum(dataset.lengths)]
    for i, episode in enumerate(episodes):
        found = dataset.episode(i)
        assert found.actions is not None
        assert episode.action is not None
        assert np.array_equal(found.state, episode.state)
        assert np.array_equal(found.actions, episode.action)


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("four") / "set", [make_episode(i, 5 + i) for i in range(4)])


@pytest.mark.parametrize("drift_s", [0.0, 0.04, -0.04], ids=["exact", "late", "early"])
def test_frames_are_found_by_counting_where_times_drift(four, tmp_path, drift_s):
    """Of four episodes in one file, the last is told to begin more than two frames off."""
    dataset = LeRobotDataset(pack_videos(copy(four, tmp_path / "set"), drift_s))
    for i in range(4):
        assert read_numbers(dataset.frames(i, "front")) == [100 * i + k for k in range(5 + i)]


def test_a_part_of_a_dataset_over_whole_videos_is_found_by_time(tmp_path):
    root = pack_videos(write_dataset(tmp_path / "set", [make_episode(i, 5) for i in range(3)]))
    (root / "meta/episodes/chunk-000/file-000.parquet").unlink()
    for i in (1, 2):
        file = f"meta/episodes/chunk-000/file-{i:03d}.parquet"
        for name, value in (("episode_index", i - 1), ("dataset_from_index", 5 * i - 5), ("dataset_to_index", 5 * i)):
            change_column(root, file, name, [value])
        change_column(root, f"data/chunk-000/file-{i:03d}.parquet", "episode_index", [i - 1] * 5)
    change_info(root, total_episodes=2, total_frames=10)
    assert read_numbers(LeRobotDataset(root).frames(0, "front")) == [100 + k for k in range(5)]


def test_extra_columns_are_kept(tmp_path):
    extra = {
        "next.reward": Feature("float32", (1,)),
        "force": Feature("float32", (6,)),
        "note": Feature("string", (1,)),
        "remark": Feature("large_string", (1,)),
    }
    writer = DatasetWriter.create(
        tmp_path / "set",
        fps=10.0,
        robot="arm",
        cameras=("top",),
        image_size={"top": (32, 48)},
        state_names=("x",),
        action_names=("y",),
        extra=extra,
    )
    rng = np.random.default_rng(0)
    episodes = []
    for length in (4, 6):
        own = {
            "next.reward": rng.normal(size=length).astype(np.float32),
            "force": rng.normal(size=(length, 6)).astype(np.float32),
            "note": np.array([f"frame {k}" for k in range(length)]),
            "remark": np.array([f"remark {k}" for k in range(length)]),
        }
        numbers = rng.normal(size=(length, 1)).astype(np.float32)
        frames = {"top": np.zeros((length, 32, 48, 3), np.uint8)}
        episodes.append(
            Episode(frames, numbers, numbers, "lift", extra=own, seen=("raise",), unseen=("hoist", "heave"))
        )
    with writer:
        for episode in episodes:
            writer.add_episode(episode)
    dataset = LeRobotDataset(tmp_path / "set")
    assert dataset.image_size("top") == (32, 48)
    assert dataset.entries[1].seen == ("raise",)
    assert dataset.entries[1].unseen == ("hoist", "heave")
    for i, episode in enumerate(episodes):
        for name in ("next.reward", "force"):
            assert np.array_equal(dataset.column(i, name), episode.extra[name])
        for name in ("note", "remark"):
            assert dataset.column(i, name) == episode.extra[name].tolist()
    with pytest.raises(DatasetError, match="has no column 'torque'"):
        dataset.column(0, "torque")


def test_an_episode_without_a_column_of_its_dataset_is_refused(tmp_path):
    extra = {"next.reward": Feature("float32", (1,))}
    sizes = {"image_size": 64, "state_names": ("x",), "action_names": ()}
    with DatasetWriter.create(tmp_path / "set", fps=10.0, robot="arm", cameras=(), extra=extra, **sizes) as writer:
        episode = Episode({}, np.zeros((3, 1), np.float32), None, "wait")
        with pytest.raises(ValueError, match=r"the dataset has the extra columns next\.reward, the episode none"):
            writer.add_episode(episode)


def test_a_repo_that_cannot_be_fetched_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"no folder nobody/nothing, and the Hugging Face dataset .* cannot be fetched"
    ):
        LeRobotDataset("nobody/nothing")


def test_a_repo_id_is_fetched_in_the_version_of_the_format(monkeypatch, root):
    asked = []

    def fetch(repo, repo_type, revision=None):
        asked.append((repo, repo_type, revision))
        return str(root)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert LeRobotDataset("someone/pushing").tasks == ("push", "pull")
    assert asked == [("someone/pushing", "dataset", "v3.0")]


def test_motors_in_groups(root):
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features["observation.state"]["names"] = {"motors": ["a", "b", "c"]}
    features["action"]["names"] = None
    change_info(root, features=features)
    info = LeRobotDataset(root).info
    assert info.state_names == ("a", "b", "c")
    assert info.action_names == ("action_0", "action_1")


def test_a_chunk_holds_as_many_files_as_info_says(root):
    """`chunks_size` only tells writers where to go on; readers follow the indices of the episodes."""
    change_info(root, chunks_size=1)
    assert len(LeRobotDataset(root)) == 2
