"""Embeddings in folders: never those of two text encoders together."""

import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import published_models
from video2act.config import PretrainedBackboneConfig
from video2act.system2.backbones import make_backbone
from video2act.text.cache import EmbeddingsOfAFamily, TextEmbeddings, file_name
from video2act.text.instruction import in_memory_only
from video2act.types import Video

WIDTH = 4


class Encoder:
    """Of one number, its weight."""

    def __init__(self, weight: float, fingerprint: str | None = None):
        self.weight = weight
        self.fingerprint = fingerprint or f"{weight}-float32"

    def __call__(self, instruction: str) -> dict[str, Tensor]:
        return {"tokens": torch.full((len(instruction), WIDTH), self.weight)}

    def let_go(self) -> None: ...


def fill(folder: Path, encoder: Encoder, *instructions: str) -> None:
    TextEmbeddings(folder / encoder.fingerprint, encoder, width=WIDTH, missing="").prepare(instructions)


def of_family(folder: Path, dtype: str = "float32") -> EmbeddingsOfAFamily:
    return EmbeddingsOfAFamily(folder, dtype, width=WIDTH, missing="the model has none")


@pytest.mark.parametrize("instruction", ["", " ", "\t\n"])
def test_white_space_is_no_instruction_even_if_it_was_cached_once(tmp_path: Path, instruction: str):
    save_file({"tokens": torch.zeros(1, WIDTH)}, tmp_path / file_name(instruction))
    with pytest.raises(ValueError, match="the instruction is empty"):
        TextEmbeddings(tmp_path, Encoder(1.0), width=WIDTH, missing="")(instruction)


class TestOneFolder:
    @pytest.mark.parametrize(
        ("damaged", "reason"),
        [
            ({"tokens": torch.tensor(1.0)}, "tokens of shape \\[\\], its reader expects"),
            ({"tokens": torch.zeros(WIDTH)}, "tokens of shape \\[4\\]"),
            ({"tokens": torch.zeros(2, 3, WIDTH)}, "tokens of shape \\[2, 3, 4\\]"),
            ({"tokens": torch.zeros(0, WIDTH)}, "tokens of shape \\[0, 4\\]"),
            ({"tokens": torch.zeros(3, WIDTH + 1)}, "tokens of shape \\[3, 5\\]"),
            ({"words": torch.zeros(3, WIDTH)}, "tokens of shape None"),
            ({"tokens": torch.zeros(3, WIDTH, dtype=torch.int64)}, "not finite, or of torch.int64"),
            ({"tokens": torch.full((3, WIDTH), torch.nan)}, "numbers of 'tokens' that are not finite"),
            ({"tokens": torch.zeros(3, WIDTH), "pooled": torch.tensor([torch.inf])}, "numbers of 'pooled'"),
            ({"tokens": torch.zeros(3, WIDTH), "mask": torch.ones(7, dtype=torch.bool)}, "a mask of shape \\[7\\]"),
            ({"tokens": torch.zeros(3, WIDTH), "mask": torch.ones(3)}, "torch.float32\\) for 3 tokens"),
        ],
    )
    def test_a_damaged_embedding_is_refused(self, tmp_path: Path, damaged: dict[str, Tensor], reason: str):
        """Only the width was compared: folders of embeddings are copied between machines."""
        save_file(damaged, tmp_path / file_name("push"), metadata={"encoder": "1.0-float32"})
        with pytest.raises(ValueError, match=rf"{file_name('push')} holds .*{reason}"):
            TextEmbeddings(tmp_path, Encoder(1.0), width=WIDTH, missing="")("push")

    def test_a_new_sentence_is_not_written_beside_those_of_another_encoder(self, tmp_path: Path):
        TextEmbeddings(tmp_path, Encoder(1.0), width=WIDTH, missing="")("push")
        with pytest.raises(
            ValueError, match=r"computed by another text encoder \(1\.0-float32, this one is 2\.0-float32\)"
        ):
            TextEmbeddings(tmp_path, Encoder(2.0), width=WIDTH, missing="")("pull")
        assert len(list(tmp_path.iterdir())) == 1

    def test_what_is_kept_in_memory_is_bounded_and_read_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """A server grew with every new prompt."""
        monkeypatch.setattr("video2act.text.cache.MAX_BYTES", 3 * 4 * 4 * WIDTH)
        embeddings = TextEmbeddings(tmp_path, Encoder(1.0), width=WIDTH, missing="")
        sentences = ["push", "pull", "lift", "hold", "turn"]
        for sentence in sentences:
            embeddings(sentence)
            embeddings("push")
        assert set(embeddings._known) == {"push", "hold", "turn"}
        embeddings.encoder = None
        assert all(torch.equal(embeddings(sentence)["tokens"], torch.ones(4, WIDTH)) for sentence in sentences)

    def test_a_known_sentence_is_there_while_a_new_one_is_computed(self, tmp_path: Path):
        """A client's new sentence stopped every robot of a server."""
        is_computing, gate = threading.Event(), threading.Event()

        class Slow(Encoder):
            def __call__(self, instruction: str) -> dict[str, Tensor]:
                if instruction == "new":
                    is_computing.set()
                    assert gate.wait(10)
                return super().__call__(instruction)

        embeddings = TextEmbeddings(tmp_path, Slow(1.0), width=WIDTH, missing="")
        embeddings("push")
        computing = threading.Thread(target=embeddings, args=("new",))
        computing.start()
        assert is_computing.wait(10)
        reading = threading.Thread(target=embeddings, args=("push",), daemon=True)
        reading.start()
        reading.join(5)
        assert not reading.is_alive()
        gate.set()
        computing.join()

    def test_what_a_stranger_says_is_not_written(self, tmp_path: Path):
        """Every sentence of a server's clients became a file."""
        embeddings = TextEmbeddings(tmp_path, Encoder(1.0), width=WIDTH, missing="")
        embeddings("push")
        with in_memory_only():
            assert embeddings("pull")["tokens"].shape == (4, WIDTH)
        assert [path.name for path in tmp_path.iterdir()] == [file_name("push")]
        embeddings("lift")
        assert len(list(tmp_path.iterdir())) == 2

    def test_one_dtype_is_not_another(self, tmp_path: Path):
        TextEmbeddings(tmp_path, Encoder(1.0, "1.0-float32"), width=WIDTH, missing="")("push")
        with pytest.raises(ValueError, match="computed by another text encoder"):
            TextEmbeddings(tmp_path, Encoder(1.0, "1.0-bfloat16"), width=WIDTH, missing="")("push")

    def test_without_an_encoder_what_is_there_is_taken_if_it_is_of_one(self, tmp_path: Path):
        TextEmbeddings(tmp_path, Encoder(1.0), width=WIDTH, missing="").prepare(["push", "pull"])
        cached = TextEmbeddings(tmp_path, None, width=WIDTH, missing="it is gone")
        assert torch.equal(cached("push")["tokens"], torch.ones(4, WIDTH))
        other = {"instruction": "lift", "encoder": "2.0-float32"}
        save_file({"tokens": torch.zeros(4, WIDTH)}, tmp_path / file_name("lift"), other)
        with pytest.raises(ValueError, match=r"the text encoder 2\.0-float32, but other instructions by 1\.0-float32"):
            cached("lift")


