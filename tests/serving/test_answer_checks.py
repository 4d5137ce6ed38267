"""What a server answers is checked against its contract: a robot was driven by one row, or at a tenth of its rate."""

from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from serving_fakes import CONTRACT, PERIOD_S, observation, serving

from video2act.clips import to_pixels
from video2act.config import PolicyConfig
from video2act.interfaces import System2Error
from video2act.refresh_rule import RefreshSpec
from video2act.serving.answer_checks import read_plan, read_tokens
from video2act.serving.client import RemotePolicy, RemoteSystem2
from video2act.serving.codec import MessageError
from video2act.serving.contract import Contract

PLAN: dict[str, Any] = {"actions": np.zeros((4, 2), np.float32), "period_s": PERIOD_S, "observed_at": 1.0}
TOKENS: dict[str, Any] = {"tokens": np.zeros((1, 3, 8), np.float32), "mask": np.ones((1, 3), bool)}
NAN = np.array([[0, 0], [0, np.nan], [0, 0], [0, 0]], np.float32)


class Liar:
    """A session that answers the same to every message."""

    is_first = False

    def __init__(self, answer: dict[str, Any]):
        self._answer = answer

    def answer(self, message: Any) -> dict[str, Any]:
        return self._answer

    def close(self) -> None:
        """Nothing to end."""


def test_a_good_plan_is_read():
    plan = read_plan(PLAN, CONTRACT, newest_time=1.0)
    assert (plan.actions.shape, plan.observed_at, plan.period) == ((4, 2), 1.0, PERIOD_S)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"actions": None}, r"'actions' is an array of float32 \[4 2\], but its answer has nothing"),
        ({"actions": [[0.0, 0.0]] * 4}, r"\[4 2\], but its answer has list"),
        ({"actions": np.zeros((1, 2), np.float32)}, r"\[4 2\], but its answer has an array of float32 \[1, 2\]"),
        ({"actions": np.zeros((4, 3), np.float32)}, r"an array of float32 \[4, 3\]"),
        ({"actions": np.zeros(8, np.float32)}, r"an array of float32 \[8\]"),
        ({"actions": np.zeros((4, 2), np.uint8)}, r"an array of uint8 \[4, 2\]"),
        ({"actions": NAN}, r"'actions' is finite, but its answer has nan at \[1, 1\]"),
        ({"period_s": 0.5}, r"'period_s' is 0\.05, but its answer has 0\.5"),
        ({"period_s": 0}, r"'period_s' is 0\.05, but its answer has 0;"),
        ({"period_s": "x"}, "'period_s' is a finite number of seconds, but its answer has str"),
        ({"period_s": None}, "'period_s' is a finite number of seconds, but its answer has nothing"),
        ({"observed_at": float("nan")}, "'observed_at' is a finite number of seconds"),
        ({"observed_at": True}, "'observed_at' is a finite number of seconds"),
        ({"observed_at": 1e9}, r"'observed_at' is at most 1\.000000, the time of the newest frame"),
    ],
)
def test_a_plan_that_is_not_as_the_contract_says_is_refused(changes: dict[str, Any], told: str):
    with pytest.raises(MessageError, match=f"does not keep to its metadata: .*{told}"):
        read_plan({**PLAN, **changes}, CONTRACT, newest_time=1.0)


def test_good_tokens_are_read():
    tokens, mask = read_tokens(TOKENS, 8)
    assert tokens is TOKENS["tokens"]
    assert mask is TOKENS["mask"]
    read_tokens(TOKENS, 0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tokens": None}, r"'tokens' is an array of float32 \[1 n 8\], but its answer has nothing"),
        ({"tokens": np.zeros((1, 3, 4), np.float32)}, r"an array of float32 \[1, 3, 4\]"),
        ({"tokens": np.zeros((2, 3, 8), np.float32)}, r"an array of float32 \[2, 3, 8\]"),
        (
            {"tokens": np.full((1, 3, 8), np.inf, np.float32)},
            r"'tokens' is finite, but its answer has inf",
        ),
        ({"mask": None}, r"'mask' is an array of bool \[1, 3\], but its answer has nothing"),
        ({"mask": np.ones((1, 2), bool)}, r"an array of bool \[1, 2\]"),
        ({"mask": np.ones((1, 3), np.uint8)}, r"an array of uint8 \[1, 3\]"),
    ],
)
def test_tokens_that_are_not_as_the_contract_says_are_refused(changes: dict[str, Any], told: str):
    with pytest.raises(MessageError, match=f"does not keep to its metadata: .*{told}"):
        read_tokens({**TOKENS, **changes}, 8)


def test_a_robot_is_not_driven_by_a_plan_of_another_shape():
    short = {**PLAN, "actions": np.ones((1, 2), np.float32), "observed_at": 0.0}
    with serving(lambda: Liar(short)) as server, closing(RemotePolicy(server.address)) as policy:
        policy.reset()
        policy.observe(observation(0))
        with pytest.raises(ConnectionError, match=r"\[4 2\], but its answer has .*\[1, 2\].*given up"):
            policy.infer(observation(0))


def test_a_robot_does_not_act_on_tokens_of_another_width(small_config: PolicyConfig):
    assert small_config.system2 is not None
    contract = replace(Contract.of(small_config, "system2"), token_dim=0)  # as of an earlier server
    spec = RefreshSpec(small_config.system2.streams, 1, small_config.fps)
    clips = {
        name: to_pixels(np.zeros((shape.num_frames, shape.height, shape.width, 3), np.uint8), 1.0)
        for name, shape in contract.streams.items()
    }
    with (
        serving(lambda: Liar(TOKENS), contract) as server,
        closing(RemoteSystem2(server.address, spec, token_dim=32)) as system2,
        pytest.raises(System2Error, match=r"float32 \[1 n 32\], but its answer has an array of float32 \[1, 3, 8\]"),
    ):
        system2.perceive(clips, ["push"])
    with (
        serving(lambda: Liar(TOKENS), contract) as server,
        closing(RemoteSystem2(server.address, spec, token_dim=8)) as system2,
    ):
        assert torch.equal(system2.perceive(clips, ["push"]).data, torch.zeros(1, 3, 8))
