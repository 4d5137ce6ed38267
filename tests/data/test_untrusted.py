"""A dataset can come from a stranger: what it names and claims may not reach beyond its folder, nor fill the memory."""

import json
import os
from io import BytesIO
from pathlib import Path
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from recordings import change_column, change_info, contents, copy, make_episode, write_dataset

from video2act.data import DatasetError, DatasetWriter, LeRobotDataset
from video2act.data.dataset_files import check_template
from video2act.data.lerobot_format import DATA_PATH, VIDEO_PATH
from video2act.data.video_file import encode
from video2act.files.atomic import write_bytes

EPISODES = "meta/episodes/chunk-000/file-000.parquet"
DATA = "data/chunk-000/file-000.parquet"
KEY = "observation.images.front"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("untrusted") / "set", [make_episode(0)])


@pytest.fixture
def root(sound, tmp_path):
    return copy(sound, tmp_path / "set")


HOSTILE = (
    "../x/{chunk_index:03d}/{file_index:03d}.parquet",
    "/tmp/x/{chunk_index:03d}/{file_index:03d}.parquet",
    "data/../../{chunk_index}/{file_index}",
    "data\\..\\..\\{file_index}",
    "data/{chunk_index:0999999999d}/{file_index}",
    "data/{chunk_index:9999999}/{file_index}",
    "data/{chunk_index:012d}/{file_index}",
    "data/{chunk_index:>9d}",
    "data/{chunk_index.__class__}/{file_index}",
    "data/{chunk_index[0]}/{file_index}",
    "data/{chunk_index!r}/{file_index}",
    "data/{0}/{file_index}",
    "data/{}/{file_index}",
    "data/{chunk_index:{file_index}}",
    "data/{chunk_index",
    "data/\0{file_index}",
    "x" * 1000,
    "",
    5,
    None,
)


class TestNames:
    @pytest.mark.parametrize("template", HOSTILE)
    def test_a_hostile_data_path_is_refused_for_reading_and_writing(self, root, template):
        before = contents(root.parent)
        change_info(root, data_path=template, total_episodes=0, total_frames=0)
        changed = contents(root.parent)
        for use in (LeRobotDataset, DatasetWriter.resume):
            with pytest.raises(DatasetError, match=r"info\.json: data_path must be a path"):
                use(root)
        assert contents(root.parent) == changed
        assert before.keys() == changed.keys()

    @pytest.mark.parametrize("template", [*HOSTILE[:-1], "videos/{video_key.upper}/{file_index}", "{video_key:05d}"])
    def test_a_hostile_video_path_is_refused(self, root, template):
        change_info(root, video_path=template)
        with pytest.raises(DatasetError, match=r"info\.json: video_path must be a path"):
            LeRobotDataset(root)

    @pytest.mark.parametrize("width", [1, 3, 6, 9])
    def test_plain_names_with_a_bounded_number_are_read(self, width):
        template = f"data/chunk-{{chunk_index:0{width}d}}/file-{{file_index}}.parquet"
        assert check_template(template, "data_path", places=("chunk_index", "file_index")) == template

    @pytest.mark.parametrize("key", ["observation.images/../../../x", "..", "../../x", ".hidden", "a\\b", "x" * 300])
    def test_a_camera_that_is_named_as_a_path_is_refused(self, root, key):
        path = root / "meta/info.json"
        path.write_text(path.read_text().replace(json.dumps(KEY)[1:-1], json.dumps(key)[1:-1]))
        for use in (LeRobotDataset, DatasetWriter.resume):
            with pytest.raises(
                DatasetError, match=r"info\.json: (a video is named|robot_type and the names of features)"
            ):
                use(root)

    @pytest.mark.parametrize("name", ["data/chunk_index", "data/file_index", f"videos/{KEY}/file_index"])
    @pytest.mark.parametrize("value", [-1, 10**6, 2**62])
    def test_a_number_of_a_file_is_bounded(self, root, name, value):
        change_column(root, EPISODES, name, [value])
        with pytest.raises(DatasetError, match=f"{name} of episode 0 is {value}, expected a whole number from 0"):
            LeRobotDataset(root)

    def test_files_under_other_names_are_not_recorded_into(self, root):
        change_info(root, data_path="data/all.parquet", total_episodes=0, total_frames=0)
        with pytest.raises(DatasetError, match="another program wrote this dataset"):
            DatasetWriter.resume(root)


