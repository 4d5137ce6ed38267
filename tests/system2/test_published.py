"""Published video models: what is refused when loading them, text embeddings, noise levels, precision, memory."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

import published_models
from video2act.config import BackboneConfig, PolicyConfig, PretrainedBackboneConfig
from video2act.policy import Video2Act
from video2act.system2.backbones import TinyBackbone, make_backbone, save_video_model, sources
from video2act.system2.backbones.pretrained import PretrainedBackbone
from video2act.system2.backbones.published import randomise
from video2act.system2.backbones.text_encoders import diffusers_t5
from video2act.types import Batch, Video

TEXT = ["push the block"]
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="session")
def published_wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_models.write_wan21(tmp_path_factory.mktemp("published") / "wan21")


@pytest.fixture
def wan(published_wan: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(published_wan, tmp_path / "wan21"))


def config_of(root: Path, name: Any = "wan21", **changes: Any) -> PretrainedBackboneConfig:
    config = PretrainedBackboneConfig(
        name, str(root), feature_layers=(1,), dtype="float32", text_cache=str(root / "text")
    )
    return replace(config, **changes)


def load(root: Path, name: Any = "wan21", **changes: Any) -> PretrainedBackbone:
    backbone = make_backbone(config_of(root, name, **changes))
    assert isinstance(backbone, PretrainedBackbone)
    return backbone


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def latents(channels: int = 16) -> Video:
    return Video(torch.randn(1, channels, 3, 4, 4, generator=torch.Generator().manual_seed(0)), 5.0)


class TestWhereItIs:
    def test_a_folder_that_is_no_model(self, tmp_path: Path):
        (tmp_path / "notes.txt").touch()
        with pytest.raises(
            FileNotFoundError, match=r"is not a video model: transformer/config\.json is missing.*notes\.txt"
        ):
            load(tmp_path)

    def test_no_folder(self, tmp_path: Path):
        with pytest.raises(
            FileNotFoundError, match="nowhere is not a folder; name a video model's folder, or a Hugging Face"
        ):
            load(tmp_path / "nowhere")

    def test_a_repo_that_cannot_be_reached(self, monkeypatch: pytest.MonkeyPatch):
        def unreachable(*_: Any, **__: Any) -> str:
            raise LocalEntryNotFoundError("no connection")

        monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
        reason = r"\(LocalEntryNotFoundError: no connection\)"
        with pytest.raises(
            FileNotFoundError, match=rf"there is no folder some/model, and .* cannot be fetched {reason}"
        ):
            sources.locate("some/model")

    def test_a_repo_is_fetched_without_what_is_not_needed(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        asked: dict[str, Any] = {}

        def fetch(repo: str, *, revision: str | None, allow_patterns: list[str]) -> str:
            assert revision is None
            asked.update(repo=repo, patterns=allow_patterns)
            return str(tmp_path)

        monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
        assert sources.locate("some/model") == tmp_path
        assert asked["repo"] == "some/model"
        assert "transformer/*" in asked["patterns"]
        assert not any(pattern.startswith(("assets", "*.mp4")) for pattern in asked["patterns"])

    def test_a_model_of_another_family(self, wan: Path):
        with pytest.raises(
            ValueError, match=r"describes a WanTransformer3DModel, but this family needs a LTXVideoTransformer"
        ):
            load(wan, "ltx")

    def test_another_version_of_the_family(self, wan: Path):
        with pytest.raises(ValueError, match="not of the family 'wan22': the VAE merges pixels a side: 8, expected 16"):
            load(wan, "wan22")

    def test_one_of_two_transformers_is_not_taken_for_the_whole(self, wan: Path):
        """Wan 2.2 A14B has the grid and the classes of Wan 2.1; its transformer/ knows high noise levels only."""
        for index in ({"transformer_2": ["diffusers", "WanTransformer3DModel"]}, {"boundary_ratio": 0.875}):
            (wan / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline", **index}))
            with pytest.raises(ValueError, match=r"model_index\.json names two transformers"):
                load(wan)
        nothing = {"transformer_2": [None, None], "boundary_ratio": None}
        (wan / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline", **nothing}))
        load(wan)

    def test_an_image_to_video_model_with_as_many_channels(self, tmp_path: Path):
        root = published_models.write_hunyuan(tmp_path / "hunyuan")
        edit(root / "transformer" / "config.json", image_condition_type="token_replace")
        with pytest.raises(ValueError, match="'token_replace' is that of an image-to-video model"):
            load(root, "hunyuan")

    def test_a_finetuned_model_of_another_family(self, wan: Path, tmp_path: Path):
        backbone: Any = load(wan)
        save_video_model(tmp_path / "tuned", backbone, weights=backbone.state_dict())
        with pytest.raises(ValueError, match="holds a wan21 video model, but the config names wan22"):
            load(tmp_path / "tuned", "wan22")

    def test_the_tiny_model_of_train_video(self, small_backbone: BackboneConfig, tmp_path: Path):
        save_video_model(tmp_path, TinyBackbone(small_backbone), weights={})
        with pytest.raises(ValueError, match="holds a tiny video model, but the config names wan21"):
            load(tmp_path)

    def test_what_was_finetuned_twice_is_found(self, wan: Path, tmp_path: Path):
        whole: Any = make_backbone(config_of(wan), whole=True)
        with torch.no_grad():
            whole.transformer.patch_embedding.bias.add_(1.0)
        save_video_model(tmp_path / "once", whole, weights=whole.state_dict())
        again: Any = make_backbone(config_of(tmp_path / "once", text_cache=str(wan / "text")), whole=True)
        with torch.no_grad():
            again.transformer.proj_out.bias.add_(1.0)
            again.transformer.blocks[0].ffn.net[2].bias.add_(1.0)
        save_video_model(tmp_path / "twice", again, weights=again.state_dict())
        expected = again.features(latents(), TEXT).grid
        found = load(tmp_path / "twice", text_cache=str(wan / "text")).features(latents(), TEXT).grid
        assert torch.equal(found, expected)
        assert (found - load(wan).features(latents(), TEXT).grid).abs().mean() > 0.1


class TestDamaged:
    def test_a_file_that_was_only_half_downloaded(self, wan: Path):
        file = wan / "transformer" / WEIGHTS
        os.truncate(file, file.stat().st_size // 2)
        with pytest.raises(
            ValueError, match=rf"transformer/{WEIGHTS} is not a complete safetensors file .* download it again"
        ):
            load(wan)

    def test_a_shard_that_is_missing(self, tmp_path: Path):
        root = published_models.write_wan22(tmp_path, text=False)
        shard = sorted((root / "transformer").glob("*-00002-of-*.safetensors"))[0]
        shard.unlink()
        with pytest.raises(FileNotFoundError, match=rf"lacks {shard.name} of \d+ shards listed in"):
            load(root, "wan22")

    def test_shards_whose_index_is_missing(self, tmp_path: Path):
        root = published_models.write_wan22(tmp_path, text=False)
        index = root / "transformer" / f"{WEIGHTS}.index.json"
        index.unlink()
        with pytest.raises(
            FileNotFoundError, match=rf"transformer holds \d+ shards .*{index.name}, which .* is missing"
        ):
            load(root, "wan22")

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
    def test_a_small_remainder_of_a_pickle_is_named(self, wan: Path, tmp_path: Path, share: float):
        original = published_models.write_original(tmp_path / "original", wan)
        file = original / "models_t5_umt5-xxl-enc-bf16.pth"
        os.truncate(file, int(share * file.stat().st_size))
        with pytest.raises(ValueError, match=rf"{file} is not a complete PyTorch file .*; download it again"):
            load(original)

    def test_no_weights(self, wan: Path):
        (wan / "vae" / WEIGHTS).unlink()
        with pytest.raises(
            FileNotFoundError, match=rf"vae has neither .*index\.json nor {WEIGHTS}; found config\.json"
        ):
            load(wan)

    def test_a_config_that_is_not_json(self, wan: Path):
        (wan / "vae" / "config.json").write_text("{")
        with pytest.raises(ValueError, match=r"vae/config\.json is not valid json"):
            load(wan)

    def test_a_pickle_with_code_in_it_is_not_run(self, wan: Path, tmp_path: Path):
        class Attack:
            def __reduce__(self) -> Any:
                return os.system, (f"touch {tmp_path / 'attacked'}",)

        original = published_models.write_original(tmp_path / "original", wan)
        torch.save({"conv1.weight": Attack()}, original / "Wan2.1_VAE.pth")
        with pytest.raises(
            ValueError, match=r"Wan2\.1_VAE\.pth is damaged or holds more than tensors, perhaps code.*system"
        ):
            load(original)
        assert not (tmp_path / "attacked").exists()

    def test_half_of_a_pickle(self, wan: Path, tmp_path: Path):
        original = published_models.write_original(tmp_path / "original", wan)
        file = original / "Wan2.1_VAE.pth"
        os.truncate(file, file.stat().st_size // 2)
        with pytest.raises(ValueError, match=r"Wan2\.1_VAE\.pth is .*; download it again"):
            load(original)


class TestOfAnotherSize:
    def test_a_wider_config(self, wan: Path):
        edit(wan / "transformer" / "config.json", ffn_dim=64)
        with pytest.raises(ValueError, match=r"(?s)net\.0\.proj\.weight is \[32, 24\], .* \[64, 24\].*from one place"):
            load(wan)

    def test_more_blocks_than_the_config_says_even_behind_the_tap(self, wan: Path):
        edit(wan / "transformer" / "config.json", num_layers=2)
        with pytest.raises(ValueError, match=r"(?s)unexpected blocks\.2\."):
            load(wan)

    def test_fewer_blocks_than_the_config_says(self, wan: Path):
        edit(wan / "transformer" / "config.json", num_layers=4)
        with pytest.raises(ValueError, match=r"(?s)missing blocks\.3\."):
            load(wan)

    @pytest.mark.parametrize("value", ["two", 0, -1, 2.5, True, None, [2]])
    @pytest.mark.parametrize(
        ("part", "name"), [("transformer", "num_attention_heads"), ("transformer", "num_layers"), ("vae", "z_dim")]
    )
    def test_a_count_that_is_none(self, wan: Path, part: str, name: str, value: Any):
        edit(wan / part / "config.json", **{name: value})
        with pytest.raises(
            ValueError, match=rf"{wan}/{part}/config\.json says {name}={re.escape(repr(value))}, expected a whole"
        ):
            load(wan)

    @pytest.mark.parametrize(
        ("part", "changes"),
        [
            ("transformer", {"patch_size": "x"}),
            ("transformer", {"patch_size": [1]}),
            ("vae", {"dim_mult": "wide"}),
            ("vae", {"num_res_blocks": {}}),
        ],
    )
    def test_a_config_of_which_nothing_can_be_built(self, wan: Path, part: str, changes: dict[str, Any]):
        edit(wan / part / "config.json", **changes)
        with pytest.raises(ValueError, match=rf"{wan}/{part}/config\.json .*download (it|them) again"):
            load(wan)

    def test_other_latent_channels(self, wan: Path):
        edit(wan / "vae" / "config.json", z_dim=8)
        with pytest.raises(ValueError, match=r"the transformer's in_channels is 16, expected 8"):
            load(wan)

    def test_an_image_to_video_model(self, tmp_path: Path):
        root = published_models.write_wan21(tmp_path, text=False, in_channels=36)
        with pytest.raises(ValueError, match=r"the transformer's in_channels is 36, expected 16"):
            load(root)

    def test_a_text_encoder_of_another_width(self, wan: Path):
        published_models.write_text_encoder(wan, width=24)
        with pytest.raises(ValueError, match=r"gives tokens of width 24, but .*transformer/config\.json expects 16"):
            load(wan)

    def test_a_second_text_encoder_of_another_width(self, tmp_path: Path):
        root = published_models.write_hunyuan(tmp_path)
        edit(root / "text_encoder_2" / "config.json", hidden_size=20)
        with pytest.raises(ValueError, match=r"text_encoder_2/config\.json gives vectors of width 20, .* expects 12"):
            load(root, "hunyuan")

    def test_a_text_encoder_that_lacks_a_tensor(self, wan: Path):
        file = wan / "text_encoder" / "model.safetensors"
        tensors = load_file(file)
        name = "encoder.block.0.layer.0.SelfAttention.q.weight"
        save_file({key: tensor for key, tensor in tensors.items() if key != name}, file, metadata={"format": "pt"})
        with pytest.raises(
            ValueError, match=rf"(?s)text_encoder does not hold a \w+:.*missing {name}.*download it again"
        ):
            load(wan).features(latents(), TEXT)

    def test_a_tap_behind_the_last_block(self, wan: Path):
        with pytest.raises(ValueError, match=r"feature_layers must lie in 0\.\.3 \(this model's blocks\), got 4"):
            load(wan, feature_layers=(4,))


class TestText:
    def test_an_instruction_is_encoded_once_and_then_needs_no_encoder(self, wan: Path):
        first = load(wan).features(latents(), TEXT).grid
        assert len(list((wan / "text").glob("*.safetensors"))) == 1
        shutil.rmtree(wan / "text_encoder")
        shutil.rmtree(wan / "tokenizer")
        assert torch.equal(load(wan).features(latents(), TEXT).grid, first)

    def test_without_encoder_and_cache_the_instruction_is_named(self, wan: Path):
        shutil.rmtree(wan / "text_encoder")
        with pytest.raises(
            FileNotFoundError, match=r"the instruction 'push the block' has no embedding in .* add the text"
        ):
            load(wan).features(latents(), TEXT)

    def test_embeddings_with_padding_are_not_those_without(self, tmp_path: Path):
        """Two families over one T5 shared a folder, and one of them read zeros where it had learned from padding."""
        root = published_models.write_ltx(tmp_path / "ltx")
        options: tuple[dict[str, Any], ...] = (
            {"max_tokens": 8},
            {"max_tokens": 8, "sees_padding": True},
            {"max_tokens": 9, "sees_padding": True},
        )
        marks = [diffusers_t5(root, torch.float32, **each).fingerprint for each in options]
        assert len(set(marks)) == 3
        assert all(mark is not None and mark.endswith("-float32") for mark in marks)
        assert diffusers_t5(root, torch.float32, max_tokens=9).fingerprint == marks[0]

    def test_an_instruction_that_is_too_long_is_refused(self, wan: Path):
        with pytest.raises(ValueError, match=r"the instruction has 601 tokens, the text encoder takes 512: 'a"):
            load(wan).features(latents(), ["a" * 600])

    @pytest.mark.parametrize(("length", "taken"), [(70, None), (100, "takes 77"), (300, "takes 256")])
    def test_the_longest_instruction_is_that_of_the_smaller_encoder(
        self, tmp_path: Path, length: int, taken: str | None
    ):
        backbone = load(published_models.write_hunyuan(tmp_path), "hunyuan")
        sentence = "a" * length
        if taken is None:
            assert backbone.text(sentence)["tokens"].shape == (length + len("<|eot_id|>"), published_models.TEXT_WIDTH)
            return
        with pytest.raises(ValueError, match=rf"the instruction has \d+ tokens, the text encoder {taken}"):
            backbone.text(sentence)

    def test_embeddings_of_another_encoder_are_not_used(self, wan: Path):
        load(wan).features(latents(), TEXT)
        file = wan / "text_encoder" / "model.safetensors"
        save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
        with pytest.raises(ValueError, match=r"was computed by another text encoder .* choose another text_cache"):
            load(wan).features(latents(), TEXT)

    def test_a_damaged_embedding(self, wan: Path):
        backbone = load(wan)
        path = backbone.text.path(TEXT[0])
        assert path is not None
        path.parent.mkdir()
        path.write_bytes(b"half")
        with pytest.raises(ValueError, match=r"is not a readable embedding .* remove it, and it is computed again"):
            backbone.features(latents(), TEXT)

    def test_an_embedding_of_another_width(self, wan: Path):
        shutil.rmtree(wan / "text_encoder")
        backbone = load(wan)
        path = backbone.text.path(TEXT[0])
        assert path is not None
        path.parent.mkdir()
        save_file({"tokens": torch.zeros(3, 8)}, path)
        with pytest.raises(ValueError, match=r"holds tokens of shape \[3, 8\], its reader expects a width of 16"):
            backbone.features(latents(), TEXT)

    @pytest.mark.parametrize(("name", "channels"), [("wan21", 16), ("cogvideox", 4), ("ltx", 8), ("cosmos", 16)])
    def test_a_tokenizer_without_its_vocabulary_is_refused(self, tmp_path: Path, name: str, channels: int):
        """As CogVideoX's folder is without spiece.model: any two sentences would have the same embedding."""
        root = getattr(published_models, f"write_{name}")(tmp_path / "model")
        shutil.rmtree(root / "tokenizer")
        (root / "tokenizer").mkdir()
        (root / "tokenizer" / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}')
        with pytest.raises(
            FileNotFoundError, match=rf"{root}/tokenizer lacks the tokenizer's vocabulary: .*spiece\.model"
        ):
            load(root, name).features(latents(channels), TEXT)
        assert not (root / "text").exists()

    @pytest.mark.parametrize("files", ["none", "damaged"])
    def test_an_empty_or_broken_tokenizer_is_named(self, wan: Path, files: str):
        shutil.rmtree(wan / "tokenizer")
        (wan / "tokenizer").mkdir()
        if files == "damaged":
            (wan / "tokenizer" / "tokenizer.json").write_text("{")
        with pytest.raises((FileNotFoundError, ValueError), match=rf"{wan}/tokenizer .*; download .*again"):
            load(wan).features(latents(), TEXT)

    @pytest.mark.parametrize("instruction", ["", "  ", "\n"])
    def test_an_instruction_of_white_space_is_empty(self, wan: Path, instruction: str):
        with pytest.raises(ValueError, match=r"the instruction is empty .*; say what the robot shall do"):
            load(wan).features(latents(), [instruction])


