"""Every stage is timed. No ordinary test asserts how fast a machine is."""

from collections.abc import Callable
from pathlib import Path

import pytest

from video2act.config import PolicyConfig
from video2act.policy import Video2Act
from video2act.programs import bench
from video2act.programs.bench import bench_stages, measure

SYSTEM1_STAGES = (
    "a new instruction",
    "images",
    "keys and values",
    "one denoising step",
    "one chunk of a new instruction",
    "one chunk",
)
SYSTEM2_STAGES = ("encode", "features", "filter", "former")


@pytest.fixture
def few_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "WARM_UPS", 0)
    monkeypatch.setattr(bench, "measure", lambda work, repeats=1, device=None: measure(work, 1, device=device))


class TestMeasure:
    def test_work_is_done_in_turns_after_a_warm_up_that_does_not_count(self):
        order: list[str] = []
        seconds = measure({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=4)
        assert order == ["a", "b"] * 7
        assert {name: len(values) for name, values in seconds.items()} == {"a": 4, "b": 4}
        assert all((values >= 0).all() for values in seconds.values())


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
        stages = set(SYSTEM1_STAGES) - ({"images"} if preset == "tiny_blind" else set())
        assert set(bench_stages(preset=preset)) == {f"System 1: {stage}" for stage in stages}
