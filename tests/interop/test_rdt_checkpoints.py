import pickle
from pathlib import Path

import pytest
import torch

from video2act.interop.checkpoints import find_checkpoint, read_checkpoint


class Malicious:
    """What pickle would execute."""

    def __reduce__(self):
        return (print, ("executed",))


def test_code_in_a_checkpoint_is_refused_and_not_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weight": torch.zeros(2), "more": Malicious()}, path)
    with pytest.raises(
        ValueError, match=r"pytorch_model\.bin .* perhaps code, and is not opened \(it refers to print\)"
    ) as refusal:
        read_checkpoint(path)
    # torch's own message explains how to run it
    assert "weights_only" not in str(refusal.value)
    path.write_bytes(pickle.dumps({"weight": Malicious()}))
    with pytest.raises(ValueError, match=r"pytorch_model\.bin"):
        read_checkpoint(path)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_half_a_download_is_named(tmp_path: Path, share: float):
    path = tmp_path / "pytorch_model.bin"
    torch.save({f"w{k}": torch.randn(64, 64) for k in range(4)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"pytorch_model\.bin"):
        read_checkpoint(path)


def test_what_is_no_file_of_weights_is_named(tmp_path: Path):
    path = tmp_path / "pytorch_model.bin"
    for content in (b"hello there", b"<html></html>", b"\x00" * 40, bytes(range(256))):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"pytorch_model\.bin"):
            read_checkpoint(path)


@pytest.mark.parametrize("content", [[torch.zeros(2)], {}, {"step": 3, "weight": torch.zeros(2)}])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "x.bin")
    with pytest.raises(ValueError, match=r"holds no tensors by name|which are no tensors"):
        read_checkpoint(tmp_path / "x.bin")


def test_a_folder_without_a_checkpoint_says_what_was_looked_for(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"expected a file, or a folder with .*pytorch_model\.bin"):
        find_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"does not exist"):
        read_checkpoint(tmp_path / "x.bin")
