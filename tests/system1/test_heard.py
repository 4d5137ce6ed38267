"""An instruction is encoded once and kept for the next chunks; whatever may change weights makes it be encoded anew."""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from video2act.config import PolicyConfig
from video2act.observations import read_image
from video2act.policy import Video2Act
from video2act.system1 import Visibility
from video2act.text.kept import MAX_KEPT
from video2act.types import Committed, Observation, VideoCondition


@pytest.fixture
def policy(make_policy: Callable[[PolicyConfig], Video2Act], small_config: PolicyConfig) -> Video2Act:
    return make_policy(small_config).eval()


@pytest.fixture
def encoded(policy: Video2Act, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sentences that System 1 has encoded, in order."""
    sentences: list[str] = []
    read = policy.system1.read

    def count(instruction: list[str]):
        sentences.extend(instruction)
        return read(instruction)

    monkeypatch.setattr(policy.system1, "read", count)
    return sentences


def observation(instruction: str = "push") -> Observation:
    rng = np.random.default_rng(0)
    images = {camera: rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for camera in ("front", "wrist")}
    return Observation(images, rng.standard_normal(3).astype(np.float32), instruction, 1.0)


def act(policy: Video2Act, instruction: str = "push") -> np.ndarray:
    """A chunk of the same noise, without `seed`, which forgets."""
    policy._noise.manual_seed(3)
    return policy.act(observation(instruction), VideoCondition(policy._no_tokens(1), 1.0, 0)).actions


def scale_text(policy: Video2Act) -> dict[str, torch.Tensor]:
    weights = policy.state_dict()
    return {name: 3 * tensor if name.startswith("system1.text_in") else tensor for name, tensor in weights.items()}


def test_an_instruction_is_encoded_once_and_the_chunk_is_the_same_to_the_bit(policy: Video2Act, encoded: list[str]):
    first, again = act(policy), act(policy)
    assert encoded == ["push"]
    assert np.array_equal(first, again)
    policy.system1.forget()
    assert np.array_equal(first, act(policy))
    assert encoded == ["push", "push"]


def test_the_chunk_is_that_of_the_whole_computation(policy: Video2Act):
    """As in training: everything gathered and projected, with masks."""
    seen = observation()
    images = {name: read_image(seen, name, config=policy.config, device=policy.device) for name in ("front", "wrist")}
    visible = Visibility.full(1, policy.device)
    state = policy.normalize_state.normalize(policy.normalize_state.clip(torch.from_numpy(seen.state)[None]))
    noise = torch.randn(1, *policy.system1.noise_shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        conditions = policy.system1.gather(["push"], images, video=policy._no_tokens(1), visible=visible)
        projected = policy.system1.project(conditions, state, staleness=torch.zeros(1), visible=visible)
        plain = policy.normalize_action.restore(policy.system1.sample(projected, noise))[0].numpy()
    assert np.allclose(act(policy), plain, rtol=0, atol=1e-6)


def test_another_instruction_gives_another_chunk_and_the_first_one_returns(policy: Video2Act, encoded: list[str]):
    push, pull = act(policy), act(policy, "pull")
    assert not np.array_equal(push, pull)
    assert np.array_equal(push, act(policy))
    assert encoded == ["push", "pull"]


def test_a_server_with_many_sentences_keeps_the_newest_ones(policy: Video2Act, encoded: list[str]):
    for number in range(MAX_KEPT + 1):
        act(policy, f"push {number}")
    encoded.clear()
    act(policy, f"push {MAX_KEPT}")
    act(policy, "push 1")
    assert encoded == []
    act(policy, "push 0")
    assert encoded == ["push 0"]


@pytest.mark.parametrize(
    "change",
    [
        lambda policy: policy.load_state_dict(scale_text(policy)),
        lambda policy: policy.system1.load_state_dict(policy.system1.state_dict()),
        lambda policy: policy.train().eval(),
        lambda policy: policy.float(),
        lambda policy: policy.seed(0),
    ],
    ids=["load_state_dict", "load its part", "train", "to", "seed"],
)
def test_whatever_may_change_weights_makes_it_encode_anew(policy: Video2Act, encoded: list[str], change: Callable):
    act(policy)
    change(policy)
    act(policy)
    assert encoded == ["push", "push"]


def test_new_weights_are_heard(policy: Video2Act):
    before = act(policy)
    policy.load_state_dict(scale_text(policy))
    assert not np.allclose(before, act(policy), atol=1e-4)


def test_a_copy_with_other_weights_forgets_its_own_and_the_original_keeps(policy: Video2Act):
    before = act(policy)
    other = copy.deepcopy(policy)
    other.load_state_dict(scale_text(policy))
    assert not np.allclose(before, act(other), atol=1e-4)
    assert policy.system1._kept
    assert np.array_equal(before, act(policy))


def test_a_guided_chunk_can_follow_a_plain_one(policy: Video2Act):
    """What inference mode makes cannot be used where gradients are needed."""
    rest = act(policy)[2:]
    committed = Committed(rest, num_frozen=1)
    condition = VideoCondition(policy._no_tokens(1), 1.0, 0)
    guided = policy.continue_plan(observation(), condition, committed=committed, guidance=5.0).actions
    assert np.allclose(guided[0], rest[0], atol=1e-5)
    assert np.isfinite(guided).all()


def test_a_training_after_a_chunk_has_gradients(policy: Video2Act, small_config: PolicyConfig, make_batch: Callable):
    act(policy)
    policy.train()
    policy(make_batch(small_config), torch.Generator().manual_seed(0)).backward()
    assert policy.system1.text_in.weight.grad is not None  # type: ignore[union-attr]


def test_threads_that_act_with_sentences_of_their_own_do_not_disturb_each_other(policy: Video2Act):
    sentences = [f"push {number}" for number in range(2 * MAX_KEPT)]
    alone = {sentence: policy.system1.hear(sentence).tokens.data for sentence in sentences}
    policy.system1.forget()
    with ThreadPoolExecutor(4) as threads:
        for sentence, heard in zip(10 * sentences, threads.map(policy.system1.hear, 10 * sentences), strict=True):
            assert torch.equal(heard.tokens.data, alone[sentence])
