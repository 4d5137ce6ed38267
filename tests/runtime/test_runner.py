"""The whole runtime in one object, for somebody who has a robot and not a simulator."""

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime_fakes import CONFIG, FPS, MOTION, FakeEnvironment, FakeSystem, GatedSystem, observation, wait_until
from system2_in_a_process import counting

from video2act import Runner
from video2act.config import PolicyConfig, RuntimeConfig, SimulatedLatency
from video2act.config.runtime import WhenStale
from video2act.files.run_folder import DATA_FILE
from video2act.interfaces import Decision
from video2act.limits import Limits
from video2act.policy import Video2Act
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.control_loop import run_episode
from video2act.runtime.dual_policy import DualPolicy
from video2act.runtime.freshness import check_staleness_limit
from video2act.runtime.slow_loop import InlineSlowLoop
from video2act.runtime.thread_loop import ThreadSlowLoop
from video2act.types import ActionChunk, Observation, VideoCondition
from video2act.viz.recorder import Recorder


class Elsewhere(FakeSystem):
    """Stands for a System 2 on another machine."""

    def close(self) -> None: ...


@pytest.mark.parametrize("system1", ["inline", "thread"])
@pytest.mark.parametrize("system2", ["inline", "thread", "process", "ws://there:8000"])
def test_one_observation_in_one_action_out_wherever_the_systems_work(
    system1: str, system2: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("video2act.serving.client.connect_system2", lambda *_, **__: Elsewhere())
    where = {"load_system2": counting, "instruction": "push"}
    with Runner(FakeSystem(horizon=60), system2=system2, system1=system1, max_staleness_s=5.0, **where) as runner:
        for _ in range(2):
            runner.reset()
            actions = [runner.step(observation(step))[0] for step in range(20)]
            assert actions == list(range(20)), "each action at its own moment"
            assert runner.condition is not None
            assert runner.staleness_s is not None
            assert 0 <= runner.staleness_s <= 19 / FPS
    assert not [incident.text for incident in runner.incidents]
    assert not any(thread.name.startswith("system") for thread in threading.enumerate())


def test_rates_are_those_of_the_robots_clock():
    with Runner(FakeSystem(), refresh_every=4, execute_steps=2) as runner:
        assert runner.rates.control_hz == 0.0
        runner.reset()
        for step in range(20):
            runner.step(observation(step))
        rates = runner.rates
    assert rates.control_hz == pytest.approx(FPS)
    assert rates.system1_hz == pytest.approx(FPS / 2)
    assert rates.system2_hz == pytest.approx(FPS / 4)
    assert rates.missed_deadlines < 20


def test_a_step_that_takes_longer_than_a_control_period_is_counted():
    class Slow(FakeSystem):
        def act(self, observation: Observation, condition) -> ActionChunk:
            threading.Event().wait(2 / FPS)
            return super().act(observation, condition)

    with Runner(Slow(), execute_steps=4) as runner:
        runner.reset()
        for step in range(8):
            runner.step(observation(step))
        assert runner.rates.missed_deadlines >= 2


def test_frames_of_another_size_than_the_training_datas_are_an_incident(saved_policy: Path, tmp_path: Path):
    """They were taken silently, although a policy may succeed less on them."""
    shutil.copytree(saved_policy, tmp_path / "run")
    data = {"name": "a", "robot": "arm", "episodes": 1, "frames": 9, "tasks": ["push"]}
    sizes = {"front": [32, 48], "wrist": [16, 16], "side": [8, 8]}
    (tmp_path / "run" / DATA_FILE).write_text(json.dumps([{**data, "frame_sizes": sizes}]))
    images = {"front": np.zeros((16, 16, 3), np.uint8), "wrist": np.zeros((16, 16, 3), np.uint8)}
    with Runner(tmp_path / "run") as runner:
        for episode in (1, 2):
            runner.reset()
            for step in range(3):
                runner.step(Observation(images, np.zeros(3, np.float32), "push", step / 20))
            assert runner.incidents.counts == {"image_size": episode}
        assert "camera 'front' gives 16x16, the training data are 48x32" in runner.incidents[0].text


@pytest.mark.parametrize(("factor", "number"), [(1.0, 0), (1.2, 0), (0.5, 1), (2.0, 1)])
def test_a_loop_at_another_rate_than_the_training_datas_is_an_incident(factor: float, number: int):
    """At twice the rate each change was sent twice, and a robot moved twice as fast."""
    with Runner(FakeSystem(horizon=60)) as runner:
        for episode in (1, 2):
            runner.reset()
            for step in range(20):
                runner.step(replace(observation(step), time=step * factor / FPS))
            assert runner.incidents.counts.get("control_rate", 0) == number * episode
    assert all("runs at " in incident.text for incident in runner.incidents)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0], ids=str)
