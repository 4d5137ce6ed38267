"""Evaluating a fake policy in a fake world: shares, seeds, controls and the file that is written.

The fakes are module-level, so that worker processes can import them; they see no fixtures.
"""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from video2act.config import (
    BackboneConfig,
    EvaluateOptions,
    FilterConfig,
    FormerConfig,
    PolicyConfig,
    RuntimeConfig,
    SimulatedLatency,
    StreamConfig,
    System1Config,
    System2Config,
)
from video2act.evaluation.episodes import Evaluation
from video2act.evaluation.findings import SuccessRate, percentiles
from video2act.evaluation.report import evaluation_tables, heading
from video2act.evaluation.suitability import check_fits, check_scenes, check_unseen, note_instruction
from video2act.files.run_folder import SCENES_FILE, load_instructions
from video2act.interfaces import EnvironmentSpec
from video2act.policy import Video2Act
from video2act.programs import evaluate as program
from video2act.programs.evaluate import evaluate, run_evaluation
from video2act.statistics import Statistics
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
    system2=System2Config(BackboneConfig(), (STREAM,)),
    refresh_every=4,
)


class World:
    """A goal, shown as brightness; success is to say a number near it at the last step."""

    def __init__(self, name: str, cameras: tuple[str, ...], fps: float = FPS):
        self.spec = EnvironmentSpec(name, "fake", "say it", cameras, 16, ("count",), ("number",), fps, max_steps=6)
        self.goal = 0
        self.seed = -1
        self.steps = 0

    def seen(self) -> Observation:
        frame = np.full((16, 16, 3), self.goal, np.uint8)
        state = np.array([self.steps], np.float32)
        return Observation(dict.fromkeys(self.spec.cameras, frame), state, self.spec.instruction, self.steps / FPS)

    def reset(self, seed: int) -> Observation:
        self.seed, self.steps = seed, 0
        self.goal = int(np.random.default_rng(seed).integers(20, 250))
        return self.seen()

    def step(self, action: np.ndarray) -> Step:
        self.steps += 1
        done = self.steps == self.spec.max_steps
        return Step(self.seen(), done, done and abs(float(action[0]) - self.goal) < 2)

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

    def system2_loader(self, device: str) -> Callable[[], "Reader"]:
        return Reader

    def trained_instruction(self) -> str:
        return "say it"

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        if not clips:
            return Tokens.empty(1, 1, like=torch.zeros(1))
        brightness = (clips["motion"].grid.mean() + 1) * 127.5
        return Tokens.all_visible(brightness.reshape(1, 1, 1))

    def explain(self, clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
        return clips

    def foresee(self, clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
        return {}

    def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
        seen = condition.tokens.data.mean().item() if condition.tokens.data.numel() else 0.0
        sign = 1 if observation.instruction == "say it" else -1
        actions = sign * (0.0 if self.is_blind else seen) + self.noise * self.rng.standard_normal((4, 1))
        return ActionChunk(actions, observation.time, 1 / FPS)


class NoWeightsError(Exception):
    """Raised by a policy whose weights are missing."""


@dataclass(frozen=True)
class FakeRun:
    """A run folder with a fake policy in it."""

    path: Path
    policy: Reader | None = field(default_factory=Reader)
    name = "fake"

    def config(self) -> PolicyConfig:
        return CONFIG if self.policy is None else self.policy.config

    def action_statistics(self) -> Statistics:
        return Statistics((0.0,), (1.0,), (0.0,), (100.0,))

    def training_seeds(self, env: str) -> list[int]:
        return [3, 1030]

    def names(self) -> dict[str, tuple[str, ...]]:
        return {}

    def instructions(self) -> tuple[str, ...]:
        return load_instructions(self.path)

    def frame_sizes(self) -> dict[str, tuple[int, int]]:
        return {}

    def load(self, device: str) -> Reader:
        if self.policy is None:
            raise NoWeightsError(f"no weights in {self.path.name}")
        return self.policy


def fake_environment(name: str, cameras: tuple[str, ...], *, image_size: Any = None, visual_shift: Any = None) -> World:
    return World(name, cameras)


def fake_expert(environment: Any) -> Oracle:
    return Oracle(environment)


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    options = EvaluateOptions(episodes=8, refresh_every=4, workers=1, num_videos=0, out=tmp_path / "out")
    return Evaluation(FakeRun(tmp_path / "run"), ("fake:a",), options, fake_environment, fake_expert)


def changed(evaluation: Evaluation, env: tuple[str, ...] | None = None, **options: Any) -> Evaluation:
    return replace(evaluation, env=env or evaluation.env, options=replace(evaluation.options, **options))


def out_of(evaluation: Evaluation) -> Path:
    assert evaluation.options.out is not None
    return evaluation.options.out


def test_wilson_intervals_of_known_cases():
    # Newcombe 1998, table I, method 3
    assert SuccessRate(81, 263).wilson_95 == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert SuccessRate(15, 148).wilson_95 == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert SuccessRate(0, 20).wilson_95 == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert SuccessRate(1, 29).wilson_95 == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert SuccessRate(20, 20).wilson_95 == pytest.approx((1 - 0.1611, 1.0), abs=5e-5)
    with pytest.raises(ValueError, match="got 3 of 2"):
        SuccessRate(3, 2)


def test_a_rate_is_printed_with_its_counts_and_interval():
    assert str(SuccessRate(43, 50)) == "43/50 = 86 % (74-93 %)"


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


def test_the_file_has_lerobots_shape_and_what_it_takes_to_trust_it(evaluation: Evaluation):
    summary = run_evaluation(changed(evaluation, env=("fake:a", "fake:b", "other:c"), num_videos=1))
    info = json.loads((out_of(evaluation) / "eval_info.json").read_text())
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
        "videos/fake+a/seed_1000.mp4",
        "videos/fake+b/seed_1000.mp4",
    ]
    assert all((out_of(evaluation) / path).stat().st_size > 500 for path in overall["video_paths"])
    assert info["per_task"][0]["metrics"]["seeds"] == info["settings"]["seeds"] == list(range(1000, 1008))
    assert info["versions"]["torch"] == torch.__version__
    assert info["latency_s"]["system1"]["n"] == 24 * 3
    assert info["latency_s"]["system2"]["n"] == 24 * 2
    assert info["latency_s"]["environment_step"]["n"] == info["control_steps"] == 24 * 6
    # plans at steps 0, 2, 4 and refreshes at 0, 4: a third of the plans is two steps old
    assert info["staleness"]["control_steps"]["p99"] == pytest.approx(2)
    assert info["staleness"]["seconds"]["p99"] == pytest.approx(2 / FPS)


def test_the_expert_plays_the_same_seeds(evaluation: Evaluation):
    summary = run_evaluation(changed(evaluation, episodes=10))
    assert [record.expert_success for record in summary.records] == [bool(seed % 5) for seed in range(1000, 1010)]
    assert summary.expert is not None
    assert summary.expert.successes == 8


def test_the_expert_may_be_left_out(evaluation: Evaluation):
    summary = run_evaluation(changed(evaluation, episodes=2, expert=False))
    assert summary.expert is None
    assert {record.expert_success for record in summary.records} == {None}
    info = json.loads((out_of(evaluation) / program.INFO_FILE).read_text())
    assert info["overall"]["expert"] is None
    table = evaluation_tables(info)[0]
    assert list(table.columns[2].cells) == ["not run"]


def test_results_do_not_depend_on_the_number_of_workers(evaluation: Evaluation):
    def outcome(workers: int) -> list[tuple[Any, ...]]:
        summary = run_evaluation(changed(evaluation, workers=workers, env=("fake:a", "fake:b"), episodes=6))
        return [(record.env, record.seed, record.success, record.num_steps) for record in summary.records]

    alone = outcome(1)
    assert {success for _, _, success, _ in alone} == {True, False}, (
        "the fake must succeed and fail, or this shows nothing"
    )
    assert outcome(2) == alone


def test_the_controls_change_what_the_policy_gets_and_are_written_down(evaluation: Evaluation):
    seeing = run_evaluation(evaluation)
    out = out_of(evaluation)
    blind = run_evaluation(changed(evaluation, blind=True, out=out / "blind"))
    misled = run_evaluation(changed(evaluation, instruction="say its opposite", out=out / "misled"))
    assert seeing.success.successes > 3
    assert blind.success.successes == misled.success.successes == 0
    assert blind.expert == misled.expert == seeing.expert
    assert blind.info["settings"]["blind"] is True
    assert misled.info["settings"]["instruction"] == "say its opposite"


def test_a_finished_evaluation_is_not_replaced_by_another(evaluation: Evaluation):
    """`--blind`, with the same `--out`, wrote over the results without a word."""
    first = run_evaluation(evaluation)
    again = run_evaluation(changed(evaluation, workers=2))
    assert first.success == again.success, "the same one is done again"
    blind = changed(evaluation, blind=True)
    with pytest.raises(
        ValueError, match=r"holds another evaluation, which is finished \(blind: False then, True now\)"
    ):
        run_evaluation(blind)
    with pytest.raises(ValueError, match=r"episodes: 8 then, 2 now.*choose another out, or remove it"):
        run_evaluation(changed(evaluation, episodes=2))
    path = out_of(evaluation) / program.INFO_FILE
    assert json.loads(path.read_text())["settings"]["blind"] is False
    info = json.loads(path.read_text()) | {"policy_fingerprint": "another"}
    path.write_text(json.dumps(info))
    with pytest.raises(ValueError, match="policy: another then"):
        run_evaluation(evaluation)


def test_a_training_is_no_place_for_an_evaluation(evaluation: Evaluation):
    out = out_of(evaluation)
    out.mkdir(parents=True)
    (out / "training.json").write_text("{}")
    with pytest.raises(FileExistsError, match=r"holds a training .* choose another folder for an evaluation"):
        run_evaluation(evaluation)


def test_a_threaded_system_2_runs_at_the_environments_rate(evaluation: Evaluation):
    summary = run_evaluation(changed(evaluation, episodes=2, system2="thread"))
    assert all(record.duration_s >= 6 / FPS - 1e-3 for record in summary.records)
    assert summary.info["latency_s"]["system2"]["n"] >= 2


def actions_and_rows(evaluation: Evaluation) -> tuple[list[bool], str]:
    summary = run_evaluation(evaluation)
    rows = csv.DictReader(io.StringIO((out_of(evaluation) / "steps.csv").read_text()))
    timeless = [{name: value for name, value in row.items() if name != "period_s"} for row in rows]
    return [record.success for record in summary.records], json.dumps(timeless)


def test_simulated_latency_is_reproducible_whatever_the_number_of_workers(evaluation: Evaluation):
    slow = changed(evaluation, refresh_every=1, simulate_latency=SimulatedLatency(0.03, 0.05, 0.02))
    first = actions_and_rows(slow)
    assert actions_and_rows(changed(slow, workers=2)) == first
    info = json.loads((out_of(slow) / "eval_info.json").read_text())
    assert info["settings"]["simulate_latency"] == {"system1": 0.03, "system2": 0.05, "jitter": 0.02}
    assert info["staleness"]["seconds"]["max"] > 0.05
    assert info["missed_deadlines"] == 0
    assert info["runtime"]["jitter_s"] is None


def test_simulated_latency_of_nothing_is_lockstep_at_n_1_exactly(evaluation: Evaluation):
    lockstep = actions_and_rows(changed(evaluation, refresh_every=1))
    late = changed(evaluation, refresh_every=1, simulate_latency=SimulatedLatency(), out=out_of(evaluation) / "late")
    assert actions_and_rows(late) == lockstep


def test_every_control_step_is_logged_and_summarised(evaluation: Evaluation):
    summary = run_evaluation(changed(evaluation, env=("fake:a", "fake:b"), episodes=2))
    rows = list(csv.DictReader((out_of(evaluation) / "steps.csv").open()))
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


def test_system_2_in_a_process_runs_at_the_environments_rate(evaluation: Evaluation):
    summary = run_evaluation(changed(evaluation, episodes=2, system2="process"))
    assert all(record.duration_s >= 6 / FPS - 1e-3 for record in summary.records)
    assert summary.info["latency_s"]["system2"]["n"] >= 2
    assert summary.info["runtime"]["jitter_s"]["n"] == 12
    assert summary.info["runtime"]["incidents"] == []


def test_limits_of_the_demonstrations_clamp_and_are_told(evaluation: Evaluation):
    summary = run_evaluation(changed(evaluation, runtime=RuntimeConfig(limits="data+5%")))
    assert summary.info["runtime"]["clamped_steps"] > 0
    assert any("outside the limits: number = " in said["text"] for said in summary.info["runtime"]["incidents"])
    assert f"CLAMPED in {summary.info['runtime']['clamped_steps']} of" in heading(summary.info)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"system2": "somewhere"}, "works inline, in a thread, in a process, or at ws://host:port; got 'somewhere'"),
        ({"system2": "thread", "simulate_latency": SimulatedLatency(0.1)}, "computes both systems inline"),
        ({"system2": "process", "blind": True}, "the blind control gets no video.*choose inline"),
        ({"runtime": RuntimeConfig(overlap="rtc_trained")}, "not trained to continue a plan.*choose overlap rtc"),
        ({"runtime": RuntimeConfig(limits="nowhere.json")}, "nowhere.json does not exist; limits are"),
        ({"visual_shift": "light"}, "fake:a draws its own pictures; leave visual_shift='light' out"),
        ({"visual_shift": "light", "blind": True}, "the blind control gets no image, so visual_shift='light'"),
    ],
)
def test_what_cannot_be_run_is_refused_before_any_work(
    evaluation: Evaluation, tmp_path: Path, changes: dict[str, Any], message: str
):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_evaluation(replace(changed(evaluation, **changes), source=FakeRun(tmp_path, None)))


