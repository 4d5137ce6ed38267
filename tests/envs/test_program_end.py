"""A program that ends without closing its environment."""

import subprocess
import sys

import pytest

pytest.importorskip("metaworld")

PROGRAM = """
import weakref
class Early: pass
early = Early()
weakref.finalize(early, print, "its own hook runs late")  # as other libraries do
import video2act as v2a
environment = v2a.make_environment("metaworld:push-v3")
print(environment.reset(seed=0).images["corner4"].shape)
"""


def test_it_ends_without_a_traceback():
    """MuJoCo ended EGL first, and freeing the renderer then failed: 53 lines after README's program."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True)
    assert "(128, 128, 3)" in ended.stdout
    assert "Error" not in ended.stderr
