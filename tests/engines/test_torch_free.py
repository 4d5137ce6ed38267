"""A robot needs numpy and an engine: no torch, no diffusers, nothing else that is heavy."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BLOCKED = (
    *("torch", "diffusers", "transformers", "accelerate", "safetensors", "huggingface_hub", "einops", "scipy"),
    *("av", "pyarrow", "tensorboard", "pandas", "matplotlib", "onnx", "openvino", "sentencepiece"),
)

BLOCK = """
import sys, time
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
"""

DRIVE = """
started = time.perf_counter()
import numpy as np
from video2act import Observation, Runner
with Runner(FOLDER, engine="onnxruntime", system2="thread", max_staleness_s=5.0) as runner:
    runner.reset()
    for step in range(6):
        # another size and shape than the networks', so that frames are resized
        images = {camera: np.full((50, 70, 3), 40 * step, np.uint8) for camera in ("front", "wrist")}
        action = runner.step(Observation(images, np.ones(3, np.float32), "push the block", step / 20))
        if step == 0:
            first_s = time.perf_counter() - started
assert np.isfinite(action).all()
parts = {name.partition(".")[0] for name in sys.modules if not name.startswith("_")}
third = sorted(parts - set(sys.stdlib_module_names))
import json
print(json.dumps({"loaded": third, "first_s": first_s}))
"""


def drive(python: str, folder: Path, blocked: tuple[str, ...], *, path: str | None) -> dict[str, object]:
    """What a process has loaded that drives a robot, and the seconds to its first action."""
    return json.loads(run(python, DRIVE.replace("FOLDER", repr(str(folder))), blocked, path=path).splitlines()[-1])


def run(python: str, code: str, blocked: tuple[str, ...], *, path: str | None) -> str:
    """What code prints in a process where modules are blocked."""
    whole, environment = BLOCK.replace("BLOCKED", repr(blocked)) + code, {"PYTHONPATH": path} if path else {}
    done = subprocess.run([python, "-c", whole], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_runner_with_an_engine_imports_no_torch(onnx_folder: Path):
    found = drive(sys.executable, onnx_folder, BLOCKED, path=str(ROOT / "src"))
    light = {"numpy", "PIL", "yaml", "jaxtyping", "video2act", "onnxruntime", "wadler_lindig", "cython_runtime"}
    # what onnxruntime brings along
    loaded = set(found["loaded"])  # type: ignore[arg-type]
    assert loaded - light <= {"flatbuffers", "google", "packaging", "coloredlogs", "humanfriendly", "ml_dtypes"}


def test_neither_a_server_nor_a_client_of_system2_imports_torch():
    code = "import video2act.programs.serve, video2act.serving.client, video2act.cli"
    run(sys.executable, code, BLOCKED, path=str(ROOT / "src"))


@pytest.mark.slow
def test_in_an_environment_of_its_own(onnx_folder: Path, tmp_path: Path):
    """`pip install video2act_runtime[onnxruntime]` is enough. Prints size and start time: run with -s."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*install, f"{ROOT / 'video2act_runtime'}[onnxruntime]"], check=True)
    packages = next((tmp_path / "env" / "lib").glob("python3*/site-packages"))
    assert not (packages / "torch").exists()
    size = sum(file.stat().st_size for file in packages.rglob("*") if file.is_file())
    pip = sum(file.stat().st_size for folder in packages.glob("pip*") for file in folder.rglob("*") if file.is_file())
    found = [drive(str(python), onnx_folder, (), path=None) for _ in range(2)][-1]
    print(f"{(size - pip) / 1e6:.0f} MB installed; first action after {found['first_s']:.2f} s; {found['loaded']}")
    assert size - pip < 300e6


def test_openvino_tells_nobody_that_it_is_used():
    """At its import it sent an event to its makers, from a process forked beside a robot's threads. That crashed."""
    code = """
import threading
from video2act.engines.session import check_installed
check_installed("openvino")
from openvino.tools.ovc import telemetry_utils
print(telemetry_utils.tm.__name__, threading.active_count())
"""
    assert run(sys.executable, code, (), path=str(ROOT / "src")).split() == ["openvino.tools.ovc.telemetry_stub", "1"]
