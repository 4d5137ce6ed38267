"""A training does not overwrite what another program wrote."""

from pathlib import Path

import pytest

from video2act.files.run_folder import TRAINING_FILE
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