class TestLinks:
    @pytest.mark.parametrize("name", ["data", "videos", "meta/episodes", ".staging", ".staging/lock", "meta/x"])
    def test_nothing_is_written_through_a_link(self, root, tmp_path, name):
        outside, path = tmp_path / "outside", root / name
        outside.mkdir()
        (outside / "work").mkdir()
        (outside / "mine.txt").write_text("mine")
        if path.exists():
            path.rename(outside / "moved")
            path.symlink_to(outside / "moved")
        else:
            path.parent.mkdir(exist_ok=True)
            path.symlink_to(outside if name == ".staging" else outside / "mine.txt")
        before = contents(outside)
        with pytest.raises(DatasetError, match=r"is a link, and recording through links could change files elsewhere"):
            DatasetWriter.resume(root)
        assert contents(outside) == before
        assert (outside / "work").is_dir()

    def test_a_new_dataset_is_not_begun_behind_a_link(self, tmp_path):
        (tmp_path / "outside").mkdir()
        (tmp_path / "set").mkdir()
        (tmp_path / "set/.staging").symlink_to(tmp_path / "outside")
        with pytest.raises(DatasetError, match="is a link"):
            DatasetWriter.create(
                tmp_path / "set",
                fps=5.0,
                robot="arm",
                cameras=(),
                image_size=8,
                state_names=("x",),
                action_names=("x",),
            )
        assert not any((tmp_path / "outside").iterdir())

    def test_a_file_is_replaced_not_written_through_a_link(self, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        (tmp_path / "info.json").symlink_to(tmp_path / "mine.txt")
        write_bytes(tmp_path / "info.json", b"new")
        assert (tmp_path / "mine.txt").read_text() == "mine"
        assert not (tmp_path / "info.json").is_symlink()
        assert (tmp_path / "info.json").read_bytes() == b"new"

    def test_the_hubs_cache_of_links_into_blobs_is_read(self, root, tmp_path):
        blobs = tmp_path / "blobs"
        blobs.mkdir()
        for number, path in enumerate(sorted(path for path in root.rglob("*") if path.is_file())):
            path.rename(blobs / str(number))
            path.symlink_to(os.path.relpath(blobs / str(number), path.parent))
        assert LeRobotDataset(root).frames(0, "front").shape == (7, 64, 64, 3)


class TestSizes:
    """What is claimed is compared before anything is read, decoded or built."""

    @pytest.fixture(autouse=True)
    def nothing_is_read(self, monkeypatch):
        """A table that is too large may be measured, not read."""
        read = pq.ParquetFile.read

        def small(self, *args, **named):
            assert self.metadata.num_rows < 10**6, "a bomb was read"
            return read(self, *args, **named)

        monkeypatch.setattr(pq.ParquetFile, "read", small)

    @staticmethod
    def multiply(path: Path, rows: int) -> None:
        """As many equal rows, in few bytes."""
        row = pq.read_table(path).slice(0, 1)
        table = row.take(pa.array(np.zeros(10**5, np.int64)))
        with pq.ParquetWriter(path, table.schema) as writer:
            for _ in range(rows // 10**5):
                writer.write_table(table)

    @pytest.mark.parametrize("file", [DATA, "meta/tasks.parquet", EPISODES])
    def test_millions_of_equal_rows(self, root, file):
        table = pq.read_table(root / file)
        small = table.select([name for name in table.column_names if not name.startswith("stats/")])
        pq.write_table(small, root / file)
        self.multiply(root / file, 2 * 10**6)
        with pytest.raises(DatasetError, match=rf"{file} holds 2000000 rows, far more than"):
            LeRobotDataset(root)

    def test_a_row_of_millions(self, root):
        table = pq.read_table(root / DATA)
        cells = pa.array([np.zeros(10**6, np.float32)] * 7, pa.list_(pa.float32()))
        place = table.column_names.index("action")
        pq.write_table(table.set_column(place, "action", cells), root / DATA)
        with pytest.raises(DatasetError, match=r"holds 7000000 values of action, far more than"):
            LeRobotDataset(root)

    @pytest.mark.parametrize("changes", [{"total_episodes": 10**9}, {"total_frames": 10**12}, {"total_tasks": 10**8}])
    def test_counts_are_bounded(self, root, changes):
        change_info(root, **changes)
        with pytest.raises(DatasetError, match=r"must be a whole number of 0 or more, got .*at most"):
            LeRobotDataset(root)

    @pytest.mark.parametrize(("key", "shape"), [("action", [10**9]), ("action", [10**5, 10**5]), (KEY, [10**6, 8, 3])])
    def test_a_huge_shape(self, root, key, shape):
        features = json.loads((root / "meta/info.json").read_text())["features"]
        features[key]["shape"] = shape
        change_info(root, features=features)
        with pytest.raises(DatasetError, match=f"{key} has the shape .*expected at most"):
            LeRobotDataset(root)

    @pytest.mark.parametrize("text", ["[" * 100_000, '{"codebase_version": ' + "9" * 10_000 + "}", " " * (2**24 + 1)])
    def test_a_description_that_python_cannot_parse(self, root, text):
        (root / "meta/info.json").write_text(text)
        with pytest.raises(DatasetError, match=r"info\.json (is not valid json|has more than)"):
            LeRobotDataset(root)

    def test_a_video_of_another_size_is_not_decoded(self, root, monkeypatch):
        encode(
            root / VIDEO_PATH.format(video_key=KEY, chunk_index=0, file_index=0),
            np.zeros((7, 512, 256, 3), np.uint8),
            fps=20,
        )
        monkeypatch.setattr("video2act.data.video_file.VideoReader._decode", None)
        with pytest.raises(DatasetError, match=r"has frames of 512 x 256, meta/info\.json says 64 x 64"):
            LeRobotDataset(root).frames(0, "front")

    @pytest.mark.parametrize("kind", ["size", "bomb", "format", "depth"])
    def test_a_picture_is_measured_before_it_is_decoded(self, tmp_path, kind, monkeypatch):
        root = write_dataset(tmp_path / "images", [make_episode(0)], storage="image")
        file = BytesIO()
        image = Image.new("I;16" if kind == "depth" else "RGB", (2048, 64) if kind == "size" else (64, 64))
        image.save(file, format="eps" if kind == "format" else "png")
        picture = file.getvalue()
        if kind == "bomb":  # it claims more than it holds
            header = picture[12:16] + (60_000).to_bytes(4, "big") * 2 + picture[24:29]
            picture = picture[:12] + header + crc32(header).to_bytes(4, "big") + picture[33:]
        cells = pq.read_table(root / DATA)[KEY].to_pylist()
        cells[3]["bytes"] = picture
        change_column(root, DATA, KEY, cells)
        convert = Image.Image.convert

        def checked(self, *args, **named):
            assert self.size == (64, 64), "a bomb was decoded"
            return convert(self, *args, **named)

        monkeypatch.setattr(Image.Image, "convert", checked)
        expected = {"format": "it is no PNG", "depth": "as depth does"}.get(kind, "expected 64 x 64|cannot be decoded")
        with pytest.raises(DatasetError, match=f"row 3: {KEY} is not a readable image: .*({expected})"):
            LeRobotDataset(root).frames(0, "front")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"


class TestForeignFiles:
    @pytest.mark.parametrize("file", ["meta/info.json", "meta/tasks.parquet", EPISODES, DATA])
    def test_a_pointer_of_git_lfs_is_called_one(self, root, file):
        (root / file).write_bytes(
            b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
        )
        with pytest.raises(DatasetError, match=rf"{file} is a pointer of Git LFS.*git lfs pull"):
            LeRobotDataset(root)

    def test_a_video_that_is_a_pointer_is_called_one(self, root):
        path = root / VIDEO_PATH.format(video_key=KEY, chunk_index=0, file_index=0)
        path.write_bytes(POINTER)
        with pytest.raises(DatasetError, match=r"is a pointer of Git LFS.*git lfs pull"):
            LeRobotDataset(root).frames(0, "front")

    def test_companion_files_of_a_mac_are_passed_by(self, root):
        for name in ("meta/episodes/chunk-000", "data/chunk-000"):
            (root / name / "._file-000.parquet").write_bytes(b"\x00\x05\x16\x07" + bytes(100))
        assert len(LeRobotDataset(root)) == 1

    def test_paths_are_the_writers_own(self):
        for template, places in ((DATA_PATH, ()), (VIDEO_PATH, ("video_key",))):
            assert check_template(template, "path", places=(*places, "chunk_index", "file_index")) == template
