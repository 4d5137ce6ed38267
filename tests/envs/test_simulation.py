"""A renderer that does not work ends in one line that says what to do."""

import os
import subprocess
import sys
from contextlib import nullcontext
from functools import cache

import numpy as np
import pytest

from video2act.envs import make_environment
from video2act.envs.simulation import Cameras

SIMULATORS = ("mujoco", "metaworld", "gymnasium", "gym_aloha")

PROGRAM = f"""
import sys
from video2act.envs import make_environment
print("imported:", [module for module in {SIMULATORS} if module in sys.modules])
from video2act.envs.simulation import RendererError
try:
    make_environment("aloha:insertion", image_size=16).reset(0)
except RendererError as error:
    print("said:", error)
"""


@cache
def run(**variables: str) -> tuple[str, str]:
    """The two lines that the program prints, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=os.environ | variables, check=False
    )
    imported, answer = (done.stdout + done.stderr).splitlines()
    return imported, answer


def test_importing_the_package_imports_no_simulator() -> None:
    pytest.importorskip("gym_aloha")
    assert run(MUJOCO_GL="bogus")[0] == "imported: []"


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"MUJOCO_GL": "bogus"}, "invalid value for environment variable MUJOCO_GL"),
        ({"MUJOCO_GL": "egl", "MUJOCO_EGL_DEVICE_ID": "99"}, "MUJOCO_GL=egl"),
    ],
)
def test_a_missing_or_wrong_egl_is_one_clear_line(variables: dict[str, str], reason: str) -> None:
    pytest.importorskip("gym_aloha")
    line = run(**variables)[1]
    assert line.startswith(f"said: MuJoCo cannot render with MUJOCO_GL={variables['MUJOCO_GL']}")
    assert reason in line
    assert "apt install libegl1" in line


@pytest.mark.parametrize("size", [(120, 160), (480, 640), (128, 512), (160, 120), (128, 128)])
@pytest.mark.parametrize(
    ("env", "cameras"),
    [
        ("metaworld:push-v3", ("corner4", "gripperPOV", "topview")),
        ("aloha:insertion", ("top", "angle", "left_wrist")),
        ("moving:push", None),
    ],
)
def test_pictures_of_any_shape_show_all_of_the_scene(
    env: str, cameras: tuple[str, ...] | None, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wide pictures lacked parts of the scene: things left and right of a square view were not drawn."""
    pytest.importorskip("gym_aloha" if env.startswith("aloha") else "metaworld")
    environment = make_environment(env, cameras, image_size=size)
    ours = environment.reset(3).images
    monkeypatch.setattr(Cameras, "_only_in_view", lambda self, data, camera: nullcontext(camera))
    whole = environment.reset(3).images
    environment.close()
    for camera, image in ours.items():
        assert image.shape == (*size, 3)
        np.testing.assert_array_equal(image, whole[camera], err_msg=f"{camera} lacks parts of the scene")