def test_a_policy_without_system_2_has_no_staleness(evaluation: Evaluation, tmp_path: Path):
    source = FakeRun(tmp_path, Reader(replace(CONFIG, system2=None)))
    info = run_evaluation(replace(evaluation, source=source)).info
    assert info["staleness"]["seconds"] is info["latency_s"]["system2"] is None


def test_torch_keeps_its_threads(evaluation: Evaluation):
    before = torch.get_num_threads()
    run_evaluation(changed(evaluation, episodes=1))
    assert torch.get_num_threads() == before


def test_an_error_reaches_the_caller_and_leaves_no_result(evaluation: Evaluation, tmp_path: Path):
    with pytest.raises(NoWeightsError, match="no weights in run"):
        run_evaluation(replace(evaluation, source=FakeRun(tmp_path / "run", None)))
    assert not (out_of(evaluation) / "eval_info.json").exists()


@pytest.mark.parametrize("number", ["episodes", "workers", "refresh_every"])
def test_there_must_be_something_to_do(number: str):
    options: dict[str, Any] = {number: 0}
    with pytest.raises(ValueError, match=f"{number} must be at least 1, got 0"):
        EvaluateOptions(**options)


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


def test_scenes_that_repeat_are_refused_and_demonstrations_with_their_own_are_not():
    """LIBERO has 50 official states: more episodes repeated them and counted as independent, and seeds of
    demonstrations, which draw placements of their own, were refused."""
    env = "libero:libero_object/3"
    check_scenes(env, range(50), training_seeds=range(200))
    told = rf"{env} has 50 scenes: seeds 1000 and 1050 are one, and would count twice. Evaluate at most 50 .*got 51"
    with pytest.raises(ValueError, match=told):
        check_scenes(env, range(1000, 1051), training_seeds=[])
    check_scenes("moving:push", range(1000, 1100), training_seeds=range(200))
    with pytest.raises(ValueError, match="in the training data"):
        check_scenes("moving:push", range(100, 300), training_seeds=range(200))


