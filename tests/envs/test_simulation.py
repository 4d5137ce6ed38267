"""A renderer that does not work ends in one line that says what to do."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
from video2act.envs import make_environment
from video2act.envs.simulation import RendererError
try:
    make_environment("aloha:insertion", image_size=16).reset(0)
except RendererError as error:
    print("said:", error)
"""


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"MUJOCO_GL": "bogus"}, "invalid value for environment variable MUJOCO_GL"),
        ({"MUJOCO_GL": "egl", "MUJOCO_EGL_DEVICE_ID": "99"}, "MUJOCO_GL=egl"),
    ],
)
def test_a_missing_or_wrong_egl_is_one_clear_line(variables, reason):
    pytest.importorskip("gym_aloha")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=os.environ | variables, check=False
    )
    (line,) = (done.stdout + done.stderr).splitlines()
    assert line.startswith(f"said: MuJoCo cannot render with MUJOCO_GL={variables['MUJOCO_GL']}")
    assert reason in line
    assert "apt install libegl1" in line
