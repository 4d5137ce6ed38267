"""Evaluating a fake policy in a fake world: shares, seeds, controls and the file that is written.

The fakes are module-level, so that worker processes can import them; they see no fixtures.
"""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from video2act.config import (
    BackboneConfig,
    FilterConfig,
    FormerConfig,
    PolicyConfig,
    RuntimeConfig,
    SimulatedLatency,
    StreamConfig,
    System1Config,
    System2Config,
)
from video2act.evaluation.findings import percentiles, wilson_interval
from video2act.evaluation.report import heading
from video2act.evaluation.suitability import check_fits, check_unseen
from video2act.interfaces import EnvironmentSpec
from video2act.programs.evaluate import Settings, Sources, run_evaluation
from video2act.types import ActionChunk, Observation, Step, Tokens, Video, VideoCondition

FPS = 50.0
STREAM = StreamConfig(
    "motion", "top", num_frames=1, stride=1, size_px=8, filter=FilterConfig("sobel"), former=FormerConfig()
)
CONFIG = PolicyConfig(
    state_dim=1,
    action_dim=1,
    fps=FPS,
    cameras=("top",),
    image_px=8,
    horizon=4,
    execute_steps=2,
    system1=System1Config(),
    system2=System2Config(BackboneConfig(), (STREAM,), token_dim=128),
    refresh_every=4,
)


class World:
    """A goal, shown as brightness; success is to say a number near it at the last step."""

    def __init__(self, name: str, cameras: tuple[str, ...], fps: float = FPS):
        self.spec = EnvironmentSpec(name, "fake", "say it", cameras, 8, ("count",), ("number",), fps, max_steps=6)
        self.goal = 0
        self.seed = -1
        self.steps = 0

    def observe(self) -> Observation:
        frame = np.full((8, 8, 3), self.goal, np.uint8)
        state = np.array([self.steps], np.float32)
        return Observation(dict.fromkeys(self.spec.cameras, frame), state, self.spec.instruction, self.steps / FPS)

    def reset(self, seed: int) -> Observation:
        self.seed, self.steps = seed, 0
        self.goal = int(np.random.default_rng(seed).integers(20, 250))
        return self.observe()

    def step(self, action: np.ndarray) -> Step:
        self.steps += 1
        done = self.steps == self.spec.max_steps
        return Step(self.observe(), done, done and abs(float(action[0]) - self.goal) < 2)

    def close(self) -> None: ...


@dataclass
class Oracle:
    """Knows the goal, except in scenes that nobody can solve."""

    world: World

    def reset(self) -> None: ...

    def act(self) -> np.ndarray:
        return np.array([float(self.world.goal if self.world.seed % 5 else -1)])


@dataclass
class Reader:
    """Says the brightness System 2 saw, with noise large enough to fail at times."""

    config: PolicyConfig = CONFIG
    is_blind: bool = False
    noise: float = 1.5

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng()

    def seed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def blinded(self) -> "Reader":
        return replace(self, is_blind=True)

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        if not clips:
            return Tokens.empty(1, 1, like=torch.zeros(1))
        brightness = (clips["motion"].grid.mean() + 1) * 127.5
        return Tokens.all_visible(brightness.reshape(1, 1, 1))

    def explain(self, clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
        return clips

    def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
        seen = condition.tokens.data.mean().item() if condition.tokens.data.numel() else 0.0
        sign = 1 if observation.instruction == "say it" else -1
        actions = sign * (0.0 if self.is_blind else seen) + self.noise * self.rng.standard_normal((4, 1))
        return ActionChunk(actions, observation.time, 1 / FPS)


class NoWeightsError(Exception):
    """Raised by a policy whose weights are missing."""


def fake_config(run: Path) -> PolicyConfig:
    return CONFIG


def fake_policy(run: Path, device: str) -> Reader:
    return Reader()


def fake_system1_config(run: Path) -> PolicyConfig:
    return replace(CONFIG, system2=None)


def fake_system1(run: Path, device: str) -> Reader:
    return Reader(replace(CONFIG, system2=None))


def broken_policy(run: Path, device: str) -> Reader:
    raise NoWeightsError(f"no weights in {run.name}")


def fake_environment(name: str, cameras: tuple[str, ...]) -> World:
    return World(name, cameras)


def fake_expert(environment: Any) -> Oracle:
    return Oracle(environment)


FAKES = Sources(fake_config, fake_policy, fake_policy, fake_environment, fake_expert)
MakeSettings = Callable[..., Settings]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        run=tmp_path / "run",
        env=("fake:a",),
        episodes=8,
        seed=1000,
        refresh_every=4,
        system2="inline",
        blind=False,
        instruction=None,
        workers=1,
        num_videos=0,
        out=tmp_path / "out",
        device="cpu",
    )


