"""The benchmarks measure what they say. How fast a machine is belongs to no ordinary test: timing is asserted in `slow` ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from video2act.config import PolicyConfig
from video2act.policy import Video2Act
from video2act.presets import PRESETS, DataSpec
from video2act.programs import bench
from video2act.programs.bench import bench_kv_reuse, bench_loader, bench_stages, measure

SYSTEM1_STAGES = ("text and images", "keys and values", "one denoising step", "one chunk")
SYSTEM2_STAGES = ("encode", "features", "filter", "former")


@pytest.fixture
def few_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "measure", lambda work, repeats=1, device=None: measure(work, 1, device=device))


@pytest.fixture
def small_preset(monkeypatch: pytest.MonkeyPatch, small_config: PolicyConfig) -> str:
    def small(spec: DataSpec) -> PolicyConfig:
        return replace(
            small_config, state_dim=spec.state_dim, action_dim=spec.action_dim, fps=spec.fps, cameras=spec.cameras
        )

    monkeypatch.setitem(PRESETS, "small", small)
    return "small"


class TestMeasure:
    def test_work_is_done_in_turns_after_a_warm_up_that_does_not_count(self):
        order: list[str] = []
        seconds = measure({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=4)
        assert order == ["a", "b"] * 7
        assert {name: len(values) for name, values in seconds.items()} == {"a": 4, "b": 4}
        assert all((values >= 0).all() for values in seconds.values())


class TestKeysAndValues:
    def test_reuse_equals_computing_them_again(self):
        ratio, difference = bench_kv_reuse(hidden=64, depth=4, text=6, image=20, video=8)
        assert difference <= 1e-6
        assert np.isfinite(ratio)
        assert ratio > 0

    @pytest.mark.slow
    def test_reuse_pays(self):
        """1.8 at the proportions of the released policy: below that, something is computed at every step after all."""
        ratio, difference = bench_kv_reuse(hidden=512, depth=8)
        assert ratio >= 1.8
        # 512 wide sums in another order would still be below this
        assert difference <= 1e-4


@pytest.mark.usefixtures("few_repeats")
class TestStages:
    def test_every_stage_is_timed_and_listed(
        self,
        small_config: PolicyConfig,
        make_policy: Callable[[PolicyConfig], Video2Act],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ):
        make_policy(small_config).save(tmp_path / "run")
        seconds = bench_stages(tmp_path / "run")
        expected = {f"System 2, {stream}: {stage}" for stream in ("spatial", "motion") for stage in SYSTEM2_STAGES}
        expected |= {"System 2: one refresh", *(f"System 1: {stage}" for stage in SYSTEM1_STAGES)}
        assert set(seconds) == expected
        assert all((values > 0).all() for values in seconds.values())
        printed = capsys.readouterr().out
        for stage in expected:
            assert stage in printed

    @pytest.mark.parametrize("preset", ["tiny_system1", "tiny_blind"])
    def test_a_preset_without_system_2_has_only_the_stages_of_system_1(self, preset: str):
        assert set(bench_stages(preset=preset)) == {f"System 1: {stage}" for stage in SYSTEM1_STAGES}


class TestLoader:
    def test_both_rates_are_measured_on_real_batches(self, recorded: Path, small_preset: str):
        loads, trains = bench_loader((recorded,), small_preset, num_batches=2)
        assert loads > 0
        assert trains > 0

    def test_a_preset_without_system_2(self, recorded: Path, small_preset: str, monkeypatch: pytest.MonkeyPatch):
        small = PRESETS[small_preset]
        monkeypatch.setitem(PRESETS, "small_system1", lambda spec: replace(small(spec), system2=None))
        assert min(bench_loader((recorded,), "small_system1", num_batches=2)) > 0

    @pytest.mark.slow
    def test_data_keeps_up_with_training(self, recorded: Path):
        loads, trains = bench_loader((recorded,), num_batches=20)
        assert loads >= 2 * trains
