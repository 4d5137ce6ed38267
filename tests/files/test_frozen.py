"""Encoders of others and their tokenizers: what is refused, and that a folder is named by whoever refuses it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import ByT5Tokenizer, T5EncoderModel

from pretrained_folders import make_t5_folder
from published_models import character_tokenizer
from video2act.files.frozen import load_frozen, load_tokenizer, source_fingerprint, tokenize

SENTENCES = ("push the block", "pull the drawer open")


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """As in CogVideoX: only a sentencepiece vocabulary and json."""
    whole = make_t5_folder(tmp_path / "t5")
    (tmp_path / "tokenizer").mkdir()
    for name in ("spiece.model", "tokenizer_config.json"):
        shutil.copy(whole / name, tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def test_a_vocabulary_tells_sentences_apart(tokenizer: Path):
    loaded = load_tokenizer(tokenizer)
    first, second = (tokenize(loaded, sentence).tolist() for sentence in SENTENCES)
    assert first != second


def test_tokenizers_without_and_with_other_vocabularies(tmp_path: Path):
    ByT5Tokenizer().save_pretrained(tmp_path / "bytes")
    character_tokenizer().save_pretrained(tmp_path / "characters")
    for name in ("bytes", "characters"):
        first, second = (tokenize(load_tokenizer(tmp_path / name), sentence).tolist() for sentence in SENTENCES)
        assert first != second


@pytest.mark.parametrize("content", [None, b""])
def test_a_folder_without_its_vocabulary_is_refused(tokenizer: Path, content: bytes | None):
    (tokenizer / "spiece.model").unlink()
    if content is not None:
        (tokenizer / "spiece.model").write_bytes(content)
    with pytest.raises(
        FileNotFoundError, match=rf"{tokenizer} lacks the tokenizer's vocabulary: .*spiece\.model.*; found .*json"
    ):
        load_tokenizer(tokenizer)


def test_half_of_clips_vocabulary_is_none(tokenizer: Path):
    (tokenizer / "spiece.model").unlink()
    (tokenizer / "vocab.json").write_text('{"push": 0}')
    with pytest.raises(FileNotFoundError, match=r"expected .*vocab\.json and merges\.txt.*; found .*vocab\.json"):
        load_tokenizer(tokenizer)


def test_a_vocabulary_cut_in_half_is_refused_and_its_folder_named(tokenizer: Path):
    path = tokenizer / "spiece.model"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(
        ValueError, match=rf"{tokenizer} does not hold a tokenizer that can be read .*download it again"
    ):
        load_tokenizer(tokenizer)


def test_an_empty_folder_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path} lacks the tokenizer's vocabulary: .*; found nothing"):
        load_tokenizer(tmp_path)


def test_a_config_that_is_not_json_is_named(tokenizer: Path):
    (tokenizer / "tokenizer_config.json").write_text('{"tokenizer_class": "X", ')
    with pytest.raises(ValueError, match=rf"{tokenizer}/tokenizer_config\.json is not valid json"):
        load_tokenizer(tokenizer)


def test_code_that_comes_along_is_neither_run_nor_asked_about(tokenizer: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    described = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(described))
    (tokenizer / "own.py").write_text(f"open({str(tokenizer / 'run')!r}, 'w')\nclass Own: pass\n")
    with pytest.raises(ValueError, match=rf"{tokenizer} does not hold a tokenizer that can be read"):
        load_tokenizer(tokenizer)
    assert not (tokenizer / "run").exists()


def test_a_sentence_that_is_mostly_unknown_is_refused(tokenizer: Path):
    loaded = load_tokenizer(tokenizer)
    with pytest.raises(ValueError, match=rf"the tokenizer in {tokenizer} does not know most of 'толкни кубик'"):
        tokenize(loaded, "толкни кубик")
    assert tokenize(loaded, "push the block ü").shape[0] == 1


def test_a_folder_or_a_path_that_is_not_there(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"nowhere is missing: the text encoder needs its tokenizer"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(
        FileNotFoundError, match=r"nowhere is not a folder; name the encoder's folder, or a Hugging Face repo id"
    ):
        load_tokenizer(str(tmp_path / "nowhere"))


def test_a_repos_weights_are_named_once_they_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By its name alone an encoder is not known: the same name may hold other weights."""
    folder = make_t5_folder(tmp_path / "t5")

    def fetched_before(repo: str, local_files_only: bool) -> str:
        if repo != "some/t5":
            raise LocalEntryNotFoundError("never fetched")
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched_before)
    assert source_fingerprint("some/t5") == source_fingerprint(str(folder)) is not None
    assert source_fingerprint("other/t5") is None
    assert source_fingerprint(str(tmp_path / "nowhere")) is None


def test_a_repo_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*_: Any, **__: Any) -> Any:
        raise OSError("We couldn't connect")

    monkeypatch.setattr(T5EncoderModel.config_class, "get_config_dict", unreachable)
    with pytest.raises(
        FileNotFoundError, match=r"no folder some/t5, and the Hugging Face repo some/t5 cannot be fetched \(OSErr"
    ):
        load_frozen(T5EncoderModel, "some/t5", dtype=torch.float32)
