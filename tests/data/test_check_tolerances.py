"""`info --check` lists faults, not the rounding of other programs; and sentences that no encoder takes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from recordings import make_episode, write_dataset

from video2act.config import VideoTrainConfig
from video2act.data import DatasetError, LeRobotDataset
from video2act.data.check import check_dataset
from video2act.data.fit import check_fit
from video2act.data.sentences import check_sentences
from video2act.presets import make_preset
from video2act.programs.train_video import train_video
from video2act.text.instruction import MAX_BYTES

LONG = "push the red puck " * 100


def constant(number, value, length=40):
    episode = make_episode(number, length)
    state = np.full((length, 3), np.float32(value))
    state[:, 0] = np.linspace(0, 1, length)
    return replace(episode, state=state.astype(np.float32))


def tell(root, **values):
    path = root / "meta/stats.json"
    stats = json.loads(path.read_text())
    for name, value in values.items():
        stats["observation.state"][name][1:] = [value] * 2
    path.write_text(json.dumps(stats))


@pytest.mark.parametrize("value", [0.3, 1.5694, -1570.8, 1e-4])
def test_a_constant_column_in_float32_is_sound(tmp_path, value):
    root = write_dataset(tmp_path / "set", [constant(i, value) for i in range(3)])
    rows = np.full(120, np.float32(value))
    mean = np.cumsum(rows)[-1] / np.float32(120)  # one by one, in float32
    by_squares = np.sqrt(max(0.0, float(np.mean(rows**2) - mean**2)))
    for std in (0.0, float(abs(rows - mean).max()), by_squares, 3e-4 * abs(value)):
        tell(root, mean=float(mean), std=std)
        assert check_dataset(root) == []


@pytest.mark.parametrize(("name", "share"), [("std", 0.05), ("mean", 0.98), ("min", 0.99), ("max", 1.01)])
def test_statistics_of_other_data_are_found_and_printed_shortly(tmp_path, name, share):
    root = write_dataset(tmp_path / "set", [constant(i, 1.5694) for i in range(3)])
    tell(root, **{name: 1.5694 * share})
    (fault,) = check_dataset(root)
    expected = "0" if name == "std" else "1.569"
    assert f"{name} of observation.state[1] is {1.5694 * share:.4g}, the data has {expected}; 1 more differ" in fault


class TestSentences:
    @pytest.fixture(scope="class")
    @staticmethod
    def root(tmp_path_factory):
        episodes = [make_episode(i, instruction=LONG if i == 2 else "push") for i in range(4)]
        return write_dataset(tmp_path_factory.mktemp("long") / "set", episodes)

    def test_a_sentence_that_is_too_long_is_found_with_its_episode(self, root):
        (fault,) = check_dataset(root)
        assert f"episode 2: the instruction has {len(LONG)} bytes, the encoder takes {MAX_BYTES}: 'push the" in fault

    def test_before_any_training(self, root, tmp_path):
        data = LeRobotDataset(root)
        with pytest.raises(DatasetError, match=f"episode 2: the instruction has {len(LONG)} bytes"):
            check_fit(make_preset("tiny_system1", data), data)
        with pytest.raises(DatasetError, match=f"episode 2: the instruction has {len(LONG)} bytes"):
            train_video(data, out=tmp_path / "video", training=VideoTrainConfig(num_steps=1))
        assert not (tmp_path / "video").exists()

    def test_an_empty_sentence_is_refused_by_every_encoder(self, tmp_path):
        root = write_dataset(tmp_path / "set", [make_episode(0), make_episode(1, instruction="  x")])
        data = LeRobotDataset(root)
        for nothing in ("  ", "\u200b\ufeff"):
            data._instructions[1] = (nothing,) * 7
            for limit in (MAX_BYTES, None):
                with pytest.raises(DatasetError, match="episode 1: the instruction is empty"):
                    check_sentences([data], limit)

    def test_one_that_is_drawn_from_counts_too(self, tmp_path):
        root = write_dataset(tmp_path / "set", [replace(make_episode(0), seen=("push", LONG))])
        with pytest.raises(DatasetError, match=f"episode 0: the instruction has {len(LONG)} bytes"):
            check_sentences([LeRobotDataset(root)], MAX_BYTES)
        assert any("episode 0: the instruction has" in fault for fault in check_dataset(root))
