"""RoboTwin's files as its simulator writes them, and as the released code prepares them, become the same dataset."""

import json
import shutil
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from video2act import cli
from video2act.data import DatasetError, DatasetWriter, LeRobotDataset
from video2act.data.robotwin import find_episodes, read_episode
from video2act.embodiment import EMBODIMENTS
from video2act.programs.convert import convert_robotwin

CAMERAS = {"head_camera": "cam_high", "right_camera": "cam_right_wrist", "left_camera": "cam_left_wrist"}
COLOURS = {"head_camera": (220, 30, 40), "right_camera": (30, 200, 60), "left_camera": (40, 50, 230)}
LENGTH = 6


def jpeg(image: np.ndarray) -> bytes:
    """What cv2.imencode makes of an array in the order R, G, B: it takes red for blue."""
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(image[..., ::-1])).save(file, format="jpeg", quality=95)
    return file.getvalue()


def picture(camera: str, frame: int) -> np.ndarray:
    image = np.full((32, 48, 3), COLOURS[camera], np.uint8)
    image[:8, : 8 * frame] = 255
    return image


def joints(number: int) -> np.ndarray:
    return np.random.default_rng(number).uniform(-1, 1, (LENGTH, 14))


def write_raw(folder: Path, numbers: range, num_pictures: int = LENGTH) -> Path:
    (folder / "data").mkdir(parents=True)
    (folder / "instructions").mkdir()
    (folder / "seed.txt").write_text(" ".join(str(100 + number) for number in range(20)))
    for number in numbers:
        values = joints(number)
        with h5py.File(folder / f"data/episode{number}.hdf5", "w") as file:
            for name, columns in (("left_arm", slice(0, 6)), ("right_arm", slice(7, 13))):
                file[f"joint_action/{name}"] = values[:, columns]
            file["joint_action/left_gripper"], file["joint_action/right_gripper"] = values[:, 6], values[:, 13]
            for camera in CAMERAS:
                cells = [jpeg(picture(camera, k)) for k in range(num_pictures)]
                file.create_dataset(f"observation/{camera}/rgb", data=np.array(cells, dtype=f"S{max(map(len, cells))}"))
        sentences = {"seen": [f"lift {number}", "raise it"], "unseen": ["hoist it"]}
        (folder / f"instructions/episode{number}.json").write_text(json.dumps(sentences))
    return folder


def write_processed(folder: Path, numbers: range) -> Path:
    for number in numbers:
        (folder / f"episode_{number}").mkdir(parents=True)
        values = joints(number).astype(np.float32)
        with h5py.File(folder / f"episode_{number}/episode_{number}.hdf5", "w") as file:
            file["observations/qpos"], file["action"] = values[:-1], values[1:]
            file["observations/left_arm_dim"] = np.full(LENGTH - 1, 6)
            for camera, name in CAMERAS.items():
                cells = [jpeg(picture(camera, k)) for k in range(LENGTH - 1)]
                file.create_dataset(
                    f"observations/images/{name}", data=np.array(cells, dtype=f"S{max(map(len, cells))}")
                )
    return folder


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_raw_episode_arrives_as_it_was(tmp_path: Path):
    source = write_raw(tmp_path / "lift/demo_clean", range(2))
    assert convert_robotwin(source, tmp_path / "set", workers=1) == 2
    dataset = LeRobotDataset(tmp_path / "set")
    assert (dataset.fps, dataset.robot, dataset.lengths) == (25, "aloha_agilex", (LENGTH - 1, LENGTH - 1))
    assert set(dataset.cameras) == set(CAMERAS.values())
    assert dataset.image_size("cam_high") == (32, 48)
    assert dataset.info.action_names == EMBODIMENTS["aloha_agilex"]
    for number in range(2):
        episode, values = dataset.episode(number), joints(number).astype(np.float32)
        assert np.array_equal(episode.state, values[:-1])
        assert episode.action is not None
        assert np.array_equal(episode.action, values[1:])
        entry = dataset.entries[number]
        assert (entry.tasks, entry.seen, entry.unseen) == (
            (f"lift {number}",),
            (f"lift {number}", "raise it"),
            ("hoist it",),
        )
        assert entry.seed == 100 + number


def test_red_is_red(tmp_path: Path):
    """RoboTwin's JPEGs hold red where blue should be."""
    convert_robotwin(write_raw(tmp_path / "raw", range(1)), tmp_path / "set", workers=1)
    dataset = LeRobotDataset(tmp_path / "set")
    for camera, name in CAMERAS.items():
        frames = dataset.frames(0, name)
        assert np.abs(frames[:, 20, 20].astype(int) - COLOURS[camera]).max() < 16
        assert [int((frames[k, 4, :, :].min(axis=1) > 200).sum()) // 8 for k in range(LENGTH - 1)] == list(
            range(LENGTH - 1)
        )