def test_wilson_intervals_of_known_cases():
    # Newcombe 1998, table I, method 3
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert wilson_interval(20, 20) == pytest.approx((1 - 0.1611, 1.0), abs=5e-5)
    with pytest.raises(ValueError, match="got 3 of 2"):
        wilson_interval(3, 2)


def test_percentiles_of_nothing_are_none():
    assert percentiles([]) is None
    found = percentiles([0.001 * i for i in range(101)], 1000.0)
    assert found == {
        "n": 101.0,
        "p50": pytest.approx(50),
        "p95": pytest.approx(95),
        "p99": pytest.approx(99),
        "max": pytest.approx(100),
    }


def test_the_file_has_lerobots_shape_and_what_it_takes_to_trust_it(settings: Settings):
    summary = run_evaluation(replace(settings, env=("fake:a", "fake:b", "other:c"), num_videos=1), FAKES)
    info = json.loads((settings.out / "eval_info.json").read_text())
    assert info == summary.info
    assert [(task["task_group"], task["task_id"]) for task in info["per_task"]] == [
        ("fake", 0),
        ("fake", 1),
        ("other", 2),
    ]
    assert set(info["per_group"]) == {"fake", "other"}
    overall = info["overall"]
    assert overall["n_episodes"] == 24
    assert overall["pc_success"] == pytest.approx(100 * summary.success.successes / 24)
    assert overall["eval_ep_s"] == pytest.approx(overall["eval_s"] / 24)
    assert overall["avg_sum_reward"] is None
    assert info["per_group"]["fake"]["video_paths"] == [
        "videos/fake_a/eval_episode_0.mp4",
        "videos/fake_b/eval_episode_0.mp4",
    ]
    assert all((settings.out / path).stat().st_size > 500 for path in overall["video_paths"])
    assert info["per_task"][0]["metrics"]["seeds"] == info["settings"]["seeds"] == list(range(1000, 1008))
    assert info["versions"]["torch"] == torch.__version__
    assert info["latency_s"]["system1"]["n"] == 24 * 3
    assert info["latency_s"]["system2"]["n"] == 24 * 2
    assert info["latency_s"]["environment_step"]["n"] == info["control_steps"] == 24 * 6
    # plans at steps 0, 2, 4 and refreshes at 0, 4: a third of the plans is two steps old
    assert info["staleness"]["control_steps"]["p99"] == pytest.approx(2)
    assert info["staleness"]["seconds"]["p99"] == pytest.approx(2 / FPS)


def test_the_expert_plays_the_same_seeds(settings: Settings):
    summary = run_evaluation(replace(settings, episodes=10), FAKES)
    assert [record.expert_success for record in summary.records] == [bool(seed % 5) for seed in range(1000, 1010)]
    assert summary.expert.successes == 8


