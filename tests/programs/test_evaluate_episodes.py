"""One episode of an evaluation: its seeds, its cameras, its film, and what is measured of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_evaluate import CONFIG, FPS, FakeRun, Oracle, Reader, World, changed, fake_environment, fake_expert

from video2act.config import EvaluateOptions, RuntimeConfig, SimulatedLatency
from video2act.evaluation import episodes
from video2act.evaluation.episodes import Evaluation, Instructed, play_expert
from video2act.evaluation.findings import EpisodeRecord, Measurements
from video2act.evaluation.kept import FinishedEpisode, KeptEpisodes
from video2act.evaluation.suitability import check_fits
from video2act.incidents import Incidents
from video2act.interfaces import EnvironmentSpec
from video2act.limits import Limits
from video2act.programs.evaluate import run_evaluation
from video2act.runtime.control_loop import EpisodeResult, StepRecord
from video2act.trace import Trace
from video2act.types import Step


class Watched:
    """Makes worlds, and remembers their cameras and the seeds that they were reset with."""

    def __init__(self) -> None:
        self.cameras: list[tuple[str, ...]] = []
        self.seeds: list[list[int]] = []

    def __call__(
        self, name: str, cameras: tuple[str, ...], *, image_size: object = None, visual_shift: object = None
    ) -> World:
        seeds: list[int] = []
        self.cameras.append(cameras)
        self.seeds.append(seeds)
        world = World(name, cameras)
        reset = world.reset
        world.reset = lambda seed: (seeds.append(seed), reset(seed))[1]  # type: ignore[method-assign]
        return world


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def evaluation(tmp_path: Path, watched: Watched) -> Evaluation:
    options = EvaluateOptions(episodes=3, seed=1007, workers=1, num_videos=0, out=tmp_path / "out")
    return Evaluation(FakeRun(tmp_path / "run"), ("fake:a",), options, watched, fake_expert)


def test_policy_and_expert_meet_the_same_scenes_and_only_the_policy_needs_cameras(
    evaluation: Evaluation, watched: Watched
):
    run_evaluation(evaluation)
    played = [(cameras, seeds) for cameras, seeds in zip(watched.cameras, watched.seeds, strict=True) if seeds]
    assert sorted(played) == [((), [1007, 1008, 1009]), (("top",), [1007, 1008, 1009])]
    watched.cameras.clear()
    watched.seeds.clear()
    assert evaluation.options.out
    run_evaluation(changed(evaluation, blind=True, out=evaluation.options.out / "blind"))
    assert {cameras for cameras, seeds in zip(watched.cameras, watched.seeds, strict=True) if seeds} == {()}


def test_the_policys_noise_begins_anew_with_every_seed(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch):
    seeds: list[int] = []
    monkeypatch.setattr(Reader, "seed", lambda reader, seed: seeds.append(seed))
    run_evaluation(evaluation)
    assert seeds == [1007, 1008, 1009]


def test_defaults_follow_from_the_other_options(evaluation: Evaluation):
    """Two workers, unless a clock must be kept or the policy is in memory; n as trained, unless it is simulated."""
    free = changed(evaluation, workers=None, refresh_every=None, num_videos=None)
    assert (free.workers, free.refresh_every, free.num_videos, free.keeps_real_time) == (2, 4, 2, False)
    beside: list[dict[str, Any]] = [{"system2": "thread"}, {"runtime": RuntimeConfig(system1="thread")}]
    for options in beside:
        kept = changed(free, **options)
        assert (kept.workers, kept.keeps_real_time) == (1, True)
    assert changed(free, simulate_latency=SimulatedLatency(0.1)).refresh_every == 1
    assert changed(free, simulate_latency=SimulatedLatency(0.1), refresh_every=3).refresh_every == 3
    assert (changed(free, blind=True).num_videos, changed(free, out=None).num_videos) == (0, 0)
    assert (changed(free, blind=True).streams, len(free.streams)) == ((), 1)
    assert changed(evaluation, workers=5, num_videos=7).workers == 5
    assert list(changed(evaluation, seed=3, episodes=4).seeds) == [3, 4, 5, 6]
    assert replace(free, source=FakeRun(None)).workers == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(("every", "per_episode"), [(1, 6), (2, 3), (None, 2)])
def test_system_2_refreshes_as_often_as_was_asked_for(evaluation: Evaluation, every: int | None, per_episode: int):
    info = run_evaluation(changed(evaluation, refresh_every=every)).info
    assert info["latency_s"]["system2"]["n"] == 3 * per_episode
    assert info["settings"]["refresh_every"] == (every or 4)


def test_only_the_first_episodes_are_filmed_each_with_its_outcome(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
):
    films: list[tuple[str, str]] = []
    monkeypatch.setattr(
        episodes.Recorder, "write", lambda recorder, path, outcome: films.append((path.as_posix(), outcome))
    )
    always_right = Reader(noise=0.0)
    for policy, outcome in ((always_right, "success"), (replace(always_right, is_blind=True), "failure")):
        films.clear()
        source = FakeRun(Path("run"), policy)
        summary = run_evaluation(replace(changed(evaluation, num_videos=2), source=source))
        assert [(path[-len("videos/fake+a/seed_1000.mp4") :], said) for path, said in films] == [
            (f"videos/fake+a/seed_{seed}.mp4", outcome) for seed in (1007, 1008)
        ]
        assert [record.film for record in summary.records] == [
            "videos/fake+a/seed_1007.mp4",
            "videos/fake+a/seed_1008.mp4",
            None,
        ]


def test_incidents_are_those_of_their_own_episode(evaluation: Evaluation):
    summary = run_evaluation(changed(evaluation, runtime=RuntimeConfig(limits="data+5%")))
    runtime = summary.info["runtime"]
    assert runtime["incidents_by_kind"]["action_outside_limits"] == len(runtime["incidents"]) <= 3 * 6
    times = [said["time"] for said in runtime["incidents"]]
    assert len(set(times)) == len(times), "none is counted twice"


def step(period_s: float, staleness_s: float | None, is_held: bool, is_clamped: bool) -> StepRecord:
    return StepRecord(0.0, period_s, staleness_s, 1, 0.0, False, is_held, is_clamped, True)


def test_an_episodes_measurements_by_hand():
    steps = [step(0.02, 0.1, True, False), step(0.05, None, True, True), step(0.01, 0.3, False, False)]
    result = EpisodeResult(True, 3, 0, 1.0, [0.001, 0.002], steps)
    at_a_rate, at_none = Measurements(staleness=[0.5]), Measurements()
    episodes._measure(at_a_rate, result, rate_hz=50.0)
    episodes._measure(at_none, result, rate_hz=None)
    assert at_a_rate.jitter == pytest.approx([0.0, 0.03, 0.01])
    assert at_none.jitter == []
    for measured in (at_a_rate, at_none):
        assert measured.environment_step == [0.001, 0.002]
        assert measured.control_period == [0.02, 0.05, 0.01]
        assert measured.step_staleness == [0.1, 0.3]
        assert (measured.held_steps, measured.clamped_steps) == (2, 1)
    assert at_a_rate.staleness == [0.5]


def test_an_expert_begins_anew_and_its_success_is_not_forgotten():
    class SucceedsEarly(World):
        def step(self, action: np.ndarray) -> Step:
            return replace(super().step(action), success=self.steps == 2 and self.seed == 4)

    class Counting(Oracle):
        num_resets = 0

        def reset(self) -> None:
            self.num_resets += 1

    world = SucceedsEarly("fake:a", ())
    expert = Counting(world)
    assert [play_expert(world, expert, seed) for seed in (4, 5)] == [True, False]
    assert expert.num_resets == 2


def test_a_replaced_instruction_holds_from_the_first_to_the_last_step():
    environment = Instructed(fake_environment("fake:a", ()), "say nothing")
    said = [environment.reset(0).instruction]
    said += [environment.step(np.zeros(1)).observation.instruction for _ in range(3)]
    assert said == ["say nothing"] * 4


class TestKept:
    EPISODE = FinishedEpisode(
        EpisodeRecord("fake:a/b", 17, True, None, 6, 2, 1.5, "videos/x.mp4"),
        Measurements(system1=[0.1], jitter=[0.2], held_steps=3, incidents=Incidents()),
        (step(0.02, 0.1, True, False), step(0.05, None, False, True)),
        2.5,
        Trace(
            np.array([0.0, 0.1]),
            np.array([[0.1], [1 / 3]], np.float32),
            np.zeros((2, 1), np.float32),
            np.full((1, 4, 1), 1 / 3, np.float32),
            np.array([0]),
            np.array([0]),
            np.array([0, 0]),
        ),
    )

    def test_an_episode_comes_back_whole_and_is_no_other(self, tmp_path: Path):
        kept = KeptEpisodes(tmp_path, {"refresh_every": 4}, policy="abc")
        kept.begin()
        kept.write(self.EPISODE)
        found = kept.read("fake:a/b", 17)
        assert found is not None
        assert found.to_json() == self.EPISODE.to_json()
        for name, array in self.EPISODE.trace.arrays().items():
            assert np.array_equal(getattr(found.trace, name), array)
        assert (found.record, found.steps, found.seconds) == (self.EPISODE.record, self.EPISODE.steps, 2.5)
        for other in (("fake:a/b", 7), ("fake:a/b", 117), ("fake:a", 17), ("fake", 17)):
            assert kept.read(*other) is None

    @pytest.mark.parametrize(
        ("settings", "policy", "is_same"),
        [
            ({"refresh_every": 4, "seed": 9, "workers": 3, "episodes": 99}, "abc", True),
            ({"refresh_every": 5}, "abc", False),
            ({"refresh_every": 4, "instruction": "pull"}, "abc", False),
            ({"refresh_every": 4, "blind": True}, "abc", False),
            ({"refresh_every": 4}, "abd", False),
        ],
    )
    def test_what_an_episode_depends_on_must_be_the_same(
        self, tmp_path: Path, settings: dict[str, Any], policy: str, is_same: bool
    ):
        kept = KeptEpisodes(tmp_path, {"refresh_every": 4}, policy="abc")
        kept.begin()
        other = KeptEpisodes(tmp_path, settings, policy=policy)
        assert other.differences() == [], "no episode is finished"
        kept.write(self.EPISODE)
        assert (other.differences() == []) == is_same

    def test_a_served_policy_is_known_by_its_address(self, tmp_path: Path):
        """It has no fingerprint, and episodes of one server went on with another."""
        kept = KeptEpisodes(tmp_path, {"run": "ws://one:8000"}, policy="")
        kept.begin()
        kept.write(self.EPISODE)
        other = KeptEpisodes(tmp_path, {"run": "ws://two:8000"}, policy="")
        assert other.differences() == ["run: ws://one:8000 then, ws://two:8000 now"]
        with pytest.raises(ValueError, match="holds finished episodes of another evaluation"):
            other.begin()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"cameras": ("side", "top")}, None),
        ({"cameras": ("side",)}, "the policy needs top, the environment has side"),
        ({"action_names": ("x", "y")}, "action size: the policy was trained with 1, the environment has 2"),
        ({"state_names": ()}, "state size: the policy was trained with 1, the environment has 0"),
        ({"fps": FPS + 1}, "control steps per second: the policy was trained with 50, the environment has 51"),
        ({"image_size": 4}, "too small"),
    ],
    ids=str,
)
def test_a_robot_fits_or_the_difference_is_named(changes: dict[str, Any], message: str | None):
    spec = EnvironmentSpec("fake:a", "fake", "say it", ("top",), 16, ("count",), ("number",), FPS, 6)
    if message is None:
        check_fits(CONFIG, replace(spec, **changes))
    else:
        with pytest.raises(ValueError, match=message):
            check_fits(CONFIG, replace(spec, **changes))


@pytest.mark.parametrize(
    ("trained", "message"),
    [
        ((), ""),
        (("dx", "dy", "grip"), ""),
        (("left", "right", "hand"), ""),
        (("dx", "dy", "hand"), ""),
        (("dy", "dx", "grip"), "order of the action: dy, dx, grip in training, here dx, dy, grip"),
        (("grip", "a", "b"), "order of the action: grip, a, b in training"),
    ],
    ids=str,
)
def test_numbers_at_other_places_than_in_training_are_refused(trained: tuple[str, ...], message: str):
    """Three joints in another order drove a robot without a word."""
    spec = EnvironmentSpec("fake:a", "fake", "say it", ("top",), 16, ("count",), ("dx", "dy", "grip"), FPS, 6)
    config = replace(CONFIG, action_dim=3)
    if not message:
        check_fits(config, spec, names={"state": ("count",), "action": trained})
    else:
        with pytest.raises(ValueError, match=message):
            check_fits(config, spec, names={"state": ("count",), "action": trained})
        with pytest.raises(ValueError, match=message.replace("action", "state")):
            check_fits(config, replace(spec, state_names=spec.action_names), names={"state": trained})


def test_changes_that_the_environment_takes_for_targets_are_refused():
    spec = EnvironmentSpec("fake:a", "fake", "say it", ("top",), 16, ("count",), ("dx", "x"), FPS, 6, ("x",))
    config = replace(CONFIG, action_dim=2)
    check_fits(config, spec)
    check_fits(replace(config, relative_actions=("x",)), spec)
    with pytest.raises(ValueError, match="changes or speeds: dx in training, the environment says x"):
        check_fits(replace(config, relative_actions=("dx",)), spec)


def test_limits_of_the_data_are_those_of_the_actions(evaluation: Evaluation):
    limited = changed(evaluation, runtime=RuntimeConfig(limits="data+10%"))
    assert limited.find_limits() == Limits((-10.0,), (110.0,))
