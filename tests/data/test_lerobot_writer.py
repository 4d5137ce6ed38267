import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import CAMERAS, FPS, SIZE, contents, copy, make_episode, make_writer, read_numbers, write_dataset

from video2act.data import DatasetError, DatasetWriter, Episode, LeRobotDataset, lerobot_writer, load_origin
from video2act.data.check import check_dataset
from video2act.data.lerobot_format import Feature, load_info
from video2act.data.lerobot_tables import read_tasks
from video2act.data.recording_format import check_episode
from video2act.files.atomic import write_bytes
from video2act.files.lock import FolderLock


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "set", [make_episode(0), make_episode(1, 5, "pull")])


def test_info_names_all_that_lerobot_reads(dataset):
    info = json.loads((dataset / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"], info["fps"]) == (2, 12, 2, FPS)
    assert info["splits"] == {"train": "0:2"}
    assert info["features"]["observation.state"] == {"dtype": "float32", "shape": [3], "names": ["x", "y", "grip"]}
    video = info["features"]["observation.images.front"]
    assert (video["dtype"], video["shape"], video["names"]) == ("video", [64, 64, 3], ["height", "width", "channels"])
    assert video["info"]["video.codec"] == "h264"
    assert set(info["features"]) >= {"timestamp", "frame_index", "episode_index", "index", "task_index"}


def test_data_has_exactly_the_declared_columns_in_their_types(dataset):
    features = json.loads((dataset / "meta/info.json").read_text())["features"]
    table = pq.read_table(dataset / "data/chunk-000/file-001.parquet")
    assert set(table.column_names) == {key for key, feature in features.items() if feature["dtype"] != "video"}
    assert table.schema.field("observation.state").type == pa.list_(pa.float32(), 3)
    assert table.schema.field("timestamp").type == pa.float32()
    assert table.schema.field("task_index").type == pa.int64()
    assert table["index"].to_pylist() == [7, 8, 9, 10, 11]
    assert table["task_index"].to_pylist() == [1] * 5
    assert pq.ParquetFile(dataset / "data/chunk-000/file-001.parquet").num_row_groups == 1


def test_an_episode_row_tells_where_everything_is(dataset):
    (row,) = pq.read_table(dataset / "meta/episodes/chunk-000/file-001.parquet").to_pylist()
    assert (row["episode_index"], row["tasks"], row["length"], row["seed"]) == (1, ["pull"], 5, 1)
    assert (row["dataset_from_index"], row["dataset_to_index"]) == (7, 12)
    assert (row["data/chunk_index"], row["data/file_index"], row["meta/episodes/file_index"]) == (0, 1, 1)
    for camera in CAMERAS:
        key = f"videos/observation.images.{camera}"
        assert (row[f"{key}/file_index"], row[f"{key}/from_timestamp"], row[f"{key}/to_timestamp"]) == (1, 0, 5 / FPS)
    assert np.shape(row["stats/observation.images.front/q01"]) == (3, 1, 1)
    assert np.shape(row["stats/action/q99"]) == (2,)


def test_tasks_are_the_index_that_pandas_finds(dataset):
    schema = pq.read_schema(dataset / "meta/tasks.parquet")
    assert json.loads(schema.metadata[b"pandas"])["index_columns"] == ["task"]
    assert read_tasks(dataset, load_info(dataset)) == {0: "push", 1: "pull"}


def test_statistics_of_the_dataset(dataset):
    stats = json.loads((dataset / "meta/stats.json").read_text())
    values = np.concatenate([make_episode(0).state, make_episode(1, 5).state])
    np.testing.assert_allclose(stats["observation.state"]["mean"], values.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(stats["observation.state"]["std"], values.std(axis=0), rtol=1e-5)
    assert stats["observation.state"]["count"] == [12]


def test_a_dataset_of_videos_has_no_actions(tmp_path):
    root = write_dataset(tmp_path / "videos", [make_episode(0, has_action=False)])
    assert "action" not in pq.read_schema(root / "data/chunk-000/file-000.parquet").names
    dataset = LeRobotDataset(root)
    assert dataset.action_dim is None
    assert dataset.episode(0).action is None
    assert set(dataset.stats) == {"state"}


def test_resuming_gives_what_was_never_interrupted(tmp_path, dataset):
    root = write_dataset(tmp_path / "resumed", [make_episode(0)])
    with DatasetWriter.resume(root) as writer:
        assert writer.num_episodes == 1
        writer.add_episode(make_episode(1, 5, "pull"))
    assert contents(root) == contents(dataset)


@pytest.mark.parametrize("splits", [{"train": "0:2"}, {"train": "0:1", "val": "1:2"}])
def test_resuming_keeps_what_others_put_into_info(dataset, splits: dict[str, str]):
    """Their fields were gone, and all episodes were in one split."""
    path = dataset / "meta/info.json"
    info = json.loads(path.read_text()) | {"calibration": "3 March", "splits": splits, "video_files_size_in_mb": 500}
    info["features"]["action"] |= {"names": {"motors": ["dx", "dy"]}, "unit": "m"}
    path.write_text(json.dumps(info))
    with DatasetWriter.resume(dataset) as writer:
        writer.add_episode(make_episode(2))
    counts = {"total_episodes": 3, "total_frames": 19}
    kept = splits if "val" in splits else {"train": "0:3"}
    assert json.loads(path.read_text()) == info | counts | {"splits": kept}
    assert check_dataset(dataset) == []


@pytest.mark.parametrize("episodes", [0, 1])
def test_after_a_kill_statistics_and_tasks_are_those_of_the_complete_episodes(tmp_path, monkeypatch, episodes: int):
    """They were those of the episode that was not complete, until another one was recorded."""
    writer = make_writer(tmp_path / "set")
    whole = write_dataset(tmp_path / "whole", [make_episode(0)])
    for number in range(episodes):
        writer.add_episode(make_episode(number))

    def killed(path: Path, content: bytes) -> None:
        if path.name == "info.json":
            raise KeyboardInterrupt
        write_bytes(path, content)

    with monkeypatch.context() as patch:
        patch.setattr("video2act.data.lerobot_writer.write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            writer.add_episode(make_episode(1, 5, "pull"))
    writer.close()
    DatasetWriter.resume(tmp_path / "set").close()
    for name in ("stats.json", "tasks.parquet"):
        path = tmp_path / "set/meta" / name
        if not episodes:
            assert not path.exists()
        elif name == "stats.json":
            assert json.loads(path.read_text()) == json.loads((whole / "meta" / name).read_text())
        else:
            assert path.read_bytes() == (whole / "meta" / name).read_bytes()


def test_a_kill_at_any_moment_leaves_the_complete_episodes(tmp_path, monkeypatch):
    """The folder as it is just before and just after each rename is what a kill would leave behind."""
    episodes = [make_episode(0), make_episode(1, 5, "pull")]
    whole = contents(write_dataset(tmp_path / "whole", episodes))
    root, snapshots = tmp_path / "set", []
    rename = os.replace

    def photographed(source, target):
        for act in (lambda: None, lambda: rename(source, target)):
            act()
            snapshots.append(copy(root, tmp_path / f"snapshot-{len(snapshots)}"))

    monkeypatch.setattr("video2act.files.atomic.os.replace", photographed)
    write_dataset(root, episodes)
    monkeypatch.undo()
    assert len(snapshots) > 20
    counts = []
    for snapshot in snapshots:
        if not (snapshot / "meta").exists():  # before `create` was done: begin again
            writer = make_writer(snapshot)
        else:
            writer = DatasetWriter.resume(copy(snapshot, tmp_path / f"{snapshot.name}-resumed"))
        counts.append(writer.num_episodes)
        if writer.num_episodes:
            dataset = LeRobotDataset(snapshot)
            assert len(dataset) == writer.num_episodes
            last = len(dataset) - 1
            assert read_numbers(dataset.frames(last, "front")) == [100 * last + k for k in range(dataset.lengths[last])]
        with writer:
            for episode in episodes[writer.num_episodes :]:
                writer.add_episode(episode)
        assert contents(writer.root) == whole
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2}


def test_a_writer_that_waited_for_the_lock_keeps_the_episodes_of_the_one_before(tmp_path, monkeypatch):
    """The number of episodes was read before the lock was taken: the other program's last one was deleted."""
    root, lock = write_dataset(tmp_path / "set", [make_episode(0)]), lerobot_writer.FolderLock

    def late(*args: Any, **named: Any) -> FolderLock:
        monkeypatch.setattr(lerobot_writer, "FolderLock", lock)
        with DatasetWriter.resume(root) as other:
            other.add_episode(make_episode(1, 5, "pull"))
        return lock(*args, **named)

    monkeypatch.setattr(lerobot_writer, "FolderLock", late)
    with DatasetWriter.resume(root) as writer:
        assert writer.num_episodes == 2
        writer.add_episode(make_episode(2))
    assert LeRobotDataset(root).lengths == (7, 5, 7)
    assert check_dataset(root) == []


def test_a_dataset_that_another_program_began_meanwhile_is_refused_and_no_lock_stays(tmp_path, monkeypatch):
    """The folder was looked at before the lock was taken: the error was that of a rename, and the lock stayed."""
    root, lock = tmp_path / "set", lerobot_writer.FolderLock

    def late(*args: Any, **named: Any) -> FolderLock:
        monkeypatch.setattr(lerobot_writer, "FolderLock", lock)
        write_dataset(root, [make_episode(0)])
        return lock(*args, **named)

    monkeypatch.setattr(lerobot_writer, "FolderLock", late)
    with pytest.raises(FileExistsError, match=r"is not empty \(found .*\); resume the dataset in it"):
        make_writer(root)
    with DatasetWriter.resume(root) as writer:
        assert writer.num_episodes == 1


def test_a_folder_that_is_no_dataset_gets_no_lock(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileNotFoundError, match="is not a LeRobot dataset"):
        DatasetWriter.resume(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("storage", ["video", "image"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EFBIG, "File too large")])
def test_a_writer_goes_on_after_an_episode_that_could_not_be_encoded(
    tmp_path, monkeypatch, storage, error: BaseException
):
    """Its folder stayed, and the same writer could add no episode any more."""
    words = rf"a file may not be that large .* {tmp_path / 'set'} keeps its 1 complete episodes: free"
    with make_writer(tmp_path / "set", storage=storage) as writer:
        writer.add_episode(make_episode(0))
        with monkeypatch.context() as patch:
            patch.setattr(lerobot_writer, "encode" if storage == "video" else "encode_png", _raise(error))
            with pytest.raises(type(error), match=words if isinstance(error, OSError) else None):
                writer.add_episode(make_episode(1))
        assert not any(path.is_dir() for path in writer.staging.iterdir())
        writer.add_episode(make_episode(1))
    assert check_dataset(tmp_path / "set") == []


def test_the_task_of_an_episode_whose_commit_failed_is_not_kept(tmp_path, monkeypatch):
    """`tasks.parquet` listed it until the dataset was resumed, if the next episode had no new task."""
    with make_writer(tmp_path / "set") as writer:
        writer.add_episode(make_episode(0))
        with monkeypatch.context() as patch:
            patch.setattr(lerobot_writer.rows, "episode_parquet", _raise(OSError(errno.ENOSPC, "No space left")))
            with pytest.raises(OSError, match="disk is full"):
                writer.add_episode(make_episode(1, 5, "pull"))
        writer.add_episode(make_episode(1))
    assert check_dataset(tmp_path / "set") == []


def test_ctrl_c_while_encoding(tmp_path, monkeypatch):
    writer = make_writer(tmp_path / "set")
    writer.add_episode(make_episode(0))
    monkeypatch.setattr("video2act.data.lerobot_writer.encode", _raise(KeyboardInterrupt()))
    with writer, pytest.raises(KeyboardInterrupt):
        writer.add_episode(make_episode(1))
    monkeypatch.undo()
    assert len(LeRobotDataset(tmp_path / "set")) == 1
    with DatasetWriter.resume(tmp_path / "set") as writer:
        writer.add_episode(make_episode(1))
    assert len(LeRobotDataset(tmp_path / "set")) == 2


def test_a_full_disk_keeps_what_is_complete_and_says_so(tmp_path, monkeypatch):
    with make_writer(tmp_path / "set") as writer:
        writer.add_episode(make_episode(0))
        monkeypatch.setattr(
            "video2act.files.atomic.Path.write_bytes", _raise(OSError(errno.ENOSPC, "No space left on device"))
        )
        with pytest.raises(OSError, match=r"disk is full; .* keeps its 1 complete episodes: .* resume"):
            writer.add_episode(make_episode(1))
        monkeypatch.undo()
        assert len(LeRobotDataset(tmp_path / "set")) == 1
        writer.add_episode(make_episode(1))
    assert contents(tmp_path / "set") == contents(write_dataset(tmp_path / "other", [make_episode(0), make_episode(1)]))


def test_what_is_read_can_be_written_with_an_instruction_for_each_frame(tmp_path, dataset):
    read = LeRobotDataset(dataset).episode(0)
    told = ("push", *read.instruction[1:4], "pull", "push", "pull")
    episode = replace(make_episode(0), state=read.state, action=read.action, instruction=told)
    again = LeRobotDataset(write_dataset(tmp_path / "again", [episode, replace(episode, instruction=read.instruction)]))
    assert again.episode(0).instruction == told
    assert again.episode(1).instruction == read.instruction
    assert again.entries[0].tasks == ("push", "pull")
    assert check_dataset(again.root) == []


@pytest.mark.parametrize("told", [("push",) * 6, ("push",) * 6 + (" ",), ()])
def test_instructions_that_do_not_fit_the_frames_are_refused(tmp_path, told):
    with make_writer(tmp_path / "set") as writer, pytest.raises(ValueError, match=r"instructions; give one|a sentence"):
        writer.add_episode(replace(make_episode(0), instruction=told))


@pytest.mark.parametrize("size", [(48, 64), {"a": (48, 64), "b": (48, 64)}, {"a": 48, "b": (48, 64)}, 48])
def test_one_image_size_serves_all_cameras_and_paths_may_be_texts(tmp_path, size):
    sizes = size if isinstance(size, dict) else dict.fromkeys("ab", size)
    pairs: dict[str, Any] = {camera: (one, one) if isinstance(one, int) else one for camera, one in sizes.items()}
    root = str(tmp_path / "set")
    settings: Any = {"fps": 5.0, "robot": "arm", "cameras": ("a", "b"), "state_names": ("x",), "action_names": ("x",)}
    DatasetWriter.create(root, image_size=size, **settings).close()
    table = np.zeros((2, 1), np.float32)
    with DatasetWriter.resume(root) as writer:
        frames = {camera: np.zeros((2, *pair, 3), np.uint8) for camera, pair in pairs.items()}
        writer.add_episode(Episode(frames, table, table, "push"))
    data = LeRobotDataset(root)
    assert {camera: data.image_size(camera) for camera in "ab"} == pairs
    assert load_origin(root) == {}
    assert check_dataset(root) == []


@pytest.mark.parametrize("size", [(64, 33), (33, 64), 33, {"front": 64, "wrist": (64, 33)}])
def test_an_odd_size_is_refused_before_anything_is_recorded(tmp_path, size):
    """It was refused at the first episode, after it was recorded."""
    with pytest.raises(ValueError, match=r"H\.264 stores even sizes, got .*33.*; record with an even image size, or"):
        create_with(tmp_path / "set", image_size=size)
    assert not (tmp_path / "set").exists()
    create_with(tmp_path / "set", image_size=size, storage="image").close()


@pytest.mark.parametrize("size", [(-48, 64), (0, 64), {"a": 48}, {"a": 48, "c": 48}])
def test_a_size_that_is_none_is_refused(tmp_path, size):
    with pytest.raises(ValueError, match="image_size"):
        DatasetWriter.create(
            tmp_path / "set",
            fps=5.0,
            robot="arm",
            cameras=("a", "b"),
            image_size=size,
            state_names=("x",),
            action_names=("x",),
        )


def test_a_second_writer_is_refused(tmp_path):
    with (
        make_writer(tmp_path / "set"),
        pytest.raises(DatasetError, match=r"being written by a recording \(process \d+ on "),
    ):
        DatasetWriter.resume(tmp_path / "set")


def test_a_folder_in_use_is_not_overwritten(tmp_path, dataset):
    with pytest.raises(FileExistsError, match=r"not empty .* resume"):
        make_writer(dataset)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match=r"found thesis\.tex"):
        make_writer(tmp_path / "thesis")


def test_a_fractional_rate_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"whole number of frames per second, got fps=29\.97"):
        make_writer(tmp_path / "set", fps=29.97)


def test_the_origin_is_kept(tmp_path, dataset):
    origin = {"noise": 0.1}
    DatasetWriter.create(
        tmp_path / "a",
        fps=5.0,
        robot="arm",
        cameras=(),
        image_size=8,
        state_names=("x",),
        action_names=(),
        origin=origin,
    ).close()
    assert load_origin(tmp_path / "a") == origin
    assert load_origin(dataset) == {}
    (dataset / "meta/video2act.json").write_text("{")
    with pytest.raises(DatasetError, match=r"video2act\.json is not valid json"):
        load_origin(dataset)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": {"front": make_episode(0).frames["front"]}}, "dataset has camera 'wrist', the episode only front"),
        (
            {"frames": {"front": np.zeros((7, 32, 32, 3), np.uint8)}},
            r"'front': expected frames of shape \(7, 64, 64, 3\)",
        ),
        ({"state": np.zeros((7, 4), np.float32)}, "dataset has 3 numbers per state, the episode 4"),
        ({"action": None}, "dataset has 2 numbers per action, the episode 0"),
        ({"state": np.full((7, 3), np.nan, np.float32)}, r"state\[0\] of frame 0 is nan"),
    ],
)
def test_an_episode_that_does_not_fit_is_refused(tmp_path, change, message):
    with make_writer(tmp_path / "set") as writer, pytest.raises(ValueError, match=message):
        writer.add_episode(Episode(**{**vars(make_episode(0)), **change}))


