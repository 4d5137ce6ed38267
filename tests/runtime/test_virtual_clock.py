"""Latency on the simulator's clock: what is delivered when; it is reproducible, and no latency is lockstep."""

import numpy as np
import pytest
from runtime_fakes import FPS, MOTION, FakeEnvironment, FakeSystem, observation

from video2act.config import RuntimeConfig, SimulatedLatency
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.control_loop import EpisodeResult, run_episode
from video2act.runtime.places import check_virtual
from video2act.runtime.runner import Runner
from video2act.runtime.virtual_clock import Durations, VirtualSlowLoop, steps_of

PERIOD = 1 / FPS


def run(
    latency: SimulatedLatency,
    refresh_every: int = 1,
    execute_steps: int = 2,
    horizon: int = 8,
    seed: int = 0,
    steps: int = 30,
) -> tuple[EpisodeResult, list[float], Runner]:
    environment = FakeEnvironment(steps)
    runner = Runner(
        FakeSystem(horizon), refresh_every=refresh_every, execute_steps=execute_steps, simulate_latency=latency
    )
    result = run_episode(environment, runner, seed=seed)
    return result, [float(action[0]) for action in environment.actions], runner


def in_steps(seconds: list[float | None]) -> list[int]:
    return [round((value or 0) * FPS) for value in seconds]


@pytest.mark.parametrize("n", [1, 3])
def test_no_latency_is_lockstep_exactly(n: int):
    environment, in_lockstep = FakeEnvironment(30), Runner(FakeSystem(8), refresh_every=n, execute_steps=2)
    inline = run_episode(environment, in_lockstep, seed=0)
    virtual, actions, virtually = run(SimulatedLatency(), refresh_every=n)
    assert actions == [float(action[0]) for action in environment.actions]
    assert virtually.take_times().staleness_s == in_lockstep.take_times().staleness_s
    assert [s.condition_version for s in virtual.steps] == [s.condition_version for s in inline.steps]
    assert [s.is_new_plan for s in virtual.steps] == [s.is_new_plan for s in inline.steps]


def test_a_condition_is_used_from_the_first_control_step_at_which_it_is_there():
    # 50 ms are 2.5 control steps: seen at 0 (waited for), then begun at 0+, there at 3, begun again, there at 6, ...
    loop = VirtualSlowLoop(
        FakeSystem(),
        RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS),
        durations=Durations(SimulatedLatency(system2=0.05)),
    )
    loop.reset(0)
    seen = []
    for step in range(10):
        loop.observe(observation(step))
        seen.append(round(loop.condition().observed_at * FPS))
    assert seen == [0, 0, 0, 0, 1, 1, 1, 4, 4, 4]


def test_system_2_is_not_begun_more_often_than_every_n_steps():
    system = FakeSystem()
    loop = VirtualSlowLoop(
        system,
        RefreshSpec((MOTION,), refresh_every=5, control_fps=FPS),
        durations=Durations(SimulatedLatency(system2=PERIOD)),
    )
    loop.reset(0)
    for step in range(12):
        loop.observe(observation(step))
    assert system.newest_frames == [0, 5, 10]


def test_the_first_actions_of_a_late_plan_are_dropped():
    # a plan takes 2.5 control steps: it takes over at its fourth action, and the robot has moved on meanwhile
    result, actions, _ = run(SimulatedLatency(system1=0.05), execute_steps=4)
    assert actions == list(range(30)), "every action is executed at the very step it was meant for"
    assert in_steps([step.plan_age_s for step in result.steps])[:15] == [0, 1, 2, 3, 4, 5, 6, 3, 4, 5, 6, 3, 4, 5, 6]
    assert not any(step.is_held for step in result.steps)


def test_a_plan_that_is_too_short_for_its_latency_makes_the_robot_hold():
    result, actions, _ = run(SimulatedLatency(system1=0.1), execute_steps=4, horizon=4)
    # the first plan's four actions, and then nothing: every later plan is over when it arrives
    assert actions[:8] == [0, 1, 2, 3, 3, 3, 3, 3]
    assert result.steps[-1].is_held


