"""What a finished training prints."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from video2act.config import PolicyConfig
from video2act.data import open_dataset
from video2act.policy import Video2Act
from video2act.training.record import save_runs


def test_the_command_for_the_curves_can_be_pasted_where_the_folder_has_a_space(
    recorded: Path,
    make_policy: Callable[[PolicyConfig], Video2Act],
    small_config: PolicyConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    policy, out = make_policy(small_config), tmp_path / "my push"
    save_runs(policy, dict(policy.state_dict()), out=out, data=open_dataset(recorded))
    words = shlex.split(capsys.readouterr().out.partition("curves: ")[2])
    assert words == ["tensorboard", "--logdir", str(out / "tensorboard")]
