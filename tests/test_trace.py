"""A trace holds what was sent, when plans were made and took over, and what they were made on."""

import numpy as np
import pytest

from video2act.interfaces import Decision
from video2act.trace import Tracer, trace_of
from video2act.types import ActionChunk, Observation, Plan


def watched(num_steps: int = 6) -> Tracer:
    """Plans of steps 0 and 3; each takes over one step after its observation."""
    tracer = Tracer()
    for step in range(num_steps):
        made = max(0, (step - 1) // 3 * 3)
        chunk = ActionChunk(np.full((4, 2), made, np.float64), made / 10, 0.1)
        seen = Observation({}, np.array([step, 0.5], np.float32), "push", step / 10)
        if step == 0:
            tracer.on_reset(seen)
        action, is_new = np.array([step, 1.0]), step in (0, 4)
        tracer.on_step(seen, Decision(action, Plan(chunk, None), is_new, is_held=False, is_clamped=False))
    return tracer


def test_a_plan_is_at_the_step_of_its_observation_and_taken_when_it_came():
    trace = watched().trace()
    assert trace.plan_steps.tolist() == [0, 3]
    assert trace.taken_steps.tolist() == [0, 4]
    assert trace.condition_steps.tolist() == [0, 1, 2, 3, 4, 5]  # no condition is reported: as fresh as can be
    assert trace.actions[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_trace_comes_back_the_same():
    trace = watched().trace()
    back = trace_of(trace.arrays())
    for name, array in trace.arrays().items():
        assert np.array_equal(getattr(back, name), array)
        assert getattr(back, name).dtype == array.dtype


def test_a_new_episode_begins_anew_and_nothing_watched_is_an_error():
    tracer = watched()
    tracer.on_reset(Observation({}, np.zeros(2, np.float32), "push", 0.0))
    with pytest.raises(ValueError, match="no step was watched"):
        tracer.trace()