def test_files_that_are_right_can_be_said_to_be(tmp_path: Path):
    convert_robotwin(write_raw(tmp_path / "raw", range(1)), tmp_path / "set", workers=1, order="rgb")
    shown = LeRobotDataset(tmp_path / "set").frames(0, "cam_high")[0, 20, 20].astype(int)
    assert np.abs(shown - COLOURS["head_camera"][::-1]).max() < 16


@pytest.mark.parametrize("form", ["bytes", "table"])
def test_pictures_may_be_bytes_of_any_form(form: str, tmp_path: Path):
    """As many bytes as each picture needs, or a row of a table for each; not texts of one length alone."""
    source = find_episodes(write_raw(tmp_path / "lift", range(1)))[0]
    expected = read_episode(source).frames["cam_high"]
    name, file = "observation/head_camera/rgb", h5py.File(source.file, "a")
    cells = [np.frombuffer(cell, np.uint8) for cell in file[name][:]]  # type: ignore[index,union-attr]
    del file[name]
    if form == "table":
        longest = max(map(len, cells))
        file[name] = np.stack([np.pad(cell, (0, longest - len(cell))) for cell in cells])
    else:
        table = file.create_dataset(name, (len(cells),), h5py.vlen_dtype(np.uint8))
        for i, cell in enumerate(cells):
            table[i] = cell
    file.close()
    assert np.array_equal(read_episode(source).frames["cam_high"], expected)


def test_processed_files_give_the_same_data(tmp_path: Path):
    raw = write_raw(tmp_path / "raw", range(2))
    convert_robotwin(raw, tmp_path / "one", workers=1)
    processed = write_processed(tmp_path / "processed", range(2))
    convert_robotwin(processed, tmp_path / "two", instructions=raw / "instructions", workers=1)
    first, second = LeRobotDataset(tmp_path / "one"), LeRobotDataset(tmp_path / "two")
    assert first.tasks == second.tasks
    for number in range(2):
        assert np.array_equal(first.episode(number).state, second.episode(number).state)
        for name in CAMERAS.values():
            assert np.array_equal(first.frames(number, name), second.frames(number, name))


