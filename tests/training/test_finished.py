"""The same command with --resume can always be given again: where nothing is left to do, it says so and succeeds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from video2act.config import PolicyConfig, TrainConfig
from video2act.files.run_folder import TRAINING_FILE, load_config
from video2act.programs import info
from video2act.training.resuming import FINISHED, check_folder, is_done, policy_settings, settings_of, write_settings


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    settings = settings_of(TrainConfig(num_steps=5), {"data": "a" * 64, "mixed_precision": "bf16"})
    write_settings(tmp_path, {**settings, FINISHED: True})
    return tmp_path


def test_a_finished_training_with_the_same_options_is_done(finished: Path):
    assert is_done(finished, TrainConfig(num_steps=5, save_every=7), {"data": "a" * 64})
    assert not is_done(finished / "elsewhere", TrainConfig(num_steps=5), {})


def test_a_finished_training_with_other_options_is_not(finished: Path):
    with pytest.raises(FileExistsError, match=r"with other options .num_steps: 5 then, 9 now.; choose another folder"):
        is_done(finished, TrainConfig(num_steps=9), {})


def test_a_finished_training_on_other_data_or_of_another_policy_is_not(finished: Path, small_config: PolicyConfig):
    """--resume took it for this one, and said that nothing was left to do."""
    with pytest.raises(FileExistsError, match=r"with other options .data: other episodes, columns or files.; choose"):
        is_done(finished, TrainConfig(num_steps=5), {"data": "b" * 64})
    policy = policy_settings(small_config)
    settings = settings_of(TrainConfig(num_steps=5), {"policy": policy | {"preset": "small"}})
    write_settings(finished, {**settings, FINISHED: True})
    assert is_done(finished, TrainConfig(num_steps=5), {"policy": policy})
    other = policy_settings(replace(small_config, execute_steps=small_config.execute_steps - 1))
    with pytest.raises(FileExistsError, match=r"with other options .policy.execute_steps: . then, . now."):
        is_done(finished, TrainConfig(num_steps=5), {"policy": other})


def test_an_unfinished_training_is_not_done(finished: Path):
    settings = json.loads((finished / TRAINING_FILE).read_text())
    write_settings(finished, settings | {FINISHED: False})
    assert not is_done(finished, TrainConfig(num_steps=5), {})


def test_other_data_are_named_and_not_by_their_fingerprints(tmp_path: Path):
    write_settings(tmp_path, settings_of(TrainConfig(num_steps=5), {"data": "a" * 64}))
    (tmp_path / "metrics.jsonl").write_text("{}")
    now = settings_of(TrainConfig(num_steps=5), {"data": "b" * 64})
    with pytest.raises(ValueError, match=r"other settings .data: other episodes, columns or files."):
        check_folder(tmp_path, now, defaults=TrainConfig(), resume=True)


def test_a_dataset_in_place_of_a_run_is_named_as_one(tmp_path: Path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="is a dataset, and a policy's run folder is wanted"):
        load_config(tmp_path)


def test_a_folder_whose_training_goes_on_is_known_as_such(tmp_path: Path):
    """`info` took it for a damaged dataset, and `eval` missed a config.json."""
    write_settings(tmp_path, settings_of(TrainConfig(num_steps=5), {}))
    for read in (load_config, info.describe):
        with pytest.raises(FileNotFoundError, match="holds a training that has not finished, and no policy yet"):
            read(tmp_path)