def test_a_time_that_is_none_is_refused_before_the_frame_is_taken_in(bad: float):
    """NaN was a raw error of Python's, after System 2 had taken the frame; so had a time that does not rise."""
    system = FakeSystem(horizon=60)
    with Runner(system, refresh_every=1) as runner:
        runner.reset()
        runner.step(observation(0))
        with pytest.raises(ValueError, match=r"Observation\.time (is|must rise)"):
            runner.step(replace(observation(7), time=bad))
        with pytest.raises(ValueError, match=r"Observation\.time (is|must rise)"):
            runner.let(np.zeros(2, np.float32), replace(observation(7), time=bad))
        runner.step(observation(1))
        assert system.newest_frames == [0, 1]
        assert not runner.incidents.counts


def test_a_clock_that_stands_still_is_told_as_often_as_it_is_tried():
    """Its intervals of 0 s were counted, and the tenth try divided by them."""
    with Runner(FakeSystem(horizon=60)) as runner:
        runner.reset()
        runner.step(observation(0))
        for _ in range(12):
            with pytest.raises(ValueError, match=r"Observation\.time must rise"):
                runner.step(observation(0))


def test_an_instruction_that_is_none_is_refused_at_once():
    with Runner(FakeSystem()) as runner:
        runner.reset()
        runner.step(observation(0))
        object.__setattr__(untold := observation(1), "instruction", None)
        with pytest.raises(ValueError, match="the instruction of an observation is a sentence, got None"):
            runner.policy.observe(untold)  # the runner copies it before, which the type checker of the tests refuses


def test_an_action_by_hand_that_is_clamped_is_counted():
    with Runner(FakeSystem(), limits=Limits((-1.0, -1.0), (1.0, 1.0))) as runner:
        runner.reset()
        assert list(runner.let(np.array([9.0, 0.0], np.float32), observation(0))) == [1.0, 0.0]
        assert runner.incidents.counts == {"action_outside_limits": 1}


def test_a_step_by_hand_is_watched_with_its_own_flags():
    """It had those of the policy's last step."""
    seen = []

    class Watching:
        def on_reset(self, observation: Observation) -> None: ...

        def on_step(self, observation: Observation, decision: Decision) -> None:
            seen.append((decision.is_clamped, decision.is_held))

    with Runner(FakeSystem(), limits=Limits((-1.0, -1.0), (2.0, 1.0)), watch=Watching()) as runner:
        runner.reset()
        runner.step(observation(3))  # the action is 3
        for step, target in enumerate((0.5, 9.0), start=4):
            runner.let(np.array([target, 0.0], np.float32), observation(step))
        runner.let(np.array([0.5, 0.0], np.float32), observation(6))
    assert seen == [(True, False), (False, False), (True, False), (False, False)]
    limits = Limits((-1.0, -1.0), (5.0, 1.0))
    with Runner(FakeSystem(), limits=limits, outside_limits="hold", watch=Watching()) as runner:
        runner.reset()
        runner.step(observation(3))
        runner.let(np.array([9.0, 0.0], np.float32), observation(4))
        assert seen[-1] == (False, True)
        assert runner.rates.held_steps == 1


