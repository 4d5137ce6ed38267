"""Files of tensors that are damaged, incomplete or of another kind: which one, and what to do."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from video2act.files.fingerprint import fingerprint
from video2act.files.tensor_files import open_tensors, shards

NAME = "model.safetensors"
WEIGHTS = {f"layer{i}.weight": torch.full((300, 40), float(i)) for i in range(20)}


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.3, 0.5, 0.9, 0.99])
def test_a_pickle_cut_anywhere_is_named(tmp_path: Path, is_zip: bool, share: float):
    """Down to remainders that the operating system refuses to map: its own message names no file."""
    file = tmp_path / "weights.pth"
    torch.save(WEIGHTS, file, _use_new_zipfile_serialization=is_zip)
    os.truncate(file, int(share * file.stat().st_size))
    with pytest.raises(ValueError, match=rf"{file} is .*download it again"):
        open_tensors(file)


def test_a_pickle_that_may_not_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    file = tmp_path / "weights.pth"
    torch.save(WEIGHTS, file)
    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(PermissionError, match=str(file)):
        open_tensors(file)


def test_shards_without_their_index(tmp_path: Path):
    for number in (1, 2):
        save_file(WEIGHTS, tmp_path / f"model-0000{number}-of-00002.safetensors")
    with pytest.raises(
        FileNotFoundError, match=rf"{tmp_path} holds 2 shards .*{NAME}\.index\.json.*is missing; download it, too"
    ):
        shards(tmp_path, NAME, "pytorch_model.bin")


def test_the_first_name_that_is_there_counts(tmp_path: Path):
    torch.save(WEIGHTS, tmp_path / "pytorch_model.bin")
    assert shards(tmp_path, NAME, "pytorch_model.bin") == [tmp_path / "pytorch_model.bin"]
    save_file(WEIGHTS, tmp_path / NAME)
    assert shards(tmp_path, NAME, "pytorch_model.bin") == [tmp_path / NAME]


@pytest.mark.parametrize("name", list(WEIGHTS))
def test_a_fingerprint_tells_weights_apart_that_differ_in_any_one_layer(tmp_path: Path, name: str):
    save_file(WEIGHTS, tmp_path / "one.safetensors")
    save_file(WEIGHTS, tmp_path / "same.safetensors")
    save_file(WEIGHTS | {name: WEIGHTS[name] + 1}, tmp_path / "other.safetensors")
    one, same, other = (fingerprint([tmp_path / f"{which}.safetensors"]) for which in ("one", "same", "other"))
    assert one == same
    assert one != other


@pytest.mark.parametrize("name", ["../a/model.safetensors", "/etc/hostname", "below/model.safetensors"])
def test_an_index_of_shards_leads_nowhere_else(tmp_path: Path, name: str):
    """A published model's index could name any file of this machine."""
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ValueError, match=r"index\.json names .*, which is no file beside it"):
        shards(tmp_path, "model.safetensors")
