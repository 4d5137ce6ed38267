"""What holds for every `Dataset`: as written here, packed several episodes to a file by another program, several as
one, a part."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from video2act.data import (
    Dataset,
    DatasetError,
    DatasetWriter,
    Episode,
    LeRobotDataset,
    open_dataset,
    open_datasets,
    parse_episodes,
    split,
)
from video2act.data.video_file import encode

LENGTHS = (6, 9, 4, 5)
TASKS = ("push", "pull", "push", "lift")


def make_episode(number: int) -> Episode:
    """A moving wave; the first rows tell episode (0 .. 3) and frame (0 .. 15) in six black or white blocks."""
    length = LENGTHS[number]
    y, x = np.mgrid[:48, :48] / 48 * 2 * np.pi
    frames = np.empty((length, 48, 48, 3), np.uint8)
    for k in range(length):
        frames[k] = (128 + 60 * np.sin(x + 0.3 * k + number) * np.cos(y))[..., None]
        for bit in range(6):
            frames[k, :8, 8 * bit : 8 * bit + 8] = 235 if (16 * number + k) >> bit & 1 else 20
    rng = np.random.default_rng(number)
    state, action = rng.normal(size=(length, 3)), rng.normal(size=(length, 2))
    images = {"front": frames, "wrist": np.ascontiguousarray(frames[:, :, ::-1])}
    return Episode(images, state.astype(np.float32), action.astype(np.float32), TASKS[number])


def write(root: Path, numbers: tuple[int, ...]) -> Path:
    sizes = {"image_size": 48, "state_names": ("x", "y", "z"), "action_names": ("dx", "dy")}
    with DatasetWriter.create(root, fps=25.0, robot="arm", cameras=("front", "wrist"), **sizes) as writer:
        for number in numbers:
            writer.add_episode(make_episode(number))
    return root


def pack(source: Path, root: Path) -> Path:
    """The same dataset as other writers lay it out: files of several episodes, other columns, names and shapes."""
    info = json.loads((source / "meta/info.json").read_text())
    for feature in info["features"].values():
        if feature["dtype"] == "video":
            feature |= {"shape": [3, 48, 48], "names": ["channels", "height", "width"], "info": None}
    info |= {"data_path": "data/part-{file_index}-{chunk_index}.parquet", "tools": [], "robot_type": "arm"}
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info))
    # all rows in one file, columns in another order, lists of any size, and a column of no interest
    (root / "data").mkdir()
    table = pa.concat_tables(pq.read_table(path) for path in sorted(source.glob("data/*/*.parquet")))
    table = table.select(table.column_names[::-1])
    for name in ("action", "observation.state"):
        column = pa.array(table[name].to_pylist(), pa.list_(pa.float32()))
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table.append_column("next.reward", pa.nulls(len(table))), root / "data/part-0-0.parquet")
    # an unnamed index, as pandas writes it
    tasks = pq.read_table(source / "meta/tasks.parquet").rename_columns(["task_index", "__index_level_0__"])
    pq.write_table(tasks.replace_schema_metadata(None), root / "meta/tasks.parquet")
    # episodes 0 to 2 in one video and 3 in the next; the times drift a little, as sums of durations do
    rows = [row for path in sorted(source.glob("meta/episodes/*/*.parquet")) for row in pq.read_table(path).to_pylist()]
    for camera in ("front", "wrist"):
        key = f"observation.images.{camera}"
        for file, numbers in enumerate(((0, 1, 2), (3,))):
            path = root / f"videos/{key}/chunk-000/file-{file:03d}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            encode(path, np.concatenate([make_episode(number).frames[camera] for number in numbers]), fps=25)
            for number in numbers:
                before = sum(LENGTHS[other] for other in numbers if other < number)
                place = {"file_index": file, "from_timestamp": before / 25 + 0.004 * number}
                rows[number] |= {f"videos/{key}/{name}": value for name, value in place.items()}
    for row in rows:
        row["data/file_index"] = 0
    for file, part in enumerate((rows[:3], rows[3:])):
        keep = [name for name in part[0] if name != "seed" and not name.startswith("stats/")]
        order = keep if file == 0 else keep[::-1]
        columns = {name: [row[name] for row in part] for name in order}
        pq.write_table(
            pa.table(columns | {"meta/extra": ["?"] * len(part)}),
            root / f"meta/episodes/chunk-000/file-{file:03d}.parquet",
        )
    return root


@pytest.fixture(scope="module", params=["single", "packed", "merged", "part", "parts"])
def dataset(request, tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("datasets")
    if request.param == "merged":
        return open_datasets([write(folder / "a", (0, 1)), write(folder / "b", (2,)), write(folder / "c", (3,))])
    if request.param == "part":  # in another order than recorded, without the first
        return open_dataset(str(write(folder / "longer", (3, 0, 1, 2, 3))), episodes=range(1, 5))
    if request.param == "parts":
        roots = [write(folder / "a", (3, 0, 1)), write(folder / "b", (0, 2, 3))]
        return open_datasets(roots, episodes=(1, 2))
    root = write(folder / "single", (0, 1, 2, 3))
    return LeRobotDataset(root if request.param == "single" else pack(root, folder / "packed"))


def test_it_describes_itself(dataset):
    assert isinstance(dataset, Dataset)
    assert (len(dataset), dataset.lengths, dataset.total_frames) == (4, LENGTHS, sum(LENGTHS))
    assert (dataset.robot, dataset.fps, dataset.cameras, dataset.state_dim, dataset.action_dim) == (
        "arm",
        25,
        ("front", "wrist"),
        3,
        2,
    )
    assert dataset.image_size("front") == (48, 48)
    assert dataset.tasks == ("push", "pull", "lift")


def test_numbers_come_back_exactly(dataset):
    for i, length in enumerate(LENGTHS):
        written, read = make_episode(i), dataset.episode(i)
        assert read.length == length
        assert read.state.dtype == np.float32
        assert np.array_equal(read.state, written.state)
        assert read.action is not None
        assert written.action is not None
        assert np.array_equal(read.action, written.action)
        assert np.array_equal(read.timestamps, (np.arange(length) / 25).astype(np.float32))
        assert read.instruction == (TASKS[i],) * length


def test_statistics_are_those_of_all_frames(dataset):
    for name in ("state", "action"):
        values = np.concatenate([getattr(make_episode(i), name) for i in range(4)]).astype(np.float64)
        np.testing.assert_allclose(dataset.stats[name].mean, values.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(dataset.stats[name].std, values.std(axis=0))
        np.testing.assert_array_equal(dataset.stats[name].min, values.min(axis=0))


def test_frames_come_back_in_order_and_within_the_error_of_the_codec(dataset):
    for i, length in enumerate(LENGTHS):
        for camera in dataset.cameras:
            frames, written = dataset.frames(i, camera), make_episode(i).frames[camera]
            upright = frames if camera == "front" else frames[:, :, ::-1]
            bits = [upright[:, :8, 8 * bit : 8 * bit + 8].mean(axis=(1, 2, 3)) > 128 for bit in range(6)]
            assert (np.array(bits).T @ 2 ** np.arange(6)).tolist() == [16 * i + k for k in range(length)]
            error = ((frames.astype(float) - written) ** 2).mean(axis=(1, 2, 3))
            assert (10 * np.log10(255**2 / error)).min() > 30


def test_a_part_and_a_size(dataset):
    whole = dataset.frames(1, "wrist")
    assert np.array_equal(dataset.frames(1, "wrist", numbers=range(3, 7)), whole[3:7])
    assert np.array_equal(dataset.frames(1, "wrist", numbers=range(8, len(whole))), whole[8:])
    assert np.array_equal(
        dataset.frames(1, "wrist", numbers=range(3, len(whole)), reduce=lambda part: part[:, ::4]), whole[3:, ::4]
    )


def test_what_is_not_there(dataset):
    with pytest.raises(DatasetError, match=r"no camera 'top'; its cameras are front, wrist"):
        dataset.frames(0, "top")
    for wrong in (-1, 4):
        with pytest.raises(IndexError, match=rf"episodes 0\.\.3.* asked for {wrong}"):
            dataset.episode(wrong)
        with pytest.raises(IndexError, match=rf"episodes 0\.\.3.* asked for {wrong}"):
            dataset.frames(wrong, "front")
    with pytest.raises(IndexError, match=r"has frames 0\.\.5, asked for 2\.\.6"):
        dataset.frames(0, "front", numbers=range(2, 7))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("part") / "whole", (0, 1, 2, 3))


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("split")
    return [write(folder / "a", (0, 1, 2)), write(folder / "b", (3, 0))]


class TestPart:
    def test_statistics_and_tasks_are_those_of_the_chosen_episodes(self, root: Path):
        part = open_dataset(root, episodes=(2, 3))
        values = np.concatenate([make_episode(i).state for i in (2, 3)]).astype(np.float64)
        np.testing.assert_allclose(part.stats["state"].mean, values.mean(axis=0), atol=1e-12)
        np.testing.assert_array_equal(part.stats["state"].max, values.max(axis=0))
        assert (part.lengths, part.tasks) == ((4, 5), ("push", "lift"))

    def test_another_part_is_another_fingerprint(self, root: Path):
        chosen = [None, range(4), range(2), range(1, 3), (1, 0)]
        prints = [open_dataset(root, episodes=episodes).fingerprint for episodes in chosen]
        assert prints[0] == prints[1]
        assert len(set(prints)) == 4

    @pytest.mark.parametrize("path", [str, Path], ids=["str", "Path"])
    def test_an_episode_that_does_not_exist_is_refused_with_those_that_do(self, root: Path, path):
        for episodes in (range(5), (4,), range(-1, 1)):
            with pytest.raises(
                ValueError, match=rf"whole has episodes 0\.\.3, asked for {episodes[0] if episodes[0] else 4}"
            ):
                open_dataset(path(root), episodes=episodes)
        with pytest.raises(ValueError, match=r"at least one episode, and each once; got 1, 1"):
            open_datasets([path(root)], episodes=(1, 1))
        with pytest.raises(ValueError, match=r"at least one episode, and each once; got none"):
            open_dataset(path(root), episodes=range(0))

    def test_on_the_command_line(self):
        assert [parse_episodes(text) for text in ("0:10", ":3", "3,7")] == [range(10), range(3), (3, 7)]
        for text in ("a", "1:", "1:2:3", "", "1-3"):
            with pytest.raises(ValueError, match="expected episodes as begin:end or as numbers with commas"):
                parse_episodes(text)


class TestSplit:
    def test_the_last_episodes_are_held_out_and_never_reach_the_statistics(self, roots: list[Path]):
        training, held_out = split(open_dataset(roots[0]), 0.34)
        assert (training.lengths, held_out.lengths) == ((6, 9), (4,))
        values = np.concatenate([make_episode(i).state for i in (0, 1)]).astype(np.float64)
        np.testing.assert_allclose(training.stats["state"].mean, values.mean(axis=0), atol=1e-12)
        assert training.fingerprint != held_out.fingerprint

    def test_there_is_at_least_one_on_either_side(self, roots: list[Path]):
        for fraction, lengths in ((0.01, (6, 9)), (0.99, (6,))):
            assert split(open_dataset(roots[0]), fraction)[0].lengths == lengths

    def test_each_of_several_datasets_is_split(self, roots: list[Path]):
        training, held_out = split(open_datasets(roots), 0.3)
        assert (training.lengths, held_out.lengths) == ((6, 9, 5), (4, 6))
        assert [len(part) for part in training.each] == [2, 1]

    def test_a_part_is_split_within_itself(self, roots: list[Path]):
        training, held_out = split(open_dataset(roots[0], episodes=range(2)), 0.5)
        assert (training.lengths, held_out.lengths) == ((6,), (9,))

    def test_a_single_episode_is_refused(self, roots: list[Path]):
        with pytest.raises(ValueError, match="at least 2 episodes, one of them held out; the dataset has 1"):
            split(open_dataset(roots[0], episodes=(1,)), 0.5)