def test_a_writer_that_refuses_to_go_on_leaves_no_lock(dataset):
    """The dataset could not be repaired by the same process."""
    path = dataset / "meta/tasks.parquet"
    tasks = path.read_bytes()
    path.write_bytes(b"damaged")
    with pytest.raises(DatasetError, match=r"tasks\.parquet is not a readable parquet file"):
        DatasetWriter.resume(dataset)
    path.write_bytes(tasks)
    with DatasetWriter.resume(dataset) as writer:
        assert writer.num_episodes > 0


def test_files_of_another_writer_are_not_continued(dataset):
    path = dataset / "meta/episodes/chunk-000/file-001.parquet"
    table = pq.read_table(path)
    column = table.column_names.index("data/file_index")
    pq.write_table(table.set_column(column, "data/file_index", pa.array([0])), path)
    with pytest.raises(DatasetError, match=r"episode 1 shares its files with others.*train on both"):
        DatasetWriter.resume(dataset)


def _raise(error: BaseException):
    def fail(*_args, **_named):
        raise error

    return fail


class TestRefused:
    """What our own check, or LeRobot, would find fault with."""

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"instruction": " "}, "an episode needs a sentence that says its task, got ' '"),
            ({"seen": ("push", "")}, "an episode needs a sentence that says its task, got ''"),
            ({"state": np.full((7, 3), 1e300)}, r"state\[0\] of frame 0 is 1e\+300, too large for float32"),
            ({"state": np.zeros((7, 4), np.float32)}, "the dataset has 3 numbers per state, the episode 4"),
            (
                {"frames": {c: np.zeros((7, SIZE, SIZE, 3), np.uint8) for c in (*CAMERAS, "more")}},
                "the episode has camera 'more'",
            ),
        ],
        ids=["empty instruction", "empty sentence", "overflow", "other state", "undeclared camera"],
    )
    def test_an_episode_that_cannot_be_stored(self, tmp_path, changes, message):
        with make_writer(tmp_path / "set") as writer:
            with pytest.raises(ValueError, match=message):
                writer.add_episode(replace(make_episode(0), **changes))
            writer.add_episode(make_episode(0))
        assert check_dataset(tmp_path / "set") == []

    @pytest.mark.parametrize("name", ["state", "action"])
    def test_a_row_of_numbers_is_no_table(self, name):
        untyped: Any = getattr(check_episode, "__wrapped__", check_episode)  # without what only a test run checks
        episode = SimpleNamespace(**{**vars(make_episode(0)), name: np.zeros(7, np.float32)})
        with pytest.raises(ValueError, match=rf"{name} must be a table, one row per frame, got the shape \(7,\)"):
            untyped(episode, None)

    @pytest.mark.parametrize("name", ["", " ", "../x", "a/b", "..", ".hidden", "observation.front", "head@1"])
    def test_a_camera_name_that_is_no_folder(self, tmp_path, name):
        with pytest.raises(ValueError, match=f"a camera may not be named {name!r}"):
            create_with(tmp_path / "set", cameras=(name,))
        assert not (tmp_path / "set").exists()

    def test_two_cameras_of_one_name(self, tmp_path):
        with pytest.raises(ValueError, match="each camera needs a name of its own, got front, front"):
            create_with(tmp_path / "set", cameras=("front", "front"))

    @pytest.mark.parametrize(
        ("feature", "values", "message"),
        [
            (
                Feature("float32", (3,)),
                np.zeros((7, 2), np.float32),
                r"force: expected the shape \(7, 3\), .* got \(7, 2\)",
            ),
            (Feature("int64", (1,)), np.full(7, 0.5), "force was declared as int64, got float64"),
            (Feature("int8", (1,)), np.full(7, 300), "force of frame 0 is 300, too large for int8"),
            (Feature("float32", (1,)), np.full(7, 1e300), r"force of frame 0 is 1e\+300, too large for float32"),
            (Feature("string", (1,)), np.zeros(7), "force: expected texts, got float64"),
        ],
        ids=["width", "fractions", "whole numbers", "overflow", "numbers for texts"],
    )
    def test_a_column_of_its_own_that_is_not_what_was_declared(self, tmp_path, feature, values, message):
        with (
            create_with(tmp_path / "set", extra={"force": feature}) as writer,
            pytest.raises(ValueError, match=message),
        ):
            writer.add_episode(replace(make_episode(0), extra={"force": values}))


def create_with(root, **changes):
    words = {"fps": FPS, "robot": "arm", "cameras": CAMERAS, "image_size": SIZE}
    return DatasetWriter.create(
        root, **words | {"state_names": ("x", "y", "grip"), "action_names": ("dx", "dy")} | changes
    )