def test_results_do_not_depend_on_the_number_of_workers(settings: Settings):
    def outcome(workers: int) -> list[tuple[Any, ...]]:
        summary = run_evaluation(replace(settings, workers=workers, env=("fake:a", "fake:b"), episodes=6), FAKES)
        return [(record.env, record.seed, record.success, record.num_steps) for record in summary.records]

    alone = outcome(1)
    assert {success for _, _, success, _ in alone} == {True, False}, (
        "the fake must succeed and fail, or this shows nothing"
    )
    assert outcome(2) == alone


def test_the_controls_change_what_the_policy_gets_and_are_written_down(settings: Settings):
    seeing = run_evaluation(settings, FAKES)
    blind = run_evaluation(replace(settings, blind=True), FAKES)
    misled = run_evaluation(replace(settings, instruction="say its opposite"), FAKES)
    assert seeing.success.successes > 3
    assert blind.success.successes == misled.success.successes == 0
    assert blind.expert == misled.expert == seeing.expert
    assert blind.info["settings"]["blind"] is True
    assert misled.info["settings"]["instruction"] == "say its opposite"


def test_a_threaded_system_2_runs_at_the_environments_rate(settings: Settings):
    summary = run_evaluation(replace(settings, episodes=2, system2="thread"), FAKES)
    assert all(record.duration_s >= 6 / FPS - 1e-3 for record in summary.records)
    assert summary.info["latency_s"]["system2"]["n"] >= 2


def actions_and_rows(settings: Settings) -> tuple[list[bool], str]:
    summary = run_evaluation(settings, FAKES)
    rows = csv.DictReader(io.StringIO((settings.out / "steps.csv").read_text()))
    timeless = [{name: value for name, value in row.items() if name != "period_s"} for row in rows]
    return [record.success for record in summary.records], json.dumps(timeless)


def test_simulated_latency_is_reproducible_whatever_the_number_of_workers(settings: Settings):
    slow = replace(settings, refresh_every=1, simulate_latency=SimulatedLatency(0.03, 0.05, 0.02))
    first = actions_and_rows(slow)
    assert actions_and_rows(replace(slow, workers=2)) == first
    info = json.loads((slow.out / "eval_info.json").read_text())
    assert info["settings"]["simulate_latency"] == {"system1": 0.03, "system2": 0.05, "jitter": 0.02}
    assert info["staleness"]["seconds"]["max"] > 0.05
    assert info["missed_deadlines"] == 0
    assert info["runtime"]["jitter_s"] is None


def test_simulated_latency_of_nothing_is_lockstep_at_n_1_exactly(settings: Settings):
    lockstep = actions_and_rows(replace(settings, refresh_every=1))
    assert actions_and_rows(replace(settings, refresh_every=1, simulate_latency=SimulatedLatency())) == lockstep


def test_every_control_step_is_logged_and_summarised(settings: Settings):
    summary = run_evaluation(replace(settings, env=("fake:a", "fake:b"), episodes=2), FAKES)
    rows = list(csv.DictReader((settings.out / "steps.csv").open()))
    assert len(rows) == summary.info["control_steps"] == 24
    assert [(row["env"], row["seed"]) for row in rows[:12:6]] == [("fake:a", "1000"), ("fake:a", "1001")]
    assert [row["is_new_plan"] for row in rows[:6]] == ["1", "0"] * 3
    assert [round(float(row["staleness_s"]) * FPS) for row in rows[:6]] == [0, 1, 2, 3, 0, 1]
    runtime = summary.info["runtime"]
    assert set(runtime["control_period_s"]) == {"n", "p50", "p95", "p99", "max"}
    assert runtime["step_staleness_s"]["max"] == pytest.approx(3 / FPS)
    # six control steps at 50 Hz: three plans and two refreshes in 0.12 s
    assert runtime["system1_hz"] == pytest.approx(25)
    assert runtime["system2_hz"] == pytest.approx(2 / 0.12)
    assert (runtime["held_steps"], runtime["clamped_steps"], runtime["incidents"]) == (0, 0, [])