def test_repeated_scenes_are_refused_before_any_episode(evaluation: Evaluation):
    with pytest.raises(ValueError, match="libero:libero_object/3 has 50 scenes"):
        run_evaluation(changed(evaluation, env=("libero:libero_object/3",), episodes=51))


def fake_robot(name: str, cameras: tuple[str, ...], *, image_size: Any = None, visual_shift: Any = None) -> World:
    """The robot of `small_config`; its frames are large enough for it."""
    return Robot(name, cameras, fps=20.0)


class Robot(World):
    def __init__(self, name: str, cameras: tuple[str, ...], fps: float):
        super().__init__(name, cameras, fps)
        self.spec = replace(self.spec, state_names=("a", "b", "c"), action_names=("x", "y"))

    def seen(self) -> Observation:
        frame = np.full((48, 48, 3), self.goal, np.uint8)
        images = dict.fromkeys(self.spec.cameras, frame)
        return Observation(images, np.zeros(3, np.float32), "push", self.steps / self.spec.fps)


class Idle:
    def reset(self) -> None: ...

    def act(self) -> np.ndarray:
        return np.zeros(2)


def idle_expert(environment: Any) -> Idle:
    return Idle()


class TestALoadedPolicy:
    """`evaluate(policy, env)` in Python: in this process, with the weights as they are, and nothing on disk."""

    @pytest.fixture
    def policy(self, small_config: PolicyConfig, make_policy: Callable[[PolicyConfig], Video2Act]) -> Video2Act:
        return make_policy(small_config)

    @pytest.fixture(autouse=True)
    def world(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def build(source: Any, env: tuple[str, ...], options: EvaluateOptions) -> Evaluation:
            return Evaluation(source, env, options, fake_robot, idle_expert)

        monkeypatch.setattr(program, "Evaluation", build)

    def test_nothing_is_written_or_printed_unless_asked(
        self, policy: Video2Act, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ):
        monkeypatch.chdir(tmp_path)
        summary = evaluate(policy, "fake:a", episodes=2)
        assert (summary.success.n_episodes, summary.path, summary.info["settings"]["run"]) == (2, None, None)
        assert not list(tmp_path.iterdir())
        assert capfd.readouterr().out == ""
        written = evaluate(policy, "fake:a", episodes=2, out=tmp_path / "out", num_videos=1, show=True)
        assert written.path == tmp_path / "out" / "eval_info.json"
        assert [record.success for record in written.records] == [record.success for record in summary.records]
        assert (tmp_path / "out/videos/fake+a/seed_1000.mp4").is_file()
        assert "0/2 = 0 % (0-66 %)" in capfd.readouterr().out

    def test_it_acts_as_its_run_folder_does(self, policy: Video2Act, tmp_path: Path):
        policy.save(tmp_path / "run")
        kept = evaluate(tmp_path / "run", "fake:a", episodes=2, workers=1)
        assert kept.path is not None
        assert kept.path.parent.parent == tmp_path / "run" / "eval"
        loaded = evaluate(policy, "fake:a", episodes=2, out=tmp_path / "out")
        for part in ("staleness", "control_steps"):
            assert loaded.info[part] == kept.info[part]

    def test_scenes_that_it_was_trained_on_are_refused_as_for_its_folder(self, policy: Video2Act, tmp_path: Path):
        policy.save(tmp_path / "run")
        (tmp_path / "run" / SCENES_FILE).write_text('{"fake:a": [7, 1001]}')
        for trained in (tmp_path / "run", Video2Act.from_pretrained(tmp_path / "run")):
            with pytest.raises(
                ValueError, match=r"1 of the seeds 1000\.\.1001 are in the training data, 1001 among them"
            ):
                evaluate(trained, "fake:a", episodes=2)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"workers": 2}, "workers needs a policy on disk"),
            ({"device": "cuda"}, "device needs a policy on disk"),
            ({"system2": "process"}, "system2='process' needs a policy on disk"),
            ({"num_videos": 1}, "num_videos=1 films need a folder; set out"),
        ],
    )
    def test_what_needs_a_folder_is_refused(self, policy: Video2Act, options: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            evaluate(policy, "fake:a", **options)

    def test_an_option_that_does_not_exist_is_refused(self, policy: Video2Act):
        with pytest.raises(TypeError, match="evaluate has no option 'episods'; did you mean episodes"):
            evaluate(policy, "fake:a", episods=2)


@pytest.mark.parametrize(("asked", "workers"), [({}, 1), ({"workers": 3}, 3), ({"pool": "ray"}, None)])
def test_python_s_function_plays_in_this_process(asked: dict[str, Any], workers: int | None, monkeypatch, tmp_path):
    """Two worker processes imported a user's script again, which failed without a guard, or trained once more."""

    def run(evaluation: Evaluation, show: bool) -> None:
        raise InterruptedError(evaluation.options.workers)

    monkeypatch.setattr(program, "_run", run)
    with pytest.raises(InterruptedError) as found:
        evaluate(tmp_path, "moving:push", out=tmp_path / "out", **asked)
    assert found.value.args == (workers,)


def test_an_instruction_that_training_never_had_is_noted(
    evaluation: Evaluation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A policy played a sentence that it never saw, and nothing said so."""
    source: Any = evaluation.source
    known = replace(evaluation, source=replace(source, path=tmp_path))
    for trained, note in (
        (["say it"], ""),
        (["a", "b", "c"], "note: the instruction 'say it' is not among the 3 of training: 'a', 'b', ...\n"),
        ([str(i) for i in range(1000)], ""),
    ):
        (tmp_path / "instructions.json").write_text(json.dumps(trained))
        instructions = known.source.instructions()
        note_instruction("say it", instructions)
        assert capsys.readouterr().out == note
    (tmp_path / "instructions.json").write_text('["a", "b"]')
    run_evaluation(known)
    assert capsys.readouterr().out == "note: the instruction 'say it' is not among the 2 of training: 'a', 'b'\n"