class TestOfAFamily:
    """The encoder is absent, and nothing names a folder."""

    def test_the_folder_that_holds_the_sentence_is_taken(self, tmp_path: Path):
        fill(tmp_path, Encoder(1.0), "push")
        fill(tmp_path, Encoder(2.0), "pull", "lift")
        found = of_family(tmp_path)
        assert float(found("pull")["tokens"][0, 0]) == 2.0
        assert float(found("lift")["tokens"][0, 0]) == 2.0
        with pytest.raises(
            ValueError, match=r"'push' has an embedding in .*1\.0-float32, but other .* folder as text_cache"
        ):
            found("push")

    def test_two_that_differ_are_not_chosen_between(self, tmp_path: Path):
        fill(tmp_path, Encoder(1.0), "push")
        fill(tmp_path, Encoder(2.0), "push")
        with pytest.raises(ValueError, match=r"'push' has different embeddings in .*1\.0-float32 and .*2\.0-float32"):
            of_family(tmp_path)("push")

    def test_two_that_agree_are_one(self, tmp_path: Path):
        """Two layouts of the same model: other files, the same numbers."""
        fill(tmp_path, Encoder(1.0, "diffusers-float32"), "push")
        fill(tmp_path, Encoder(1.0, "original-float32"), "push", "pull")
        found = of_family(tmp_path)
        assert float(found("push")["tokens"][0, 0]) == float(found("pull")["tokens"][0, 0]) == 1.0

    def test_another_dtype_is_not_taken(self, tmp_path: Path):
        fill(tmp_path, Encoder(1.0), "push")
        with pytest.raises(FileNotFoundError, match=r"'push' has no embedding in .* \(the model has none\)"):
            of_family(tmp_path, "bfloat16")("push")


class TestTheUsersCacheFolder:
    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return tmp_path / "cache" / "video2act" / "text" / "wan21"

    @staticmethod
    def look(root: Path, dtype: str = "float32") -> Tensor:
        config = PretrainedBackboneConfig("wan21", str(root), (1,), dtype=dtype)  # type: ignore[arg-type]
        latents = Video(torch.randn(1, 16, 3, 4, 4, generator=torch.Generator().manual_seed(0)), 5.0)
        return make_backbone(config).features(latents, ["push the block"]).grid

    def test_two_layouts_and_two_dtypes_of_one_model_do_not_clash(self, tmp_path: Path, cache: Path):
        root = published_models.write_wan21(tmp_path / "diffusers")
        original = published_models.write_original(tmp_path / "original", root)
        exact = self.look(root)
        assert torch.allclose(self.look(original), exact, atol=1e-5)
        coarse = self.look(root, "bfloat16")
        assert torch.equal(self.look(root), exact)
        assert sorted(path.name.split("-")[1] for path in cache.iterdir()) == ["bfloat16", "float32", "float32"]
        for part in ("text_encoder", "tokenizer"):
            (root / part).rename(tmp_path / part)
        assert torch.allclose(self.look(root), exact, atol=1e-5)
        assert torch.equal(self.look(root, "bfloat16"), coarse)
