import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import make_episode, make_writer, write_dataset

from video2act.data import DatasetError, LeRobotDataset

DATA = "data/chunk-000/file-001.parquet"
VIDEO = "videos/observation.images.front/chunk-000/file-001.mp4"


@pytest.fixture
def root(tmp_path):
    return write_dataset(tmp_path / "set", [make_episode(0), make_episode(1, 5, "pull")])


def change_info(root, **changes):
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_column(root, file, name, values):
    path = root / file
    table = pq.read_table(path)
    place = table.column_names.index(name)
    pq.write_table(table.set_column(place, name, pa.array(values, table.schema.field(name).type)), path)


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
    with pytest.raises(FileNotFoundError, match=r"not a LeRobot dataset: it has no meta/info\.json \(found: notes\.txt\)"):
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"total_episodes": 3}, "lists 2 episodes but .* says total_episodes=3"),
        ({"total_frames": 13}, "lists 12 frames but .* says total_frames=13"),
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


def test_images_in_parquet_are_refused_when_asked_for(root):
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features["observation.images.front"]["dtype"] = "image"
    change_info(root, features=features)
    dataset = LeRobotDataset(root)
    with pytest.raises(DatasetError, match=r"'front' is stored as images inside parquet.*convert it to video"):
        dataset.frames(0, "front")
    assert len(dataset.frames(0, "wrist")) == 7


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
