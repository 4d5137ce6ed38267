import pickle
from pathlib import Path

import pytest
import torch

from video2act.interop.checkpoints import check_numbers, find_checkpoint, read_checkpoint


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


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("w", torch.zeros(1).expand(10**9), r"'w' of \[1000000000\] has fewer numbers in the file, repeated"),
        ("w", torch.eye(2).to_sparse(), "'w' is sparse"),
        ("w", torch.zeros(2, device="meta"), "has no numbers in the file"),
        (5, torch.zeros(2), r"holds tensors without names \(5\)"),
    ],
    ids=["repeated", "sparse", "meta", "number as a name"],
)
def test_tensors_that_are_not_plain_numbers_by_name_are_refused(
    tmp_path: Path, name: object, tensor: torch.Tensor, message: str
):
    """A file of a kilobyte could ask for gigabytes, and other forms ended in an error of torch's that names no file."""
    torch.save({name: tensor}, tmp_path / "x.bin")
    with pytest.raises(ValueError, match=message) as error:
        read_checkpoint(tmp_path / "x.bin")
    assert "x.bin" in str(error.value)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.tensor([1.0, float("nan")]), "w holds numbers that are not finite"),
        (torch.tensor([1e300], dtype=torch.float64), "w holds numbers that are not finite"),
        (torch.ones(2, dtype=torch.int64), r"w holds torch\.int64"),
        (torch.ones(2, dtype=torch.complex64), r"w holds torch\.complex64"),
    ],
)
def test_weights_are_finite_real_numbers(tensor: torch.Tensor, message: str):
    """NaN was converted to a run folder that nothing loads, and of a complex number one half was dropped."""
    with pytest.raises(ValueError, match=message) as error:
        check_numbers({"fine": torch.ones(1), "w": tensor}, source=Path("x.bin"))
    assert "x.bin" in str(error.value)


def test_a_folder_without_a_checkpoint_says_what_was_looked_for(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"expected a file, or a folder with .*pytorch_model\.bin"):
        find_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"does not exist"):
        read_checkpoint(tmp_path / "x.bin")