@pytest.mark.parametrize("system1", ["inline", "thread"])
def test_an_environment_may_draw_into_the_same_memory(system1: str):
    """System 1 in its thread planned on a later picture and state than it said, and films showed the last frame."""

    class Reading(FakeSystem):
        config = replace(FakeSystem.config, cameras=("top", "top@1"))

        def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
            threading.Event().wait(0.5 / FPS)
            numbers = [int(observation.images[camera][0, 0, 0]) for camera in ("top", "top@1")]
            read.append((round(observation.time * FPS), *numbers, int(observation.state[0])))
            return super().act(observation, condition)

    read: list[tuple[int, ...]] = []
    recorder = Recorder((MOTION,), FPS, explain=lambda clips, cameras: {})
    image, state = np.zeros((8, 8, 3), np.uint8), np.zeros(2, np.float32)
    system = Reading(horizon=60)
    with Runner(system, system1=system1, system2="thread", refresh_every=1, watch=recorder) as runner:
        runner.reset()
        for step in range(1, 13):
            image[:], state[0] = step, step
            runner.step(replace(observation(step), images={"top": image}, state=state))
            threading.Event().wait(1 / FPS)
    assert read == [(step, step, max(1, step - 1), step) for step, *_ in read]
    assert len(read) >= 3
    frames = recorder.recording().frames["top"][:, 0, 0, 0]
    assert frames.tolist() == list(range(1, 13))
    assert recorder.trace().states[:, 0].tolist() == list(range(1, 13))
    assert set(system.newest_frames) <= set(range(1, 13))


def test_an_episode_begins_when_the_last_plan_of_the_one_before_is_done():
    """The next episode began, and the plan of the last one was then its newest."""

    class Slow(FakeSystem):
        def begin_episode(self) -> None:
            calls.append("begin")

        def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
            chunk = super().act(observation, condition)
            threading.Event().wait(0.05)
            calls.append("planned")
            return chunk

    calls: list[str] = []
    with Runner(Slow(horizon=60), system1="thread") as runner:
        runner.reset()
        for step in range(4):
            runner.step(observation(step))
        runner.reset()
        assert calls == ["begin", "planned", "planned", "begin"]
        assert runner.condition is None
        assert isinstance(runner.policy, DualPolicy)
        assert runner.policy.condition is None


def seldom(system: FakeSystem) -> dict[str, Any]:
    """System 2 is refreshed at the first control step only."""
    return {"system2": InlineSlowLoop(system, RefreshSpec((MOTION,), refresh_every=100, control_fps=FPS))}


@pytest.mark.parametrize("when_stale", ["hold", "error", "wait"])
def test_a_limit_that_no_condition_can_keep_is_refused(when_stale: str):
    """At 10 Hz and a refresh every 8 steps, half a second made a healthy robot hold a third of the time."""
    message = (
        r"max_staleness_s=0\.05 is shorter than the 0\.16 s that frames grow old between two refreshes of "
        r"System 2 \(every 8 control steps at 50 Hz\).*\(refresh_every=2\), or set when_stale=inline, or raise "
        r"max_staleness_s to 0\.16 s"
    )
    with pytest.raises(ValueError, match=message):
        Runner(FakeSystem(), refresh_every=8, max_staleness_s=0.05, when_stale=when_stale)
    Runner(FakeSystem(), refresh_every=8, max_staleness_s=0.16, when_stale=when_stale).close()
    Runner(FakeSystem(), refresh_every=8, max_staleness_s=0.0, when_stale="inline").close()


