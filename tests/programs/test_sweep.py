"""The two curves of a sweep: which evaluations are run, what is written, and that an interrupted one goes on."""

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluations import evaluation_info, write_info
from video2act.config import RuntimeConfig, SimulatedLatency
from video2act.envs import expand_suites
from video2act.files.run_folder import policy_fingerprint
from video2act.programs import sweep as program
from video2act.programs.sweep import sweep
from video2act.viz.curves import draw_curves

Call = tuple[int | None, SimulatedLatency | None]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What was evaluated; success falls with n and with latency."""
    made: list[Call] = []

    def evaluate(
        run: Path, env: str, *, episodes: int, seed: int, out: Path, runtime: RuntimeConfig, **point: Any
    ) -> None:
        n, latency = point.get("refresh_every"), point.get("simulate_latency")
        assert (point["workers"], point["num_videos"]) == (None, 0)
        size = point["image_size"]
        made.append((n, latency))
        steps = point["refresh_every"] if latency is None else 80 * latency.system2
        successes = max(0, round(episodes - steps / 4))
        settings = {
            "run": str(run),
            "seeds": list(range(seed, seed + episodes)),
            "runtime": asdict(runtime),
            "image_size": size and [size, size],
        }
        won = [scene < successes for scene in range(episodes)]
        info = evaluation_info(dict.fromkeys(expand_suites([env]), won), first=seed, **settings)
        write_info(out, info | {"policy_fingerprint": policy_fingerprint(run)})

    monkeypatch.setattr(program, "evaluate", evaluate)
    return made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").touch()
    return tmp_path


def test_both_curves_are_measured_written_and_drawn(calls: list[Call], run: Path):
    table = sweep(run, "fake:a", refresh_every=(1, 8), latency_ms=(0.0, 100.0), episodes=10)
    assert calls == [(1, None), (8, None), (None, SimulatedLatency()), (None, SimulatedLatency(system2=0.1))]
    rows = list(csv.DictReader(table.open()))
    assert list(rows[0])[:7] == ["curve", "x", "successes", "n_episodes", "success", "wilson_95_low", "wilson_95_high"]
    assert list(rows[0])[7:10] == [f"staleness_steps_{name}" for name in ("p50", "p95", "max")]
    assert list(rows[0])[10:] == ["held_steps", "control_steps"]
    assert [(row["curve"], float(row["x"]), float(row["success"])) for row in rows] == [
        ("refresh_every", 1, 1.0),
        ("refresh_every", 8, 0.8),
        ("system2_latency_ms", 0, 1.0),
        ("system2_latency_ms", 100, 0.8),
    ]
    picture = Image.open(table.with_suffix(".png"))
    assert picture.size == (1280, 420)
    assert len(np.unique(np.asarray(picture))) > 5, "the picture is empty"


def test_all_points_show_images_of_one_size(calls: list[Call], run: Path):
    """Points that an older version measured at 128 px stood beside those of the recorded size."""
    given = {"latency_ms": (), "episodes": 10}
    sweep(run, "fake:a", refresh_every=(1,), **given)
    with pytest.raises(ValueError, match=r"refresh_every_1 holds an evaluation with image_size = None, not \[64, 64\]"):
        sweep(run, "fake:a", refresh_every=(1,), image_size=64, **given)
    sweep(run, "fake:a", refresh_every=(1,), image_size=64, out=run / "other", **given)
    info = run / "sweep/refresh_every_1/eval_info.json"
    info.write_text(info.read_text().replace('"image_size": null', '"image_size": [64, 64]'))
    with pytest.raises(ValueError, match=r"refresh_every_2 holds an evaluation with image_size = None, not \[64, 64\]"):
        sweep(run, "fake:a", refresh_every=(1, 2), **given)


def test_what_is_done_is_not_repeated_and_what_is_something_else_is_refused(calls: list[Call], run: Path):
    sweep(run, "fake:a", refresh_every=(1,), latency_ms=(), episodes=10)
    sweep(run, "fake:a", refresh_every=(1, 2), latency_ms=(), episodes=10)
    assert calls == [(1, None), (2, None)]
    with pytest.raises(ValueError, match=r"refresh_every_1 holds an evaluation with seeds"):
        sweep(run, "fake:a", refresh_every=(1,), latency_ms=(), episodes=5)
    with pytest.raises(ValueError, match=r"refresh_every_1 holds an evaluation with runtime"):
        sweep(
            run,
            "fake:a",
            refresh_every=(1,),
            latency_ms=(),
            episodes=10,
            runtime=RuntimeConfig(overlap="temporal_ensemble"),
        )
    info = run / "sweep/refresh_every_1/eval_info.json"
    for name, value in (("blind", True), ("instruction", "wave"), ("visual_shift", "light")):
        read = json.loads(before := info.read_text())
        read["settings"][name] = value
        info.write_text(json.dumps(read))
        with pytest.raises(ValueError, match=rf"refresh_every_1 holds an evaluation with {name} = {value}, not"):
            sweep(run, "fake:a", refresh_every=(1,), latency_ms=(), episodes=10)
        info.write_text(before)
    (run / "model.safetensors").write_text("trained anew")
    with pytest.raises(ValueError, match=r"refresh_every_1 evaluated another policy than .* has now; remove it"):
        sweep(run, "fake:a", refresh_every=(1,), latency_ms=(), episodes=10)


def test_a_run_may_be_spelt_otherwise(calls: list[Call], run: Path, monkeypatch: pytest.MonkeyPatch):
    """Its own results were refused where the path of the run was relative, and then absolute."""
    given = {"refresh_every": (1,), "latency_ms": (), "episodes": 10}
    monkeypatch.chdir(run.parent)
    sweep(run.name, "fake:a", **given)
    for spelt in (run, f"{run}/", f"./{run.name}"):
        sweep(spelt, "fake:a", **given)
    assert len(calls) == 1
    info = run / "sweep/refresh_every_1/eval_info.json"  # of an older version, which wrote no fingerprint
    info.write_text(info.read_text().replace('"policy_fingerprint"', '"other"'))
    sweep(run, "fake:a", **given)
    info.write_text(info.read_text().replace(f'"run": "{run.name}"', '"run": "another"'))
    with pytest.raises(ValueError, match=r"refresh_every_1 evaluated another policy than"):
        sweep(run, "fake:a", **given)


def test_a_suite_is_swept(calls: list[Call], run: Path):
    """Its results are those of its tasks, and were refused as of another environment than the suite's name."""
    sweep(run, "libero:libero_object", refresh_every=(1,), latency_ms=(), episodes=10)
    sweep(run, "libero:libero_object", refresh_every=(1,), latency_ms=(), episodes=10)
    assert len(calls) == 1


@pytest.mark.parametrize(("n", "ms"), [((4, 0), ()), ((1,), (0.0, -1.0)), ((1,), (float("inf"),))])
def test_all_values_are_looked_at_before_the_first_evaluation(calls: list[Call], run: Path, n, ms):
    with pytest.raises(
        ValueError, match=r"at least 1, got \[4, 0\]|latency_ms must not be negative, got|latency_ms must be finite"
    ):
        sweep(run, "fake:a", refresh_every=n, latency_ms=ms)
    assert not calls


def test_a_sweep_of_nothing_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="both are empty"):
        sweep(tmp_path, "fake:a", refresh_every=(), latency_ms=())
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_curves(tmp_path / "a.png", [], y_title="success")