def test_the_same_seed_gives_the_same_episode_and_another_one_another():
    latency = SimulatedLatency(system1=0.03, system2=0.08, jitter=0.025)

    def outcome(seed: int) -> tuple[list[float], list[int]]:
        result, actions, _ = run(latency, seed=seed)
        return actions, in_steps([step.staleness_s for step in result.steps])

    assert outcome(3) == outcome(3)
    assert outcome(3) != outcome(4)


def test_how_often_one_system_runs_does_not_change_the_others_durations():
    durations = Durations(SimulatedLatency(0.1, 0.1, 0.05))
    first = [durations.draw("system2") for _ in range(3)]
    durations.seed(0)
    for _ in range(5):
        durations.draw("system1")
    assert [durations.draw("system2") for _ in range(3)] == first
    assert all(0.05 <= draw <= 0.15 for draw in first)
    assert Durations(SimulatedLatency(0.1, 0.1, 0.05)).draw("system1") != first[0]
    assert len(set(first)) == 3


def test_durations_lie_evenly_around_their_mean_and_are_never_negative():
    around, short = Durations(SimulatedLatency(0.1, 0.2, 0.05)), Durations(SimulatedLatency(0.01, 0.01, 0.05))
    draws = [around.draw("system1") for _ in range(200)]
    assert min(draws) == pytest.approx(0.05, abs=0.003)
    assert max(draws) == pytest.approx(0.15, abs=0.003)
    assert sum(draws) / 200 == pytest.approx(0.1, abs=0.005)
    assert (around.longest("system1"), around.longest("system2")) == pytest.approx((0.15, 0.25))
    assert min(short.draw("system2") for _ in range(50)) == 0.0


@pytest.mark.parametrize(("latency", "steps"), [(0.0, 0), (0.02, 1), (0.021, 2), (0.1, 5), (0.1000001, 6)])
def test_control_steps_of_a_latency(latency: float, steps: int):
    assert steps_of(latency, 50.0) == steps


def test_rounding_of_the_clock_does_not_cost_a_step():
    # 0.1 s at 30 Hz is 3 steps exactly, but not in binary
    for rate in (10.0, 30.0, 50.0, 60.0, 80.0):
        for count in range(1, 50):
            assert steps_of(count * (1 / rate), rate) == count
            assert steps_of(float(np.sum(np.full(count, 1 / rate))), rate) == count


@pytest.mark.parametrize(
    ("text", "latency"),
    [
        ("system1=60ms,system2=400ms,jitter=20ms", SimulatedLatency(0.06, 0.4, 0.02)),
        ("system2=1.5s", SimulatedLatency(system2=1.5)),
        (" system1 = 0ms , system2=0s", SimulatedLatency()),
    ],
)
def test_a_latency_is_read(text: str, latency: SimulatedLatency):
    assert SimulatedLatency.parse(text) == latency
    assert SimulatedLatency.parse(str(latency)) == latency


@pytest.mark.parametrize("text", ["system1=60", "system3=60ms", "60ms", "", "system1=-5ms", "system1=5ms,system1=6ms"])
def test_a_latency_that_is_not_understood_is_refused_with_an_example(text: str):
    with pytest.raises(ValueError, match=r"expected system1=60ms|given twice"):
        SimulatedLatency.parse(text)


def test_what_a_virtual_clock_cannot_simulate_is_refused():
    with pytest.raises(ValueError, match="computes both systems inline"):
        check_virtual("process", RuntimeConfig())
    with pytest.raises(ValueError, match="system1='thread'"):
        check_virtual("inline", RuntimeConfig(system1="thread"))
    with pytest.raises(ValueError, match="waits on this machine's clock"):
        check_virtual("inline", RuntimeConfig(max_staleness_s=1.0, when_stale="wait"))