class TestLimitsOfStreamsThatLookSeldom:
    """A limit that no frame could keep was accepted: only `refresh_every` counted, not how often streams look."""

    @staticmethod
    def begin(every: int, refresh_every: int, limit_steps: float, when_stale: WhenStale = "hold") -> None:
        spec = RefreshSpec((MOTION, replace(MOTION, name="seldom", every=every)), refresh_every, FPS)
        check_staleness_limit(RuntimeConfig(max_staleness_s=limit_steps / FPS, when_stale=when_stale), spec)

    @pytest.mark.parametrize(
        ("every", "refresh_every", "least"),
        [(1, 8, 8), (4, 1, 4), (4, 4, 4), (4, 8, 8), (4, 6, 8), (4, 3, 6), (12, 8, 16), (3, 2, 4)],
    )
    def test_the_least_limit_counts_the_age_of_frames(self, every: int, refresh_every: int, least: int):
        self.begin(every, refresh_every, least)
        with pytest.raises(ValueError, match="is shorter than the"):
            self.begin(every, refresh_every, least - 0.5)
        # by hand: refreshes at 0, n, 2n, ... on frames 0, every, 2 every, ...
        moments = range(5 * every * refresh_every)
        ages = [step - (step - step % refresh_every) // every * every for step in moments]
        assert max(ages) == least - 1, "the limit leaves one control step for the refresh"

    def test_the_remedy_helps(self):
        with pytest.raises(
            ValueError, match=r"at 50 Hz, and a stream looks every 4\).*\(refresh_every=8\).*0\.24 s and"
        ):
            self.begin(4, 10, 8)
        self.begin(4, 8, 8)
        self.begin(4, 10, 12)

    def test_a_refresh_in_the_control_loop_cannot_help_where_no_frame_is_new(self):
        with pytest.raises(
            ValueError, match=r"shorter than the 0\.06 s that System 2's newest frame may be old.*0\.16 s"
        ):
            self.begin(4, 8, 2, "inline")
        self.begin(4, 8, 3, "inline")


def test_all_steps_at_which_the_robot_stood_still_are_counted():
    """An incident is one while it lasts: a robot stood still for 77 of 90 steps, and four of them said so."""
    with Runner(FakeSystem(), **seldom(FakeSystem()), execute_steps=2, max_staleness_s=3 / FPS) as runner:
        runner.reset()
        for step in range(10):
            runner.step(observation(step))
        assert runner.incidents.counts == {"stale_condition": 1}
        assert runner.rates.held_steps == 6
        runner.reset()
        runner.step(observation(0))
        assert runner.rates.held_steps == 0


def test_an_old_condition_is_not_blamed_on_a_clipped_state():
    class FarOut(FakeSystem):
        def state_problem(self, observation: Observation) -> str:
            return "x = 9"

    with Runner(FarOut(), **seldom(FarOut()), execute_steps=2, max_staleness_s=3 / FPS) as runner:
        runner.reset()
        for step in range(10):
            runner.step(observation(step))
        old = [incident.text for incident in runner.incidents if incident.kind == "stale_condition"]
    assert old == ["the video condition is 0.080 s old, and max_staleness_s is 0.06"]


FRAME = np.full((8, 8, 3), 7, np.uint8)
NO_IMAGES = {
    "missing": (None, "System 1 reads camera 'top', but the observation has wrist"),
    "failed": ("gone", r"camera 'top' must be uint8 \[height width 3\], got str; for a camera that fails"),
    "0 to 1": (
        FRAME / np.float32(255),
        r"got float32 \[8, 8, 3\]; give \(255 \* image\)\.round\(\)\.astype\('uint8'\), ",
    ),
    "channels first": (FRAME.transpose(2, 0, 1), r"got uint8 \[3, 8, 8\]; give image\.transpose\(1, 2, 0\)$"),
    "both": (
        FRAME.transpose(2, 0, 1) / np.float32(255),
        r"give \(255 \* image\.transpose\(1, 2, 0\)\)\.round\(\)\.astype\('uint8'\), if its numbers are from 0 to 1",
    ),
    "wide": (FRAME.astype(np.int64), r"got int64 \[8, 8, 3\]; give image\.astype\('uint8'\), if 255 is white"),
    "grey": (FRAME[..., 0], r"got uint8 \[8, 8\]"),
    "with alpha": (np.dstack([FRAME, FRAME[..., :1]]), r"got uint8 \[8, 8, 4\]; give image\[\.\.\., :3\]$"),
    "empty": (FRAME[:0], r"got uint8 \[0, 8, 3\]"),
}


@pytest.mark.parametrize("camera", ["top", "top@2"])
@pytest.mark.parametrize("case", NO_IMAGES)
def test_what_is_no_image_is_refused_at_every_control_step(case: str, camera: str):
    """Numbers of 0 to 1 were rounded to a black image, without a word; a camera that failed was an AttributeError, and
    only where a plan began."""
    found, message = NO_IMAGES[case]
    config = replace(FakeSystem.config, cameras=(camera,), system2=None)
    system = FakeSystem()
    system.config = config
    with Runner(system, execute_steps=4) as runner:
        runner.reset()
        runner.step(observation(0))
        bad = observation(1)
        bad.images["wrist"] = bad.images.pop("top")
        if found is not None:
            bad.images["top"] = found
        with pytest.raises(ValueError, match=message):
            runner.step(bad)
        assert runner.step(observation(2))[0] == 2  # the episode goes on


@pytest.mark.parametrize("bad", [[np.nan, 0.0, 0.0], [0.0]], ids=["not finite", "too short"])
def test_a_state_that_is_none_is_refused_at_every_control_step(bad: list[float]):
    """It was noticed where a plan began, and between plans never."""
    system = FakeSystem()
    system.config = replace(FakeSystem.config, state_dim=3)
    states = [np.zeros(3, np.float32), np.array(bad, np.float32)]
    with Runner(system, execute_steps=4) as runner:
        runner.reset()
        runner.step(replace(observation(0), state=states[0]))
        with pytest.raises(ValueError, match=r"not finite|a state of 3 numbers"):
            runner.step(replace(observation(1), state=states[1]))
        runner.step(replace(observation(2), state=states[0]))


def test_after_a_plan_that_failed_the_next_one_is_tried_at_the_next_step():
    """It was tried where the failed plan would have ended."""

    class Fails(FakeSystem):
        def act(self, observation: Observation, condition: VideoCondition):
            if observation.time == 4 / FPS:
                raise ValueError("a sensor")
            return super().act(observation, condition)

    system = Fails()
    with Runner(system, **seldom(system), execute_steps=4) as runner:
        runner.reset()
        decided = [runner.decide(observation(step)).is_new_plan for step in range(4)]
        with pytest.raises(ValueError, match="a sensor"):
            runner.step(observation(4))
        decided += [runner.decide(observation(step)).is_new_plan for step in (5, 6)]
    assert decided == [True, False, False, False, True, False]


def test_a_jump_of_the_clock_is_noted_once():
    """A clock that went from seconds since the start to seconds since 1970 gave no sign."""
    with Runner(FakeSystem(horizon=60)) as runner:
        runner.reset()
        for time in (0, 1, 2, 1e9, 1e9 + 1, 1e9 + 2):
            runner.step(replace(observation(0), time=time / FPS))
        assert runner.incidents.counts == {"time_gap": 1}
    assert "2e+07 s between two observations" in next(i.text for i in runner.incidents if i.kind == "time_gap")


def test_another_instruction_within_an_episode_refreshes_at_once():
    system = FakeSystem()
    with Runner(system, refresh_every=100) as runner:
        runner.reset()
        for step in range(3):
            runner.step(observation(step))
        runner.step(observation(3, "pull"))
        runner.step(observation(4, "pull"))
    assert system.newest_frames == [0, 3]


def test_how_long_a_first_condition_may_take_is_an_option():
    """It was a minute, whatever the first refresh had to compile or to read."""
    system = GatedSystem()
    with Runner(system, system2="thread", first_condition_timeout_s=0.05) as runner:
        runner.reset()
        with pytest.raises(TimeoutError, match=r"no condition for episode 0 within 0\.05 s.*first_condition_timeout_s"):
            runner.step(observation(0))
        system.let_pass(2)


def test_a_finished_policy_is_driven_too():
    class Scripted:
        def reset(self) -> None: ...
        def observe(self, observation: Observation) -> None: ...
        def infer(self, observation: Observation) -> ActionChunk:
            return ActionChunk(np.full((4, 2), observation.state[0]), observation.time, 1 / FPS)

    environment = FakeEnvironment(6)
    assert run_episode(environment, Runner(Scripted(), execute_steps=3), seed=0).num_steps == 6
    assert [action[0] for action in environment.actions] == [0, 0, 0, 3, 3, 3]
    with pytest.raises(ValueError, match="Scripted does not say how often it plans: give execute_steps"):
        Runner(Scripted())
    with pytest.raises(ValueError, match="Scripted brings its own System 2"):
        Runner(Scripted(), execute_steps=3, system2="thread")


def test_to_hold_is_zero_where_an_action_is_relative():
    names = {"action_names": ("x", "y"), "relative_actions": ("x",), "limits": Limits((0.0, -1.0), (3.0, 1.0))}
    with Runner(FakeSystem(), outside_limits="hold", **names) as runner:
        runner.reset()
        assert [runner.step(observation(step))[0] for step in range(6)] == [0, 1, 2, 3, 0, 0]
        assert runner.incidents.counts == {"action_outside_limits": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"system2": "gpu"}, "inline, in a thread, in a process, or at ws://host:port; got 'gpu'"),
        ({"system2": "process"}, "needs load_system2.*FakeSystem has no folder"),
        ({"overlap": "rtc", "system2": "thread"}, "needs a system that can continue a plan"),
        ({"execute_steps": 0, "system2": "thread"}, "execute_steps counts control steps"),
        ({"refresh_every": 0, "system2": "thread"}, "refresh_every counts control steps"),
        (
            {"limits": Limits((0.0,), (1.0,)), "system2": "thread"},
            "limits are for 1 numbers, but an action of this policy has 2",
        ),
        ({"limits": "data", "system2": "thread"}, "needs the statistics of the demonstrations.*serve --limits data`"),
        ({"outside_limits": "hold", "system2": "thread"}, "outside_limits='hold' needs limits; set limits, or leave"),
        ({"relative_actions": ("z",), "system2": "thread"}, "relative_actions names z"),
        # options that were taken and had no effect
        ({"slack_s": 0.5}, "slack_s=0.5 has no effect without when_stale=wait; set both, or leave slack_s out"),
        ({"guidance": 2.0}, "guidance=2.0 has no effect without overlap=rtc"),
        ({"ensemble_decay": 0.1}, "ensemble_decay=0.1 has no effect without overlap=temporal_ensemble"),
        ({"when_stale": "error"}, "when_stale=error has no effect without max_staleness_s"),
        ({"hang_timeout_s": 1.0}, "hang_timeout_s would have no effect with system2='inline'; leave it out"),
        ({"system2_device": "cpu", "system2": "thread"}, "system2_device would have no effect with system2='thread'"),
    ],
)
def test_a_wrong_option_is_an_error_before_anything_is_started(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Runner(FakeSystem(), **options)
    assert not any(thread.name == "system2" for thread in threading.enumerate())


def test_an_unknown_option_is_named_beside_those_that_there_are():
    with pytest.raises(TypeError, match=r"no option max_stalenes_s; those of the runtime are .*max_staleness_s"):
        Runner(FakeSystem(), max_stalenes_s=1.0)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"refresh_every": 1}, "refresh_every"),
        ({"hang_timeout_s": 3.0, "load_system2": counting}, "load_system2, hang_timeout_s"),
        ({"simulate_latency": SimulatedLatency(system2=0.1)}, "simulate_latency"),
    ],
)
def test_options_that_a_slow_loop_would_ignore_are_refused(options: dict[str, Any], named: str):
    """They had no effect: System 2 was refreshed as the loop did it."""
    with pytest.raises(ValueError, match=f"so {named} would have no effect; make the loop with them"):
        Runner(FakeSystem(), **seldom(FakeSystem()), **options)


