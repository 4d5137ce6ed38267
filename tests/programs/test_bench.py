"""Every stage is timed. No ordinary test asserts how fast a machine is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from video2act.config import PolicyConfig
from video2act.config.data_options import BenchOptions
from video2act.policy import Video2Act
from video2act.programs import bench as program
from video2act.programs.bench import Timing, bench, measure, stages
from video2act.types import Video

SYSTEM1_STAGES = (
    "a new instruction",
    "images",
    "keys and values",
    "one denoising step",
    "one chunk of a new instruction",
    "one chunk",
)
SYSTEM2_STAGES = (
    *(f"System 2, {stream}: encode" for stream in ("spatial", "motion")),
    *(f"System 2: {stage}" for stage in ("features", "filters", "formers")),
)


@pytest.fixture
def no_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where they are not installed: an export takes seconds."""
    found = program.find_spec
    monkeypatch.setattr(program, "find_spec", lambda name: None if name in program.ENGINES else found(name))


def names(rows: list[Timing]) -> set[str]:
    return {row.name for row in rows}


def test_work_is_done_in_turns_after_a_warm_up_that_does_not_count():
    order: list[str] = []
    seconds = measure({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=4)
    assert order == ["a", "b"] * 7
    assert {name: len(values) for name, values in seconds.items()} == {"a": 4, "b": 4}
    assert all((values >= 0).all() for values in seconds.values())


def test_a_ratio_of_other_results_is_not_given():
    twice = {"seconds": np.array([1.0]), "than": np.array([2.0])}
    assert Timing("work", **twice, difference=1e-6).times_faster == 2
    assert Timing("work", **twice, difference=1e-3).times_faster is None


@pytest.mark.usefixtures("no_engines")
class TestBench:
    def test_every_stage_is_timed_listed_and_written(
        self,
        small_config: PolicyConfig,
        make_policy: Callable[[PolicyConfig], Video2Act],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ):
        make_policy(small_config).save(tmp_path / "run")
        tables = bench(BenchOptions(run=tmp_path / "run", repeats=1, out=tmp_path / "out"))
        stages, training = tables.values()
        expected = {*SYSTEM2_STAGES}
        expected |= {"System 2: one refresh", *(f"System 1: {stage}" for stage in SYSTEM1_STAGES)}
        assert names(stages) == expected
        assert [row.name.rpartition(": ")[2] for row in training] == ["loss", "one step"]
        assert all((row.seconds > 0).all() for row in (*stages, *training))
        printed, written = capsys.readouterr().out, (tmp_path / "out/bench.md").read_text()
        for stage in expected:
            assert stage in printed
            assert f"| {stage} |" in written
        note = "Engines that are not installed: onnxruntime, openvino (pip install 'video2act[engine]')"
        assert note in printed
        numbers = json.loads((tmp_path / "out/bench.json").read_text())
        assert len(numbers["tables"]["Training"]) == 2
        assert numbers["notes"] == [note]

    @pytest.mark.parametrize(
        "changes",
        [
            {"system2.streams.motion.imagine.num_frames": 4},
            {"system2.filter_on": "latents"},
            {"system2.backbone.feature_layers": (0, 1), "system2.backbone.feature_join": "mixture"},
        ],
        ids=["imagined frames", "filters on latents", "a mixture of layers"],
    )
    def test_the_stages_are_those_of_a_refresh(
        self,
        small_config: PolicyConfig,
        make_policy: Callable[[PolicyConfig], Video2Act],
        changes: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
    ):
        """Other work was timed than a refresh does: no imagined frames, and the filter in the wrong place."""
        policy = make_policy(small_config.replace(changes)).eval()
        order: list[str] = []
        assert policy.system2 is not None
        for part in (policy.system2.backbone, *policy.system2.formers.values(), *policy.system2.mixtures.values()):
            for word in ("encode", "features", "forward"):
                if callable(run := getattr(part, word, None)):

                    def noted(*given: Any, run: Any = run, word: str = word, **named: Any) -> Any:
                        shapes = [tuple(v.grid.shape) for v in given if isinstance(v, Video)]
                        order.append(f"{word} {shapes}")
                        return run(*given, **named)

                    monkeypatch.setattr(part, word, noted)
        with torch.no_grad():
            work = stages._work(policy, "cpu")
            order.clear()
            work["System 2: one refresh"]()
            refresh = sorted(order)
            order.clear()
            for name, run in work.items():
                if name.startswith("System 2") and name != "System 2: one refresh":
                    run()
        assert sorted(order) == refresh
        assert len(refresh) > 3

    @pytest.mark.parametrize("preset", ["tiny_system1", "tiny_blind"])
    def test_a_preset_without_system_2_has_only_the_stages_of_system_1(self, preset: str):
        stages = set(SYSTEM1_STAGES) - ({"images"} if preset == "tiny_blind" else set())
        found, _ = bench(BenchOptions(preset=preset, repeats=1)).values()
        assert names(found) == {f"System 1: {stage}" for stage in stages}

    def test_the_released_code_needs_its_checkout_and_our_distribution(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        with pytest.raises(FileNotFoundError, match=r"is no checkout of the released code.*action_core/model\.py"):
            bench(BenchOptions(official=tmp_path))
        monkeypatch.setattr(program, "find_spec", lambda name: None)
        with pytest.raises(ImportError, match="official needs video2act_released: pip install -e video2act_released"):
            bench(BenchOptions(official=tmp_path))


def test_engines_are_timed_beside_pytorch(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(program, "ENGINES", ("onnxruntime",))
    rows = bench(BenchOptions(preset="tiny_system1", repeats=1))["Engines, one thread each"]
    ours, theirs = rows
    assert (ours.name, theirs.name) == ("PyTorch: one plan", "onnxruntime: one plan")
    assert ours.times_faster is None
    assert theirs.times_faster is not None
    assert theirs.difference is not None
    assert theirs.difference <= 1e-4
