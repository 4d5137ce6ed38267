"""The benchmarks in miniature: the same path with narrow networks. Only `slow` tests assert how fast a machine is."""

import importlib.util
import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from video2act.config import PolicyConfig, TrainConfig
from video2act.data import DatasetWriter, Episode
from video2act.presets import PRESETS, DataSpec

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

FOLDER = Path(__file__).parents[1] / "benchmarks"


def benchmark(name: str) -> dict[str, Any]:
    """What a benchmark defines. As a module, because options are explained from its source."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_it_explains_itself(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    if path.stem == "clip_reads":
        pytest.skip("runs beside the real lerobot, in an environment of make test-interop")
    monkeypatch.setattr(sys, "argv", [path.name, "--help"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(path), run_name="__main__")
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: ")
    assert f"{path.name} [-h]" in shown


@pytest.mark.slow
def test_the_two_loops_in_time(tmp_path: Path):
    program = benchmark("async_runtime")
    program["main"](program["Settings"](tmp_path, segment_s=3.0, rounds=1))
    found = json.loads((tmp_path / "async_runtime.json").read_text())
    assert set(found) == {name + how for name in ("process", "thread") for how in ("", ", slow", ", hung")} | {"off"}
    assert found["off"]["period_p99_ratio"] == 1
    assert found["process, hung"]["incidents"] > 0


@pytest.mark.slow
def test_the_middle_size_from_videos_to_success(tmp_path: Path):
    program = benchmark("small_video_model")
    settings = program["Settings"](tmp_path, shrunken=True, minutes=1e-9)
    assert not program["main"](settings)  # no time: nothing is done
    assert program["main"](replace(settings, minutes=60.0))
    report = (tmp_path / "report.md").read_text()
    assert "over copying" in report
    assert report.count("/1 |") == 3  # three policies, one episode each
    assert (tmp_path / "video_model" / "prediction.mp4").is_file()
    # finished stages are not repeated
    assert program["main"](replace(settings, minutes=1e-9))


@pytest.mark.slow
def test_full_size(tmp_path: Path):
    program = benchmark("full_size")
    found = program["main"](program["Settings"](tmp_path, shrunken=True, repetitions=1))
    assert 0 < found.system2_error < 0.05
    assert 0 < found.system1_error < 0.1
    assert found.is_within
    assert (tmp_path / "full_size.json").is_file()


def test_a_refresh_of_an_encoder_that_goes_on_costs_the_same_in_a_long_episode():
    """601 frames were rebuilt at every refresh."""
    program = benchmark("streaming_cost")
    config = program["tiny"](program["DataSpec"](1, 1, 20.0, ("top",)))
    config = config.replace({"system2.streams.motion.encoding": "stream"})
    (_, few, small), (_, many, large) = (program["measure"](config, length, size_px=64) for length in (40, 160))
    assert few == many == 4
    assert small == large > 0


class TestKeysAndValues:
    def test_reuse_equals_computing_them_again(self):
        ratio, difference = benchmark("kv_reuse")["main"](hidden=64, depth=4, text=6, image=20, video=8)
        assert difference <= 1e-6
        assert np.isfinite(ratio)
        assert ratio > 0

    @pytest.mark.slow
    def test_reuse_pays(self):
        """1.8 at the proportions of the released policy: below that, something is computed at every step after all."""
        ratio, difference = benchmark("kv_reuse")["main"](hidden=512, depth=8)
        assert ratio >= 1.8
        # sums over 512 channels in another order stay below this
        assert difference <= 1e-4


def test_a_growing_dataset(tmp_path: Path):
    program = benchmark("growth")
    options = program["GrowthOptions"](episodes=(2, 5), frames=9, image_px=64, batch_size=2, num_batches=2)
    found = program["main"](options)
    assert list(found) == [2, 5]
    assert all(value > 0 for row in found.values() for value in row.values())


class TestLoader:
    @pytest.mark.parametrize("has_system2", [True, False])
    def test_both_rates_are_measured_on_real_batches(
        self, recorded: Path, small_config: PolicyConfig, monkeypatch: pytest.MonkeyPatch, has_system2: bool
    ):
        def small(spec: DataSpec) -> PolicyConfig:
            config = small_config if has_system2 else replace(small_config, system2=None)
            return replace(
                config, state_dim=spec.state_dim, action_dim=spec.action_dim, fps=spec.fps, cameras=spec.cameras
            )

        monkeypatch.setitem(PRESETS, "small", small)
        module = benchmark("loader")
        options = module["LoaderOptions"](data=(recorded,), preset="small", num_batches=2)
        assert min(module["main"](options).values()) > 0

    def test_it_takes_what_train_takes(self, tmp_path: Path):
        frames = {"top": np.zeros((5, 96, 128, 3), np.uint8)}
        table = np.zeros((5, 3), np.float32)
        with DatasetWriter.create(
            tmp_path / "set",
            fps=10.0,
            robot="arm",
            cameras=("top",),
            image_size=(96, 128),
            state_names=("x", "y", "z"),
            action_names=("x", "y", "z"),
        ) as writer:
            for _ in range(2):
                writer.add_episode(Episode(frames, table, table, "push"))
        module = benchmark("loader")
        options = module["LoaderOptions"](
            data=(tmp_path / "set",),
            preset="rdt_1b",
            episodes="0:1",
            action=("observation.state",),
            training=TrainConfig(batch_size=2),
            num_batches=1,
            loader_only=True,
        )
        assert module["main"](options)["load"] > 0

    @pytest.mark.slow
    def test_data_keeps_up_with_training(self, recorded: Path):
        module = benchmark("loader")
        rates = module["main"](module["LoaderOptions"](data=(recorded,), num_batches=20))
        assert rates["load"] >= 2 * rates["train"]