def test_a_slow_loop_that_was_passed_in_is_not_closed():
    loop = ThreadSlowLoop(FakeSystem(), RefreshSpec((MOTION,), 1, FPS))
    Runner(FakeSystem(), system2=loop).close()
    loop.reset(0)
    loop.observe(observation(0))
    assert loop.condition().episode == 0
    loop.close()


def test_an_old_condition_shows_and_is_one_incident():
    system = GatedSystem()
    with Runner(system, system2="thread", refresh_every=3, max_staleness_s=3 / FPS) as runner:
        runner.reset()
        system.let_pass()
        for step in range(10):
            runner.step(observation(step))
        assert runner.decision is not None
        assert runner.decision.is_held
        assert runner.incidents.counts == {"stale_condition": 1}
        system.let_pass(100)
        wait_until(lambda: len(system.newest_frames) > 1)


def test_a_policy_of_a_folder_brings_system_2_into_a_process(
    small_config: PolicyConfig, make_policy: Callable[[PolicyConfig], Video2Act], tmp_path: Path
):
    make_policy(small_config).save(tmp_path)
    policy = Video2Act.load(tmp_path)
    image = np.zeros((32, 32, 3), np.uint8)
    with Runner(policy, system2="process", instruction="push", limits="data+10%") as runner:
        runner.reset()
        for step in range(3):
            seen = Observation({"front": image, "wrist": image}, np.zeros(3, np.float32), "push", step / 20)
            assert np.isfinite(runner.step(seen)).all()
    assert isinstance(policy.system2_loader(), partial)
    with pytest.raises(ValueError, match="loaded from a run folder, and this policy has none"):
        Runner(make_policy(small_config), system2="process")