def test_system_2_in_a_process_runs_at_the_environments_rate(settings: Settings):
    summary = run_evaluation(replace(settings, episodes=2, system2="process"), FAKES)
    assert all(record.duration_s >= 6 / FPS - 1e-3 for record in summary.records)
    assert summary.info["latency_s"]["system2"]["n"] >= 2
    assert summary.info["runtime"]["jitter_s"]["n"] == 12
    assert summary.info["runtime"]["incidents"] == []


def test_limits_of_the_demonstrations_clamp_and_are_told(settings: Settings):
    settings.run.mkdir()
    range_of_data = {"mean": [0.0], "std": [1.0], "min": [0.0], "max": [100.0]}
    (settings.run / "stats.json").write_text(json.dumps({"action": range_of_data}))
    summary = run_evaluation(replace(settings, runtime=RuntimeConfig(limits="data+5%")), FAKES)
    assert summary.info["runtime"]["clamped_steps"] > 0
    assert any("outside the limits: number = " in said["text"] for said in summary.info["runtime"]["incidents"])
    assert f"CLAMPED in {summary.info['runtime']['clamped_steps']} of" in heading(summary.info)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"system2": "somewhere"}, "works inline, in a thread, in a process, or at ws://host:port; got 'somewhere'"),
        ({"system2": "thread", "simulate_latency": SimulatedLatency(0.1)}, "computes both systems inline"),
        ({"system2": "process", "blind": True}, "the blind control is shown no video.*choose inline"),
        ({"runtime": RuntimeConfig(overlap="rtc_trained")}, "not trained to continue a plan.*choose overlap rtc"),
        ({"runtime": RuntimeConfig(limits="nowhere.json")}, "nowhere.json does not exist; limits are"),
    ],
)
def test_what_cannot_be_run_is_refused_before_any_work(settings: Settings, changes: dict[str, Any], message: str):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_evaluation(replace(settings, **changes), replace(FAKES, load_policy=broken_policy))


def test_a_policy_without_system_2_has_no_staleness(settings: Settings):
    sources = replace(FAKES, load_config=fake_system1_config, load_policy=fake_system1)
    info = run_evaluation(settings, sources).info
    assert info["staleness"]["seconds"] is info["latency_s"]["system2"] is None


def test_torch_keeps_its_threads(settings: Settings):
    before = torch.get_num_threads()
    run_evaluation(replace(settings, episodes=1), FAKES)
    assert torch.get_num_threads() == before


def test_an_error_reaches_the_caller_and_leaves_no_result(settings: Settings):
    with pytest.raises(NoWeightsError, match="no weights in run"):
        run_evaluation(settings, replace(FAKES, load_policy=broken_policy))
    assert not (settings.out / "eval_info.json").exists()


@pytest.mark.parametrize("number", ["episodes", "workers"])
def test_there_must_be_something_to_do(settings: Settings, number: str):
    with pytest.raises(ValueError, match=f"{number} must be at least 1, got 0"):
        run_evaluation(replace(settings, **{number: 0}), FAKES)


def test_a_robot_that_the_policy_was_not_trained_for_is_refused_naming_both_sides():
    spec = EnvironmentSpec("fake:a", "fake", "say it", ("front",), 8, ("x", "y"), ("number",), 25.0, 6)
    with pytest.raises(ValueError, match="cannot drive fake:a") as refused:
        check_fits(CONFIG, spec)
    for part in (
        "needs top, the environment has front",
        "trained with 1, the environment has 2",
        "with 50, the environment has 25",
    ):
        assert part in str(refused.value)
    assert "action size" not in str(refused.value)


def test_seeds_of_the_demonstrations_are_refused():
    with pytest.raises(ValueError, match=r"2 of the seeds 1000\.\.1009 are in the training data, 1008.*example 1010"):
        check_unseen(range(1000, 1010), {3, 1008, 1009})
    check_unseen(range(1000, 1010), range(50))
