"""A sentence is encoded once while a network acts; never in training, and anew when weights may have changed."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from video2act.clips import FrameHistory
from video2act.config import PolicyConfig
from video2act.policy import Video2Act
from video2act.text.encoder import ByteTextEncoder
from video2act.types import Observation


@pytest.fixture
def encoder() -> ByteTextEncoder:
    torch.manual_seed(0)
    return ByteTextEncoder(16).eval()


def calls(encoder: ByteTextEncoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that its network has read."""
    sizes: list[int] = []
    run = encoder.encoder.forward

    def count(*args, **options):
        sizes.append(len(options["input_ids"]))
        return run(*args, **options)

    monkeypatch.setattr(encoder.encoder, "forward", count)
    return sizes


def test_a_sentence_is_encoded_once(encoder: ByteTextEncoder, monkeypatch: pytest.MonkeyPatch):
    sizes = calls(encoder, monkeypatch)
    with torch.no_grad():
        first, again = encoder(["push"]), encoder(["push"])
        both = encoder(["push", "pull"])
    assert sizes == [1, 2]
    assert torch.equal(first.data, again.data)
    assert torch.allclose(both.data[:1], first.data, atol=1e-6)


def test_what_was_kept_in_one_precision_is_not_given_in_another(encoder: ByteTextEncoder):
    with torch.no_grad():
        exact = ByteTextEncoder.forward(encoder, ["push"]).data
        encoder.forget()
        with torch.autocast("cpu", torch.bfloat16):
            coarse = encoder(["push"]).data
        assert torch.equal(encoder(["push"]).data, exact)
        assert not torch.equal(coarse.float(), exact)


@pytest.mark.parametrize("mode", ["training", "with gradients"])
def test_nothing_is_kept_where_weights_may_learn(encoder: ByteTextEncoder, monkeypatch: pytest.MonkeyPatch, mode: str):
    sizes = calls(encoder.train(mode == "training"), monkeypatch)
    with torch.set_grad_enabled(mode == "with gradients"):
        for _ in range(2):
            encoder(["push"])
    assert sizes == [1, 1]


def test_loaded_weights_are_heard(encoder: ByteTextEncoder):
    other = {name: 2 * tensor for name, tensor in encoder.state_dict().items()}
    with torch.no_grad():
        before = encoder(["push"]).data
        encoder.load_state_dict(other)
        assert not torch.allclose(before, encoder(["push"]).data, atol=1e-3)


def test_system_2_reads_a_sentence_once_for_all_streams_and_refreshes(
    make_policy: Callable[[PolicyConfig], Video2Act],
    small_config: PolicyConfig,
    monkeypatch: pytest.MonkeyPatch,
):
    policy = make_policy(small_config).eval()
    history = FrameHistory(policy.slow.config.streams)
    image = np.zeros((32, 32, 3), np.uint8)
    history.append(Observation({"front": image, "wrist": image}, np.zeros(3, np.float32), "push", 0.0))
    policy.perceive(history.clips(20.0), ["push"])  # also makes the maps of grey, which read the sentence
    sizes = calls(policy.slow.backbone.text, monkeypatch)  # type: ignore[arg-type]
    tokens = policy.perceive(history.clips(20.0), ["push"])
    assert sizes == []
    policy.slow.backbone.text.forget()  # type: ignore[union-attr]
    assert torch.equal(policy.perceive(history.clips(20.0), ["push"]).data, tokens.data)
    assert sizes == [1]