def test_the_configuration_says_how_often_both_systems_run():
    system = FakeSystem(horizon=8)
    with Runner(system) as runner:
        runner.reset()
        for step in range(12):
            runner.step(observation(step))
    assert system.newest_frames == list(range(0, 12, CONFIG.refresh_every))
    assert [round(c.observed_at * FPS) for c in system.conditions] == [0, 0, 0, 0, 8, 8]


def test_a_new_episode_has_decided_nothing_and_counts_from_its_own_beginning():
    with Runner(FakeSystem(), refresh_every=4, execute_steps=2) as runner:
        for first in (0, 1000):
            runner.reset()
            assert runner.decision is runner.condition is runner.staleness_s is None
            assert runner.rates.control_hz == 0.0
            for step in range(first, first + 20):
                runner.step(observation(step))
            rates = runner.rates
            assert (rates.control_hz, rates.system1_hz) == (pytest.approx(FPS), pytest.approx(FPS / 2))
            assert rates.system2_hz == pytest.approx(FPS / 4)


def test_a_blind_system_is_shown_nothing():
    """`Runner(policy, is_blind=True)` failed unless the policy was blind itself."""

    class Remembers(FakeSystem):
        config = replace(CONFIG, cameras=("top", "top@2"))
        is_blind = False

        def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
            cameras.append(sorted(observation.images))
            return super().act(observation, condition)

    cameras: list[list[str]] = []
    system = Remembers()
    for system.is_blind in (False, True):
        with Runner(system) as runner:
            runner.reset()
            runner.step(observation(0))
    assert cameras == [["top", "top@2"], ["top"]]
    assert [sorted(clips) for clips in system.clips] == [["motion"], []]
    with Runner(system) as runner:
        runner.reset()
        runner.step(replace(observation(0), images={}))


def test_before_the_first_action_there_is_nothing_to_hold():
    """A camera that failed at the first step gave `None` as the action to send."""
    with Runner(FakeSystem()) as runner, pytest.raises(ValueError, match="no action to hold yet"):
        runner.hold_action(None)
