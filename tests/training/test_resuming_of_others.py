"""A training does not overwrite what another program wrote, and goes on where folders were named otherwise."""

from pathlib import Path

import pytest

from video2act.config import PretrainedBackboneConfig
from video2act.files.run_folder import TRAINING_FILE
from video2act.training.identity import backbone_identity
from video2act.training.resuming import OF_OTHERS, check_out


@pytest.mark.parametrize("name", OF_OTHERS)
def test_a_folder_that_holds_the_work_of_another_program_is_not_trained_into(name: str, tmp_path: Path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    for resume in (False, True):
        with pytest.raises(FileExistsError, match=r"holds .*; choose another folder for a training"):
            check_out(tmp_path, resume=resume)


def test_a_training_that_took_no_step_yet_may_begin_again(tmp_path: Path):
    (tmp_path / TRAINING_FILE).write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    check_out(tmp_path, resume=False)


def test_a_text_cache_that_the_training_made_is_the_one_it_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A relative one that was not there at the start was another one when it was: the training could not be resumed."""
    monkeypatch.chdir(tmp_path)
    config = PretrainedBackboneConfig("wan21", "models/wan", (1,), text_cache="text")
    at_the_start = backbone_identity(config)
    (tmp_path / "text").mkdir()
    assert backbone_identity(config) == at_the_start
