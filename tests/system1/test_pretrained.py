import copy
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, SiglipModel, T5EncoderModel

from pretrained_folders import IMAGE_WIDTH, TEXT_WIDTH, make_siglip_folder, make_t5_folder
from video2act.config import RDT_FORM, DenoisingConfig, PretrainedConfig, System1Config
from video2act.system1 import System1, Visibility
from video2act.system1.pretrained import FrozenImageEncoder, FrozenTextEncoder
from video2act.types import Tokens

CPU = torch.device("cpu")
SHORT, LONG = "push the block", "pick up the cup and place it on the plate"


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_t5_folder(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_siglip_folder(tmp_path_factory.mktemp("siglip"))


def text_encoder(
    t5: Path | str, cache: Path | str = "", max_tokens: int = 1024, width: int = TEXT_WIDTH
) -> FrozenTextEncoder:
    return FrozenTextEncoder(PretrainedConfig(str(t5), width, cache=str(cache), max_tokens=max_tokens))


def retrained(t5: Path, folder: Path) -> Path:
    """The same encoder by name, config and tokenizer, with other weights."""
    shutil.copytree(t5, folder)
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    torch.save({name: 1.7 * tensor for name, tensor in weights.items()}, folder / "pytorch_model.bin")
    return folder


def cut(file: Path, share: float) -> None:
    os.truncate(file, int(share * file.stat().st_size))


class Attack:
    """Code in a pickle."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


class TestText:
    def test_it_is_the_encoder_of_transformers(self, t5: Path):
        tokens = text_encoder(t5)([SHORT, LONG], CPU)
        for number, sentence in enumerate((SHORT, LONG)):
            encoder = T5EncoderModel.from_pretrained(t5).eval()
            ids = AutoTokenizer.from_pretrained(t5)(sentence, return_tensors="pt").input_ids
            with torch.no_grad():
                expected = encoder(input_ids=ids).last_hidden_state[0]
            assert torch.allclose(tokens.data[number][tokens.mask[number]], expected, atol=1e-5)

    def test_an_instruction_does_not_depend_on_its_batch_mates(self, t5: Path):
        encoder = text_encoder(t5)
        beside = encoder([LONG, SHORT], CPU)
        alone = encoder([SHORT], CPU)
        assert torch.equal(beside.data[1][beside.mask[1]], alone.data[0])
        assert alone.mask.all()

    def test_a_cached_instruction_needs_no_encoder(self, t5: Path, tmp_path: Path):
        computed = text_encoder(t5, tmp_path)([SHORT, LONG], CPU)
        cached = text_encoder("", tmp_path)([SHORT, LONG], CPU)
        assert torch.equal(computed.data, cached.data)
        assert torch.equal(computed.mask, cached.mask)

    def test_each_instruction_is_computed_once(self, t5: Path, monkeypatch: pytest.MonkeyPatch):
        encoder = text_encoder(t5)
        first = encoder([SHORT], CPU)
        monkeypatch.setattr(encoder.encoder, "encoder", lambda *_, **__: pytest.fail("computed again"))
        assert torch.equal(encoder([SHORT, SHORT], CPU).data[1], first.data[0])

    def test_what_is_neither_cached_nor_computable_is_an_error_not_zeros(self, tmp_path: Path):
        with pytest.raises(
            FileNotFoundError, match=r"'push the block' has no embedding in .* and there is no text encoder"
        ):
            text_encoder("", tmp_path)([SHORT], CPU)

    def test_a_cache_of_another_encoder_is_refused(self, t5: Path, tmp_path: Path):
        text_encoder(t5, tmp_path)([SHORT], CPU)
        with pytest.raises(ValueError, match=r"shape \[\d+, 24\], its reader expects a width of 32"):
            text_encoder("", tmp_path, width=32)([SHORT], CPU)
        with pytest.raises(ValueError, match=r"computed by another text encoder .*choose another text_cache"):
            text_encoder(retrained(t5, tmp_path / "other" / t5.name), tmp_path)([SHORT], CPU)

    def test_the_same_encoder_elsewhere_is_not_another_one(self, t5: Path, tmp_path: Path):
        computed = text_encoder(t5, tmp_path / "cache")([SHORT], CPU)
        copied = text_encoder(Path(shutil.copytree(t5, tmp_path / "copied")), tmp_path / "cache")
        assert copied.encoder is not None
        copied.encoder._load = lambda device: pytest.fail("computed again")
        assert torch.equal(copied([SHORT], CPU).data, computed.data)

    def test_a_cache_serves_an_encoder_that_is_gone_but_never_two(self, t5: Path, tmp_path: Path):
        """Two encoders under one name: the second finds an instruction of the first, and neither reads nor writes
        beside it."""
        first, second = Path(shutil.copytree(t5, tmp_path / "a" / "t5")), retrained(t5, tmp_path / "b" / "t5")
        computed = text_encoder(first, tmp_path / "cache")([SHORT], CPU)
        with pytest.raises(ValueError, match="computed by another text encoder"):
            text_encoder(second, tmp_path / "cache")([LONG], CPU)  # which is not there yet
        shutil.rmtree(first)
        assert torch.equal(text_encoder(first, tmp_path / "cache")([SHORT], CPU).data, computed.data)
        text_encoder(second, tmp_path / "others")([LONG], CPU)
        other = next((tmp_path / "others").iterdir())
        shutil.copy(other, tmp_path / "cache")
        with pytest.raises(ValueError, match=r"holds embeddings of two encoders; remove those of one"):
            text_encoder(first, tmp_path / "cache")([SHORT, LONG], CPU)

    def test_empty_and_too_long_instructions_are_refused_not_cut(self, t5: Path):
        with pytest.raises(ValueError, match="instruction is empty"):
            text_encoder(t5)([""], CPU)
        with pytest.raises(ValueError, match=r"has \d+ tokens, the text encoder takes 4: "):
            text_encoder(t5, max_tokens=4)([LONG], CPU)

    def test_white_space_is_an_empty_instruction(self, t5: Path):
        with pytest.raises(ValueError, match=r"instruction is empty \(' \\n'\)"):
            text_encoder(t5)([" \n"], CPU)

    def test_a_tokenizer_without_its_vocabulary_is_refused(self, tmp_path: Path):
        """transformers would build one that knows no word, and every sentence would be the same."""
        folder = make_t5_folder(tmp_path / "t5")
        (folder / "spiece.model").unlink()
        with pytest.raises(
            FileNotFoundError, match=rf"{folder} lacks the tokenizer's vocabulary: expected .*spiece\.model"
        ):
            text_encoder(folder, tmp_path / "cache")([SHORT], CPU)
        assert not (tmp_path / "cache").exists()

    def test_an_encoder_of_another_width_is_refused_before_its_weights_are_read(self, tmp_path: Path):
        folder = make_t5_folder(tmp_path / "t5")
        (folder / "pytorch_model.bin").write_bytes(b"nothing of the kind")
        with pytest.raises(ValueError, match="is 24 wide, the config says 32"):
            text_encoder(folder, width=32)([SHORT], CPU)

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
    def test_half_of_a_file_is_named(self, tmp_path: Path, share: float):
        folder = make_t5_folder(tmp_path / "t5")
        cut(folder / "pytorch_model.bin", share)
        with pytest.raises(
            ValueError, match=rf"{folder}/pytorch_model\.bin is not a complete PyTorch file .*; download it again"
        ):
            text_encoder(folder)([SHORT], CPU)

    @pytest.mark.parametrize("described", ["{", "[]", '{"model_type": "t5", "num_heads": "three", "d_model": 24}'])
    def test_a_config_that_is_damaged_is_named(self, tmp_path: Path, described: str):
        folder = make_t5_folder(tmp_path / "t5")
        (folder / "config.json").write_text(described)
        with pytest.raises(ValueError, match=rf"{folder}.*; download it again"):
            text_encoder(folder)([SHORT], CPU)

    def test_a_file_with_code_in_it_is_named_and_not_run(self, tmp_path: Path):
        folder = make_t5_folder(tmp_path / "t5")
        torch.save({"shared.weight": Attack(tmp_path / "attacked")}, folder / "pytorch_model.bin")
        with pytest.raises(ValueError, match=r"pytorch_model\.bin is damaged or holds more than tensors, perhaps code"):
            text_encoder(folder)([SHORT], CPU)
        assert not (tmp_path / "attacked").exists()

    def test_another_kind_of_encoder_is_named(self, siglip: Path, t5: Path, tmp_path: Path):
        folder = make_t5_folder(tmp_path / "t5")
        shutil.copy(siglip / "config.json", folder)
        for wrong in (folder, siglip):
            with pytest.raises(
                ValueError, match="holds a model of the kind siglip, not a T5EncoderModel; name the encoder it is"
            ):
                text_encoder(wrong)([SHORT], CPU)
        with pytest.raises(ValueError, match="holds a model of the kind t5, not a SiglipVisionModel"):
            FrozenImageEncoder(PretrainedConfig(str(t5), IMAGE_WIDTH))(torch.zeros(1, 1, 3, 28, 28))

    def test_an_encoder_of_another_width_is_refused(self, t5: Path):
        with pytest.raises(ValueError, match="is 24 wide, the config says 32"):
            text_encoder(t5, width=32)([SHORT], CPU)

    def test_a_folder_that_lacks_a_tensor_is_refused(self, tmp_path: Path):
        folder = make_t5_folder(tmp_path / "t5")
        weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
        del weights["encoder.block.1.layer.0.SelfAttention.q.weight"]
        torch.save(weights, folder / "pytorch_model.bin")
        with pytest.raises(ValueError, match=r"missing encoder\.block\.1\.layer\.0\.SelfAttention\.q\.weight"):
            text_encoder(folder)([SHORT], CPU)

    def test_a_folder_that_is_not_there_is_named(self, tmp_path: Path):
        with pytest.raises(OSError, match="nowhere"):
            text_encoder(tmp_path / "nowhere")([SHORT], CPU)


class TestImage:
    def test_it_is_the_vision_half_of_transformers_after_its_last_norm(self, siglip: Path):
        images = torch.rand(2, 3, 3, 28, 28) * 2 - 1
        tokens = FrozenImageEncoder(PretrainedConfig(str(siglip), IMAGE_WIDTH))(images)
        model = SiglipModel.from_pretrained(siglip).eval()
        with torch.no_grad():
            expected = model.vision_model(pixel_values=images.flatten(0, 1)).last_hidden_state
        assert tokens.data.shape == (2, 3 * 4, IMAGE_WIDTH)
        assert torch.allclose(tokens.data.flatten(0, 1), expected.flatten(0, 1), atol=1e-5)

    def test_other_sizes_and_widths_are_refused(self, siglip: Path):
        with pytest.raises(ValueError, match="reads images of 28 px, got 32"):
            FrozenImageEncoder(PretrainedConfig(str(siglip), IMAGE_WIDTH))(torch.zeros(1, 1, 3, 32, 32))
        with pytest.raises(ValueError, match="is 20 wide, the config says 1152"):
            FrozenImageEncoder(PretrainedConfig(str(siglip), 1152))(torch.zeros(1, 1, 3, 28, 28))

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
    def test_half_of_a_file_is_named(self, tmp_path: Path, share: float):
        folder = make_siglip_folder(tmp_path / "siglip")
        cut(folder / "model.safetensors", share)
        with pytest.raises(
            ValueError, match=rf"{folder}/model\.safetensors is not a complete safetensors file .*download it again"
        ):
            FrozenImageEncoder(PretrainedConfig(str(folder), IMAGE_WIDTH))(torch.zeros(1, 1, 3, 28, 28))

    def test_a_file_of_another_shape_is_refused(self, tmp_path: Path):
        folder = make_siglip_folder(tmp_path / "siglip")
        weights = load_file(folder / "model.safetensors")
        weights["vision_model.embeddings.patch_embedding.weight"] = torch.zeros(20, 3, 7, 7)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(ValueError, match=r"another shape .*patch_embedding"):
            FrozenImageEncoder(PretrainedConfig(str(folder), IMAGE_WIDTH))(torch.zeros(1, 1, 3, 28, 28))


def rdt_form(t5: Path, siglip: Path) -> System1Config:
    """Everything as in `rdt_1b`, a thousandth of its size."""
    return System1Config(
        hidden=32,
        depth=2,
        num_heads=4,
        denoising=DenoisingConfig("ddpm", "sample", num_steps=2),
        dit=replace(RDT_FORM, num_text_positions=64, positions_per_image=4),
        text_encoder=PretrainedConfig(str(t5), TEXT_WIDTH, max_tokens=64),
        text_adaptor="mlp2x_gelu",
        image_encoder=PretrainedConfig(str(siglip), IMAGE_WIDTH),
        image_adaptor="mlp2x_gelu",
        embodiment="one_arm_position",
    )


class TestSystem1OfRdtsForm:
    @pytest.fixture
    def system1(self, t5: Path, siglip: Path) -> System1:
        torch.manual_seed(0)
        return System1(rdt_form(t5, siglip), ("front", "wrist"), state_dim=4, action_dim=4, horizon=4, fps=25.0)

    def sample(self, system1: System1, state: float = 0.3, fps: float = 25.0, age: float = 0.0) -> torch.Tensor:
        system1.fps = fps
        images = {camera: torch.full((2, 3, 28, 28), 0.1 * k) for k, camera in enumerate(("front", "wrist"))}
        visible = Visibility.full(2, CPU)
        video = Tokens.all_visible(torch.ones(2, 3, 32))
        with torch.no_grad():
            conditions = system1.gather([SHORT, LONG], images, video=video, visible=visible)
            projected = system1.project(
                conditions, torch.full((2, 4), state), staleness=torch.full((2,), age), visible=visible
            )
            return system1.sample(projected, torch.ones(2, *system1.noise_shape))

    def test_the_robots_own_numbers_go_in_and_come_out(self, system1: System1):
        assert system1.noise_shape == (4, 128)
        actions = self.sample(system1)
        assert actions.shape == (2, 4, 4)
        assert actions.isfinite().all()

    def test_state_and_rate_matter_and_age_does_once_it_is_learned(self, system1: System1):
        base = self.sample(system1)
        assert not torch.allclose(base, self.sample(system1, state=0.9), atol=1e-5)
        assert not torch.allclose(base, self.sample(system1, fps=50.0), atol=1e-6)
        assert torch.equal(base, self.sample(system1, age=0.4))
        torch.nn.init.normal_(system1.dit.staleness_in.down.weight)
        assert not torch.allclose(base, self.sample(system1, age=0.4), atol=1e-6)

    def test_the_loss_reaches_every_weight_but_the_frozen_ones(self, system1: System1):
        images = {camera: torch.rand(2, 3, 28, 28) for camera in ("front", "wrist")}
        visible = Visibility.full(2, CPU)
        conditions = system1.gather(
            [SHORT, LONG], images, video=Tokens.all_visible(torch.randn(2, 3, 32)), visible=visible
        )
        projected = system1.project(conditions, torch.rand(2, 4), staleness=torch.zeros(2), visible=visible)
        is_pad = torch.zeros(2, 4, dtype=torch.bool)
        loss = system1.loss(
            torch.rand(2, 4, 4), is_pad, conditions=projected, generator=torch.Generator().manual_seed(0)
        )
        loss.backward()
        assert [name for name, p in system1.named_parameters() if p.grad is None] == []
        assert not any("encoder." in name for name in system1.state_dict())

    def test_a_copy_shares_the_frozen_encoders(self, system1: System1):
        copied = copy.deepcopy(system1)
        assert copied.text is system1.text
        assert copied.image is system1.image
        assert copied.dit is not system1.dit

    def test_more_tokens_than_positions_are_refused(self, system1: System1):
        images = {camera: torch.zeros(1, 3, 28, 28) for camera in ("front", "wrist", "top")}
        system1.cameras = ("front", "wrist", "top")
        visible = Visibility.full(1, CPU)
        conditions = system1.gather([SHORT], images, video=Tokens.empty(1, 32, like=torch.zeros(1)), visible=visible)
        with pytest.raises(ValueError, match=r"12 image tokens, .*only 8 learned positions.*dit\.positions_per_image"):
            system1.project(conditions, torch.zeros(1, 4), staleness=torch.zeros(1), visible=visible)


def test_the_folders_are_as_published(t5: Path, siglip: Path):
    assert {"config.json", "pytorch_model.bin", "spiece.model", "tokenizer_config.json"} <= {
        path.name for path in t5.iterdir()
    }
    assert json.loads((t5 / "config.json").read_text())["model_type"] == "t5"
    assert json.loads((siglip / "config.json").read_text())["model_type"] == "siglip"
    names = set(load_file(siglip / "model.safetensors"))
    assert "vision_model.embeddings.patch_embedding.weight" in names
    assert "text_model.embeddings.token_embedding.weight" in names
