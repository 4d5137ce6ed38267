import pytest
import torch

from video2act.text.encoder import ByteTextEncoder
from video2act.text.instruction import MAX_BYTES
from video2act.types import Tokens

SHORT, LONG = "push", "push the red block to the far corner"


@pytest.fixture(scope="module")
def encoder() -> ByteTextEncoder:
    torch.manual_seed(0)
    return ByteTextEncoder(16)


def visible(tokens: Tokens, item: int) -> torch.Tensor:
    return tokens.data[item][tokens.mask[item]]


def test_an_instruction_does_not_depend_on_its_batch_mates(encoder: ByteTextEncoder):
    alone, together = encoder([SHORT]), encoder([LONG, SHORT])
    assert torch.allclose(visible(alone, 0), visible(together, 1), atol=1e-5)
    assert torch.allclose(visible(encoder([LONG]), 0), visible(together, 0), atol=1e-5)


def test_every_byte_is_a_token_and_the_end_is_one_more(encoder: ByteTextEncoder):
    tokens = encoder([SHORT, LONG, "größer"])
    assert tokens.mask.sum(dim=1).tolist() == [len(SHORT) + 1, len(LONG) + 1, len("größer".encode()) + 1]
    assert tokens.data.shape == (3, len(LONG) + 1, 16)
    # the visible tokens come first
    assert tokens.mask[0].tolist() == [True] * (len(SHORT) + 1) + [False] * (len(LONG) - len(SHORT))


def test_what_is_written_matters_and_so_does_its_order(encoder: ByteTextEncoder):
    first, second, swapped = (visible(encoder([text]), 0) for text in ("push it", "pull it", "it push"))
    assert not torch.allclose(first, second, atol=1e-3)
    assert not torch.allclose(first.mean(dim=0), swapped.mean(dim=0), atol=1e-4)


def test_the_same_instruction_is_encoded_once_and_put_where_it_was_asked_for(encoder: ByteTextEncoder):
    seen = []
    handle = encoder.encoder.register_forward_hook(
        lambda module, args, output: seen.append(output.last_hidden_state.shape[0])
    )
    tokens = encoder([SHORT, LONG, SHORT, SHORT, LONG])
    handle.remove()
    assert seen == [2]
    assert torch.equal(tokens.data[0], tokens.data[2])
    assert torch.equal(tokens.data[1], tokens.data[4])
    assert not torch.equal(tokens.data[0], tokens.data[1])


@pytest.mark.parametrize("instruction", ["a" * (MAX_BYTES + 1), "ü" * (MAX_BYTES // 2 + 1)])
def test_too_long_instructions_are_refused_not_cut(encoder: ByteTextEncoder, instruction: str):
    with pytest.raises(ValueError, match=f"has {len(instruction.encode())} bytes, the encoder takes {MAX_BYTES}"):
        encoder([SHORT, instruction])


@pytest.mark.parametrize("sentence", ["pick up the cube. " * 17, "把红色的方块放到蓝色的碗里" * 8])
def test_sentences_of_289_bytes_and_97_chinese_characters_are_read(encoder: ByteTextEncoder, sentence: str):
    assert encoder([sentence]).mask.sum() == len(sentence.encode()) + 1


@pytest.mark.parametrize("instruction", ["", " ", "\n\t "])
def test_white_space_is_an_empty_instruction(encoder: ByteTextEncoder, instruction: str):
    with pytest.raises(ValueError, match=r"the instruction is empty .*; say what the robot shall do"):
        encoder([SHORT, instruction])


def test_the_longest_instruction_still_fits(encoder: ByteTextEncoder):
    assert encoder(["a" * MAX_BYTES]).data.isfinite().all()