class TestLooking:
    def test_noise_changes_features_and_is_always_the_same(self, wan: Path):
        clean, noisy = (load(wan, noise_level=level).features(latents(), TEXT).grid for level in (0.0, 0.3))
        assert (clean - noisy).abs().mean() > 1e-2
        assert torch.equal(noisy, load(wan, noise_level=0.3).features(latents(), TEXT).grid)

    def test_bfloat16_is_close_and_keeps_delicate_weights_in_float32(self, wan: Path):
        exact, coarse = load(wan), load(wan, dtype="bfloat16", text_cache=str(wan / "text16"))
        kinds = {name: parameter.dtype for name, parameter in coarse.transformer.named_parameters()}
        assert kinds["blocks.0.attn1.to_q.weight"] == torch.bfloat16
        assert kinds["blocks.0.scale_shift_table"] == torch.float32
        expected, found = (backbone.features(latents(), TEXT).grid for backbone in (exact, coarse))
        assert found.dtype == torch.float32
        assert (found - expected).norm() / expected.norm() < 0.05

    @pytest.mark.parametrize("changes", [{}, {"use_rotary_positional_embeddings": False}])
    def test_cogvideox_converts_its_own_objective_to_a_flow(self, tmp_path: Path, changes: dict[str, Any]):
        """A network that knew the answer in its own terms would give the flow that made the mixture."""
        backbone: Any = make_backbone(
            config_of(published_models.write_cogvideox(tmp_path, **changes), "cogvideox"), whole=True
        )
        generator = torch.Generator().manual_seed(0)
        clean, noise = (torch.randn(1, 4, 3, 4, 4, generator=generator) for _ in range(2))
        level = 0.4
        alpha, sigma = (part / (level**2 + (1 - level) ** 2) ** 0.5 for part in (1 - level, level))
        asked: list[tuple[torch.Tensor, int]] = []

        def oracle(mixture: torch.Tensor, text: torch.Tensor, timestep: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
            asked.append((mixture, int(timestep)))
            return ((alpha * noise - sigma * clean).transpose(1, 2),)

        backbone.transformer.forward = oracle
        mixed = Video((1 - level) * clean + level * noise, 5.0)
        flow = backbone.velocity(mixed, torch.full((1, 3), level), instruction=TEXT).grid
        assert torch.allclose(flow, noise - clean, atol=1e-5)
        mixture, timestep = asked[0]
        assert torch.allclose(mixture.transpose(1, 2), alpha * clean + sigma * noise, atol=1e-5)
        assert backbone.levels[timestep] == pytest.approx(level, abs=2e-3)

    @pytest.mark.parametrize("in_channels", [16, 17])
    def test_cosmos_of_both_kinds(self, tmp_path: Path, in_channels: int):
        backbone = load(published_models.write_cosmos(tmp_path, in_channels), "cosmos")
        assert backbone.features(latents(), TEXT).grid.shape == (1, 24, 3, 2, 2)


@pytest.mark.parametrize("family", ["wan21", "wan22", "hunyuan", "cogvideox", "cogvideox15", "ltx", "cosmos"])
def test_every_family_can_have_random_weights(family: str, tmp_path: Path):
    """`probe` ended with a size mismatch for Cosmos."""
    root = getattr(published_models, f"write_{family}")(tmp_path / family)
    backbone: Any = load(root, family)
    before = {name: tensor.clone() for name, tensor in backbone.transformer.state_dict().items()}
    randomise(backbone)
    after = backbone.transformer.state_dict()
    assert before.keys() == after.keys()
    changed = [name for name in before if name.endswith("weight") and not torch.equal(before[name], after[name])]
    assert len(changed) > 5


class TestInAPolicy:
    @pytest.fixture
    def policy(
        self, wan: Path, small_config: PolicyConfig, make_policy: Callable[[PolicyConfig], Video2Act]
    ) -> Video2Act:
        assert small_config.system2 is not None
        streams = tuple(replace(stream, size_px=32) for stream in small_config.system2.streams)
        system2 = replace(small_config.system2, backbone=config_of(wan), streams=streams)
        return make_policy(replace(small_config, system2=system2))

    def test_a_run_folder_names_the_model_and_does_not_copy_it(
        self, policy: Video2Act, make_batch: Callable[..., Batch], tmp_path: Path
    ):
        policy.save(tmp_path / "run")
        assert not any(".backbone." in name for name in load_file(tmp_path / "run" / "model.safetensors"))
        again = Video2Act.load(tmp_path / "run")
        assert again.config == policy.config
        clips = make_batch(policy.config).videos
        expected, found = (one.perceive(clips, ["push", "pull"]).data for one in (policy, again))
        assert torch.equal(expected, found)

    def test_it_learns_without_touching_the_model(self, policy: Video2Act, make_batch: Callable[..., Batch]):
        policy(make_batch(policy.config), torch.Generator().manual_seed(0)).backward()
        assert policy.system2 is not None
        assert all(parameter.grad is None for parameter in policy.system2.backbone.parameters())
        assert all(parameter.grad is not None for parameter in policy.system2.formers.parameters())

    def test_the_blind_control_shares_the_model(self, policy: Video2Act):
        blind = policy.blinded()
        assert blind.system2 is policy.system2
        assert blind.system1 is not policy.system1

    def test_a_source_that_is_gone(self, policy: Video2Act, wan: Path, tmp_path: Path):
        policy.save(tmp_path / "run")
        shutil.rmtree(wan)
        with pytest.raises(FileNotFoundError, match=r"wan21 is not a folder; name a video model's folder"):
            Video2Act.load(tmp_path / "run")

    def test_a_source_that_became_another_size(self, policy: Video2Act, wan: Path, tmp_path: Path):
        policy.save(tmp_path / "run")
        shutil.rmtree(wan)
        published_models.write_wan21(wan, num_attention_heads=3)
        with pytest.raises(
            ValueError, match=r"(?s)formers\.spatial\..* is \[\d+, 24\], the config asks for \[\d+, 36\]"
        ):
            Video2Act.load(tmp_path / "run")


@pytest.mark.slow
def test_loading_needs_little_more_memory_than_what_is_kept(tmp_path: Path, published_wan: Path):
    """4 of 6 blocks of a transformer of about 0.6 GB, in a process of its own."""
    shape: dict[str, Any] = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 6}
    root = Path(shutil.copytree(published_wan, tmp_path / "large"))
    shutil.rmtree(root / "transformer")
    with torch.no_grad():
        network: Any = published_models.WanTransformer3DModel(**shape, text_dim=published_models.TEXT_WIDTH)
        network.to(torch.bfloat16).save_pretrained(root / "transformer")
    del network
    code = f"""
        from pathlib import Path
        from video2act.config import PretrainedBackboneConfig
        from video2act.system2.backbones import make_backbone
        from video2act.system2.backbones.wan import WanBackbone

        def memory(which):
            line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
            return 1024 * int(line.split()[1])

        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        before = memory("VmRSS")
        config = PretrainedBackboneConfig("wan21", {str(root)!r}, 4, text_cache={str(tmp_path)!r})
        backbone = make_backbone(config)
        kept = sum(tensor.nbytes for tensor in backbone.state_dict().values())
        print(kept, memory("VmHWM") - before)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    kept, peak = map(int, done.stdout.split()[-2:])
    print(f"kept {kept / 1e6:.0f} MB, peak {peak / 1e6:.0f} MB")
    assert peak <= 1.3 * kept


def test_what_presets_name_is_known_without_a_download(make_size: Callable[[str], Any]):
    sizes = {name: make_size(name) for name in ("wan22_5b", "hunyuan", "cogvideox", "cogvideox15", "ltx", "cosmos")}
    billions = {name: round(size.whole / 1e9, 1) for name, size in sizes.items()}
    assert billions == {
        "wan22_5b": 5.0,
        "hunyuan": 12.8,
        "cogvideox": 5.6,
        "cogvideox15": 5.6,
        "ltx": 1.9,
        "cosmos": 2.0,
    }
    assert sizes["wan22_5b"].whole == 4_999_787_712
    assert all(size.kept < 0.8 * size.whole for size in sizes.values())


@pytest.fixture
def make_size() -> Callable[[str], Any]:
    from video2act.presets import DataSpec, make_preset
    from video2act.system2.backbones.sizes import size_of

    def make(preset: str) -> Any:
        system2 = make_preset(preset, DataSpec(1, 1, 20.0, ("camera",))).system2
        assert system2 is not None
        assert isinstance(system2.backbone, PretrainedBackboneConfig)
        return size_of(system2.backbone)

    return make