def test_two_processes_write_what_one_writes(tmp_path: Path):
    source = write_raw(tmp_path / "raw", range(3))
    convert_robotwin(source, tmp_path / "one", workers=1)
    convert_robotwin(source, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_an_interrupted_conversion_goes_on_and_a_folder_may_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = write_raw(tmp_path / "raw", range(3))
    convert_robotwin(source, tmp_path / "whole", workers=1)
    commit, out = DatasetWriter.commit, tmp_path / "set"

    def interrupted(self: DatasetWriter, episode: object) -> None:
        if self.num_episodes == 1:
            raise KeyboardInterrupt
        commit(self, episode)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(DatasetWriter, "commit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            convert_robotwin(source, out, workers=1)
    assert len(LeRobotDataset(out)) == 1
    assert convert_robotwin(source, out, workers=1) == 3
    assert contents(out) == contents(tmp_path / "whole")
    with pytest.raises(DatasetError, match="converted otherwise: fps was 25, now 50"):
        convert_robotwin(source, out, workers=1, fps=50)
    (source / "data/episode0.hdf5").rename(source / "data/episode9.hdf5")
    with pytest.raises(DatasetError, match=r"holds other episodes .*found data/episode1\.hdf5"):
        convert_robotwin(source, out, workers=1)


def test_episodes_are_in_the_order_of_their_numbers(tmp_path: Path):
    write_raw(tmp_path / "a/clean", range(9, 12))
    write_raw(tmp_path / "b/clean", range(2))
    names = [source.name for source in find_episodes(tmp_path)]
    assert names == [f"{t}/clean/data/episode{n}.hdf5" for t, n in (("a", 9), ("a", 10), ("a", 11), ("b", 0), ("b", 1))]


class TestRefused:
    @pytest.fixture
    def raw(self, tmp_path: Path) -> Path:
        return write_raw(tmp_path / "raw", range(1))

    def test_no_folder_and_no_episode(self, tmp_path: Path):
        with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
            convert_robotwin(tmp_path / "nowhere", tmp_path / "set")
        with pytest.raises(FileNotFoundError, match=r"holds no episodeN\.hdf5"):
            convert_robotwin(tmp_path, tmp_path / "set")

    def test_no_instructions(self, raw: Path, tmp_path: Path):
        (raw / "instructions/episode0.json").unlink()
        with pytest.raises(FileNotFoundError, match=r"episode0\.hdf5 comes without instructions; name a folder"):
            convert_robotwin(raw, tmp_path / "set", workers=1)
        assert convert_robotwin(raw, tmp_path / "set", workers=1, task="lift the pot") == 1
        assert LeRobotDataset(tmp_path / "set").tasks == ("lift the pot",)

    def test_instructions_of_another_form(self, raw: Path, tmp_path: Path):
        (raw / "instructions/episode0.json").write_text('{"seen": []}')
        with pytest.raises(DatasetError, match=r'episode0\.json must hold \{"seen"'):
            convert_robotwin(raw, tmp_path / "set", workers=1)

    def test_a_damaged_file(self, raw: Path, tmp_path: Path):
        path = raw / "data/episode0.hdf5"
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(DatasetError, match=r"episode0\.hdf5 is not a readable HDF5 file"):
            convert_robotwin(raw, tmp_path / "set", workers=1)

    def test_a_missing_group(self, raw: Path, tmp_path: Path):
        with h5py.File(raw / "data/episode0.hdf5", "a") as file:
            del file["joint_action/right_gripper"]
        with pytest.raises(DatasetError, match=r"episode0\.hdf5 has no joint_action/right_gripper"):
            convert_robotwin(raw, tmp_path / "set", workers=1)

    def test_too_few_pictures(self, tmp_path: Path):
        raw = write_raw(tmp_path / "short", range(1), num_pictures=3)
        with pytest.raises(DatasetError, match="cam_high has 3 pictures for 5 states"):
            convert_robotwin(raw, tmp_path / "set", workers=1)

    def test_a_picture_that_is_none(self, raw: Path, tmp_path: Path):
        file: Any
        with h5py.File(raw / "data/episode0.hdf5", "a") as file:
            cells = file["observation/head_camera/rgb"][:]
            cells[2] = b"no picture"
            file["observation/head_camera/rgb"][:] = cells
        with pytest.raises(DatasetError, match="picture 2 of cam_high cannot be used"):
            convert_robotwin(raw, tmp_path / "set", workers=1)

    @pytest.mark.parametrize(
        ("cells", "match"),
        [
            (np.full(LENGTH, 2**45), r"found the shape \[\d+\] of int64"),
            (np.full(LENGTH, -1, np.int32), r"found the shape \[\d+\] of int32"),
            (np.int64(3), r"found the shape \[\] of int64"),
            (np.zeros((LENGTH, 4, 4, 3), np.uint8), r"found the shape \[\d+, 4, 4, 3\] of uint8"),
        ],
        ids=["huge numbers", "below zero", "one number", "pictures that are not encoded"],
    )
    def test_pictures_that_are_no_bytes(self, cells: np.ndarray, match: str, raw: Path, tmp_path: Path):
        """A number was taken for a count of bytes, which were allocated: a MemoryError that named no file."""
        with h5py.File(raw / "data/episode0.hdf5", "a") as file:
            del file["observation/head_camera/rgb"]
            file["observation/head_camera/rgb"] = cells
        with pytest.raises(DatasetError, match=rf"episode0\.hdf5: cam_high must hold an encoded picture .*{match}"):
            convert_robotwin(raw, tmp_path / "set", workers=1)

    @pytest.mark.parametrize("kind", ["external", "soft", "storage"])
    def test_what_lies_in_another_file_is_not_read(self, raw: Path, tmp_path: Path, kind: str):
        (tmp_path / "secret").write_bytes(bytes(6 * 6 * 8))
        file: Any
        with h5py.File(raw / "data/episode0.hdf5", "a") as file:
            del file["joint_action/left_arm"]
            if kind == "storage":
                storage = [(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)]
                file.create_dataset("joint_action/left_arm", (6, 6), np.float64, external=storage)
            else:
                link = h5py.ExternalLink(str(tmp_path / "secret"), "/x") if kind == "external" else h5py.SoftLink("/x")
                file["joint_action/left_arm"] = link
        with pytest.raises(DatasetError, match=r"episode0\.hdf5: joint_action/left_arm .*copy it into this one"):
            convert_robotwin(raw, tmp_path / "set", workers=1)

    def test_a_table_is_measured_before_it_is_read(self, raw: Path, tmp_path: Path):
        file: Any
        with h5py.File(raw / "data/episode0.hdf5", "a") as file:
            del file["joint_action/left_arm"]
            file.create_dataset("joint_action/left_arm", (10**9, 6), np.float64, chunks=(10**4, 6), compression="gzip")
        with pytest.raises(DatasetError, match=r"left_arm has the shape \[1000000000, 6\]"):
            convert_robotwin(raw, tmp_path / "set", workers=1)

    def test_an_episode_of_another_robot(self, raw: Path, tmp_path: Path):
        path = write_processed(raw, range(1, 2)) / "episode_1/episode_1.hdf5"
        file: Any
        with h5py.File(path, "a") as file:
            for name in ("observations/qpos", "action"):
                values = file[name][:, :7]
                del file[name]
                file[name] = values
        with pytest.raises(DatasetError, match=r"episode_1\.hdf5: the dataset has 14 numbers per state, the episode 7"):
            convert_robotwin(raw, tmp_path / "set", workers=1, task="lift")

    @pytest.mark.parametrize("sentences", [{"seen": "lift"}, {"seen": ["lift"], "unseen": "hoist"}], ids=str)
    def test_a_text_is_no_list_of_letters(self, raw: Path, tmp_path: Path, sentences: dict):
        path = raw / "instructions/episode0.json"
        path.write_text(json.dumps(sentences))
        with pytest.raises(DatasetError, match=r"episode0\.json must hold"):
            convert_robotwin(raw, tmp_path / "set", workers=1)

    def test_seeds_that_are_words_name_their_file(self, raw: Path, tmp_path: Path):
        (raw / "seed.txt").write_text("abc 1.5")
        with pytest.raises(DatasetError, match=r"seed\.txt: seed 0 is 'abc', expected a whole number"):
            convert_robotwin(raw, tmp_path / "set", workers=1)

    @pytest.mark.parametrize("content", [b"\xff\xfe1 2", b"1" * 5000], ids=["no text", "5000 digits"])
    def test_seeds_that_cannot_be_read_name_their_file(self, content: bytes, raw: Path, tmp_path: Path):
        (raw / "seed.txt").write_bytes(content)
        with pytest.raises(DatasetError, match=r"seed\.txt: seed 0 is .*, expected a whole number"):
            convert_robotwin(raw, tmp_path / "set", workers=1)

    def test_a_camera_that_the_first_episode_lacks_is_not_dropped(self, tmp_path: Path):
        raw = write_raw(tmp_path / "lift", range(2))
        with h5py.File(raw / "data/episode0.hdf5", "a") as file:
            del file["observation/head_camera"]
        with pytest.raises(DatasetError, match=r"episode1\.hdf5: the episode has camera 'cam_high', the dataset only"):
            convert_robotwin(raw, tmp_path / "set", workers=1)

    def test_a_first_episode_that_fails_leaves_no_empty_dataset(self, tmp_path: Path):
        raw = write_raw(tmp_path / "lift", range(1))
        with h5py.File(raw / "data/episode0.hdf5", "a") as file:
            values = np.full(file["joint_action/left_arm"].shape, np.nan)  # type: ignore[union-attr]
            del file["joint_action/left_arm"]
            file["joint_action/left_arm"] = values
        with pytest.raises(
            DatasetError, match=r"episode0\.hdf5: state\[0\] of frame 0 is nan; an episode holds finite numbers only$"
        ):
            convert_robotwin(raw, tmp_path / "set", workers=1)
        assert list((tmp_path / "set").rglob("*")) == []
        shutil.rmtree(raw)
        assert convert_robotwin(write_raw(raw, range(1)), tmp_path / "set", workers=1, fps=10) == 1

    @pytest.mark.parametrize("workers", [0, -1])
    def test_no_process_converts_nothing(self, raw: Path, tmp_path: Path, workers: int):
        with pytest.raises(ValueError, match="workers must be at least 1"):
            convert_robotwin(raw, tmp_path / "set", workers=workers)
        assert not (tmp_path / "set").exists()

    def test_a_dataset_that_was_not_converted(self, raw: Path, recorded: Path):
        with pytest.raises(DatasetError, match="was not converted from RoboTwin"):
            convert_robotwin(raw, recorded, workers=1)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    write_raw(tmp_path / "raw", range(1))
    words = ["convert", "robotwin", str(tmp_path / "raw"), "--out", str(tmp_path / "set"), "--workers", "1"]
    monkeypatch.setattr(sys, "argv", ["video2act", *words])
    cli.main()
    assert f"{tmp_path / 'set'}: 1 episodes" in capsys.readouterr().out
