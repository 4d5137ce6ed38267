"""One robot of several in the unified vector: its own numbers, in its own order, from the same weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from video2act.config import PolicyConfig
from video2act.embodiment import EMBODIMENTS, FIELDS, UNIFIED, UNIFIED_DIM
from video2act.policy import Video2Act
from video2act.statistics import Statistics
from video2act.system1 import Visibility
from video2act.types import Batch, Observation, Tokens, VideoCondition

ROBOT = "one_arm_position"
PLACES = [FIELDS[name] for name in EMBODIMENTS[ROBOT]]


def statistics(offset: float) -> Statistics:
    """Another mean and another deviation in every dimension."""
    mean, std = offset + torch.arange(UNIFIED_DIM) / 10, 1 + torch.arange(UNIFIED_DIM) / 100
    parts = (mean, std, mean - 3 * std, mean + 3 * std)
    return Statistics(*(tuple(part.tolist()) for part in parts))  # type: ignore[arg-type]


@pytest.fixture
def policy(small_config: PolicyConfig) -> Video2Act:
    config = replace(
        small_config,
        state_dim=UNIFIED_DIM,
        action_dim=UNIFIED_DIM,
        system1=replace(small_config.system1, embodiment=UNIFIED),
        cameras=(),
        system2=None,
    )
    torch.manual_seed(0)
    return Video2Act(config, {"state": statistics(0.0), "action": statistics(5.0)}).eval()


def test_it_takes_and_gives_the_robots_own_numbers(policy: Video2Act):
    robot = policy.of_robot(ROBOT)
    size = len(PLACES)
    assert (robot.config.state_dim, robot.config.action_dim, robot.config.system1.embodiment) == (size, size, ROBOT)
    assert robot.statistics["action"].mean == tuple(policy.statistics["action"].mean[place] for place in PLACES)
    for own, whole in (
        (robot.normalize_state, policy.normalize_state),
        (robot.normalize_action, policy.normalize_action),
    ):
        assert torch.equal(own.shift, whole.shift[PLACES])
        assert torch.equal(own.scale, whole.scale[PLACES])
    state = np.array([0.1, 0.7, -0.4, 0.2], np.float32)
    condition = VideoCondition(Tokens.empty(1, 32, like=torch.zeros(1)), 1.0, 0, 1)
    robot.seed(3)
    chunk = robot.act(Observation({}, state, "push", 1.0), condition)
    assert chunk.actions.shape == (4, size)
    assert (abs(chunk.actions - np.array(robot.statistics["action"].mean)) < 20).all()


def test_the_policy_of_all_robots_stays_as_it_was(policy: Video2Act):
    robot = policy.of_robot(ROBOT)
    assert (policy.config.state_dim, policy.normalize_state.shift.shape) == (UNIFIED_DIM, (UNIFIED_DIM,))
    assert policy.system1.config.embodiment == UNIFIED
    assert robot.system1.dit is policy.system1.dit
    with pytest.raises(ValueError, match="is of one robot"):
        robot.of_robot(ROBOT)


def test_what_a_robot_lacks_teaches_nothing(policy: Video2Act):
    """Neither its place in the state nor in the actions, whatever is written there."""
    mask = torch.zeros(2, UNIFIED_DIM)
    mask[0, PLACES] = 1
    mask[1, PLACES[:2]] = 1
    generator = torch.Generator().manual_seed(0)
    state, actions = (torch.randn(*shape, generator=generator) for shape in ((2, UNIFIED_DIM), (2, 4, UNIFIED_DIM)))

    def loss(state: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        is_pad = torch.zeros(2, 4, dtype=torch.bool)
        batch = Batch({}, {}, state, ["push", "pull"], actions, is_pad, torch.zeros(2), dimension_mask=mask)
        return policy(batch, torch.Generator().manual_seed(1))

    before = loss(state, actions)
    written = 1 - mask
    assert torch.equal(loss(state + 9 * written, actions + 9 * written[:, None]), before)
    assert loss(state + mask, actions) != before
    assert loss(state, actions + mask[:, None]) != before


def test_every_robot_counts_the_same_however_many_dimensions_it_has(policy: Video2Act, monkeypatch: pytest.MonkeyPatch):
    """A network that always says 7: the loss is the mean over samples of the mean over their own dimensions."""
    monkeypatch.setattr(policy.system1.dit, "forward", lambda noisy, *rest: torch.full_like(noisy, 7.0))
    mask = torch.zeros(2, UNIFIED_DIM)
    mask[0, PLACES] = 1
    mask[1, PLACES[:2]] = 1
    actions = torch.randn(2, 4, UNIFIED_DIM, generator=torch.Generator().manual_seed(0)) + 5
    is_pad = torch.zeros(2, 4, dtype=torch.bool)
    batch = Batch(
        {}, {}, torch.zeros(2, UNIFIED_DIM), ["push", "pull"], actions, is_pad, torch.zeros(2), dimension_mask=mask
    )
    assert policy.config.system1.denoising.prediction == "sample"
    squares = (7 - policy.normalize_action.normalize(actions)).square()
    own = [squares[i][:, mask[i] == 1].mean() for i in range(2)]
    assert policy(batch, torch.Generator().manual_seed(1)).item() == pytest.approx(float(sum(own)) / 2, rel=1e-5)


def test_a_state_that_is_hidden_says_nothing(policy: Video2Act):
    robot = policy.of_robot(ROBOT)
    shown, hidden = (Visibility.full(1, torch.device("cpu")), torch.zeros(1, dtype=torch.bool))
    video = Tokens.empty(1, robot.config.system1.hidden, like=torch.zeros(1))

    def state_token(value: float, visible: Visibility) -> torch.Tensor:
        conditions = robot.system1.gather(["push"], {}, video=video, visible=visible)
        state = torch.full((1, len(PLACES)), value)
        return robot.system1.project(conditions, state, staleness=torch.zeros(1), visible=visible).state

    assert not torch.allclose(state_token(1.0, shown), state_token(2.0, shown), atol=1e-4)
    unseen = replace(shown, state=hidden)
    assert torch.equal(state_token(1.0, unseen), state_token(2.0, unseen))
    assert not torch.allclose(state_token(0.0, shown), state_token(0.0, unseen), atol=1e-4)
