import os
from pathlib import Path

import pytest
import torch
from torch import nn

from video2act.files import weights
from video2act.files.atomic import write_text
from video2act.files.weights import load_weights, save_weights


def network(width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(2, width), nn.LayerNorm(width))


def test_what_is_saved_is_loaded(tmp_path: Path):
    saved, loaded = network(), network()
    save_weights(tmp_path / "w.safetensors", saved.state_dict())
    load_weights(loaded, tmp_path / "w.safetensors")
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_tensors_that_share_memory_can_be_saved(tmp_path: Path):
    module = network()
    tied = module.state_dict() | {"tied": module.state_dict()["0.weight"], "view": module.state_dict()["0.weight"].T}
    save_weights(tmp_path / "w.safetensors", tied)


def test_everything_that_does_not_fit_is_named(tmp_path: Path):
    state = network().state_dict()
    del state["0.bias"]
    state["1.weight"] = torch.zeros(5)
    state["extra.scale"] = torch.zeros(7, 2)
    save_weights(tmp_path / "w.safetensors", state)
    module = network()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(ValueError, match=r"w\.safetensors does not fit its config") as error:
        load_weights(module, tmp_path / "w.safetensors")
    for line in ("missing 0.bias [3]", "unexpected extra.scale [7, 2]", "1.weight is [5], the config asks for [3]"):
        assert line in str(error.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_a_long_list_of_problems_is_cut(tmp_path: Path):
    save_weights(tmp_path / "w.safetensors", {f"extra{i}": torch.zeros(1) for i in range(40)})
    with pytest.raises(ValueError, match="and 30 more"):
        load_weights(network(), tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x10\x00\x00\x00\x00\x00\x00\x00{"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.safetensors is not a readable safetensors file"):
        load_weights(network(), tmp_path / "w.safetensors")


def test_a_file_cut_short_is_named(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    save_weights(path, network().state_dict())
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_weights(network(), path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"w\.safetensors does not exist: this folder has no weights"):
        load_weights(network(), tmp_path / "w.safetensors")


def test_an_interrupted_save_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, old = tmp_path / "w.safetensors", network().state_dict()
    save_weights(path, old)
    write_text(tmp_path / "note.txt", "old")
    before = path.read_bytes()

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_weights(path, network().state_dict())
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "note.txt", "new")
    assert path.read_bytes() == before
    assert (tmp_path / "note.txt").read_text() == "old"


def test_a_failing_write_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "w.safetensors"
    save_weights(path, network().state_dict())
    before = path.read_bytes()

    def full_disk(tensors: object, file: Path) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(weights, "save_file", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_weights(path, network().state_dict())
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", [torch.int8, torch.int32, torch.bool])
def test_weights_of_another_kind_are_not_rounded_into_place(kind: torch.dtype, tmp_path: Path):
    saved = {name: tensor.to(kind) for name, tensor in network().state_dict().items()}
    save_weights(tmp_path / "w.safetensors", saved)
    with pytest.raises(ValueError, match=rf"0\.bias holds {kind}, the module torch\.float32"):
        load_weights(network(), tmp_path / "w.safetensors")


def test_weights_of_another_precision_are_loaded(tmp_path: Path):
    save_weights(tmp_path / "w.safetensors", {name: t.double() for name, t in network().state_dict().items()})
    load_weights(network(), tmp_path / "w.safetensors")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(number: float, tmp_path: Path):
    saved = network().state_dict()
    saved["1.weight"][1] = number
    save_weights(tmp_path / "w.safetensors", saved)
    with pytest.raises(ValueError, match=r"w\.safetensors: 1\.weight holds numbers that are not finite"):
        load_weights(network(), tmp_path / "w.safetensors")
