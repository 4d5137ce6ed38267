"""Finetuning published video models with `train-video`: whole and by LoRA, for every family; and what System 2 makes
of it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from peft import PeftModel
from safetensors.torch import load_file, save_file

import published_models
from trainings import train_video
from video2act.config import BackboneConfig, PretrainedBackboneConfig, ScratchConfig, TuningConfig, VideoTrainConfig
from video2act.config.training_options import TrainVideoOptions
from video2act.presets import ANY_DATA
from video2act.programs.train_video import backbone_to_train
from video2act.system2.backbones import load_video_model, make_backbone, save_video_model
from video2act.system2.backbones.adapter import CONFIG_FILE, WEIGHTS_FILE
from video2act.system2.video_training import diffusion_loss
from video2act.training.choice import choose_policy
from video2act.types import Video

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

LORA = TuningConfig("lora", rank=4, alpha=8.0)
FULL = TuningConfig("full")
TEXT = ["push the block"]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A family's tiny model, written once."""
    done: dict[str, Path] = {}

    def write(name: str) -> Path:
        if name not in done:
            done[name] = getattr(published_models, f"write_{name}")(tmp_path_factory.mktemp(name))
        return done[name]

    return write


def config_of(name: Any, source: Path, text: Path, **changes: Any) -> PretrainedBackboneConfig:
    return replace(PretrainedBackboneConfig(name, str(source), (1,), dtype="float32", text_cache=str(text)), **changes)


def training(name: str, **changes: Any) -> VideoTrainConfig:
    size = 64 if name in ("wan22", "ltx") else 32
    frames = 9 if name in ("ltx", "cogvideox15") else 5
    settings = VideoTrainConfig(
        num_steps=2, batch_size=2, learning_rate=1e-3, warmup_steps=1, num_frames=frames, sizes_px=(size,)
    )
    return replace(settings, **changes)


def latents(channels: int) -> Video:
    return Video(torch.randn(1, channels, 3, 4, 4, generator=torch.Generator().manual_seed(0)), 5.0)


def channels_of(backbone: Any) -> int:
    config = backbone.vae.config
    return config.z_dim if "z_dim" in config else config.latent_channels


@pytest.mark.parametrize("tuning", [FULL, replace(LORA, gradient_checkpointing=True)], ids=["full", "lora"])
@pytest.mark.parametrize("name", ["wan21", "wan22", "hunyuan", "cogvideox", "cogvideox15", "ltx", "cosmos"])
def test_every_family_is_finetuned_and_then_looked_through(
    name: str, tuning: TuningConfig, folders: Callable[[str], Path], recorded: Path, tmp_path: Path
):
    source = folders(name)
    config = config_of(name, source, source / "text")
    report = train_video((recorded,), tmp_path / "tuned", config=training(name), backbone=config, tuning=tuning).report
    assert report.loss > 0
    pasts = {row.num_clean for row in report.predictions}
    expected = {"wan22": {1}, "ltx": {1}, "cosmos": {1}}
    assert pasts == expected.get(name, set())
    # the folder is a source as any other, read up to the tap
    written = {path.name for path in (tmp_path / "tuned").iterdir()}
    assert ("adapter" if tuning.method == "lora" else "transformer") in written
    assert "model.safetensors" not in written
    before: Any = make_backbone(config)
    after: Any = make_backbone(replace(config, source=str(tmp_path / "tuned")))
    assert after.config == replace(config, source=str(tmp_path / "tuned"))
    clip = latents(channels_of(before))
    with torch.no_grad():
        change = (before.features(clip, TEXT).grid - after.features(clip, TEXT).grid).abs().mean()
    assert 0 < change < 1
    assert {name for name, _ in after.named_parameters()} == {name for name, _ in before.named_parameters()}


class TestFull:
    def test_the_transformer_is_one_of_diffusers(self, folders: Callable[[str], Path], recorded: Path, tmp_path: Path):
        source = folders("wan22")
        config = config_of("wan22", source, source / "text")
        train_video((recorded,), tmp_path / "tuned", config=training("wan22"), backbone=config)
        theirs = WanTransformer3DModel.from_pretrained(tmp_path / "tuned" / "transformer")
        ours: Any = load_video_model(tmp_path / "tuned", whole=True)[1]
        for name, tensor in theirs.state_dict().items():
            assert torch.equal(tensor, ours.transformer.state_dict()[name]), name

    def test_what_learns_is_float32_and_what_is_kept_is_as_configured(
        self, folders: Callable[[str], Path], tmp_path: Path
    ):
        source = folders("wan21")
        backbone: Any = make_backbone(config_of("wan21", source, tmp_path / "text", dtype="bfloat16"), whole=True)
        backbone.learn(FULL)
        assert {parameter.dtype for parameter in backbone.transformer.parameters()} == {torch.float32}
        # it looks in the precision of the config all the same
        expected = make_backbone(config_of("wan21", source, tmp_path / "text", dtype="bfloat16")).features(
            latents(16), TEXT
        )
        found = backbone.features(latents(16), TEXT)
        assert (found.grid - expected.grid).norm() / expected.grid.norm() < 0.05
        save_video_model(tmp_path / "tuned", backbone, weights=backbone.state_dict())
        kept = load_file(tmp_path / "tuned" / "transformer" / "diffusion_pytorch_model.safetensors")
        assert kept["blocks.0.attn1.to_q.weight"].dtype == torch.bfloat16
        assert kept["blocks.0.scale_shift_table"].dtype == torch.float32


class TestLora:
    @pytest.fixture
    def tuned(self, folders: Callable[[str], Path], tmp_path: Path) -> tuple[Any, Path]:
        """A backbone with adapters that do something, and the folder in which they are."""
        source = folders("wan22")
        backbone: Any = make_backbone(config_of("wan22", source, source / "text"), whole=True)
        backbone.learn(LORA)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, parameter in backbone.transformer.named_parameters():
                if ".lora_B." in name:
                    parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        save_video_model(tmp_path / "tuned", backbone, weights=backbone.state_dict(), tuning=LORA)
        return backbone, tmp_path / "tuned"

    def test_untrained_it_changes_nothing(self, folders: Callable[[str], Path]):
        source = folders("wan22")
        plain: Any = make_backbone(config_of("wan22", source, source / "text"), whole=True)
        adapted: Any = make_backbone(plain.config, whole=True)
        adapted.learn(LORA)
        assert torch.equal(plain.features(latents(48), TEXT).grid, adapted.features(latents(48), TEXT).grid)
        learning = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
        assert learning
        assert all(".lora_" in name for name in learning)

    def test_merged_equals_applied(self, tuned: tuple[Any, Path]):
        backbone, folder = tuned
        merged: Any = load_video_model(folder, whole=True)[1]
        level = torch.tensor([[0.0, 0.6, 0.6]])
        with torch.no_grad():
            applied = backbone.velocity(latents(48), level, instruction=TEXT).grid
            found = merged.velocity(latents(48), level, instruction=TEXT).grid
            unadapted = (
                make_backbone(replace(backbone.config), whole=True).velocity(latents(48), level, instruction=TEXT).grid
            )
        assert (applied - unadapted).abs().mean() > 1e-2
        assert torch.allclose(found, applied, atol=2e-5)
        # and cut after one block, as System 2 loads it
        cut: Any = load_video_model(folder)[1]
        assert torch.allclose(
            cut.features(latents(48), TEXT).grid, backbone.features(latents(48), TEXT).grid, atol=2e-5
        )

    def test_peft_reads_it(self, tuned: tuple[Any, Path], folders: Callable[[str], Path]):
        _, folder = tuned
        theirs = PeftModel.from_pretrained(
            WanTransformer3DModel.from_pretrained(folders("wan22") / "transformer"), folder / "adapter"
        )
        merged = theirs.merge_and_unload().state_dict()
        ours: Any = load_video_model(folder, whole=True)[1]
        for name, tensor in ours.transformer.state_dict().items():
            assert torch.allclose(tensor, merged[name], atol=1e-6), name

    def test_one_on_top_of_another(self, tuned: tuple[Any, Path], tmp_path: Path):
        _, folder = tuned
        second: Any = make_backbone(config_of("wan22", folder, tmp_path / "text"), whole=True)
        second.learn(LORA)
        with torch.no_grad():
            second.transformer.blocks[0].attn1.to_q.lora_B.default.weight.fill_(0.2)
        save_video_model(tmp_path / "second", second, weights=second.state_dict(), tuning=LORA)
        expected = second.features(latents(48), TEXT).grid
        found = (
            make_backbone(config_of("wan22", tmp_path / "second", tmp_path / "text")).features(latents(48), TEXT).grid
        )
        assert torch.allclose(found, expected, atol=2e-5)

    def test_an_adapter_of_another_model_is_refused(self, tuned: tuple[Any, Path], tmp_path: Path):
        other = published_models.write_wan22(tmp_path / "wider", num_attention_heads=3)
        description = json.loads((tuned[1] / "backbone.json").read_text())
        (tuned[1] / "backbone.json").write_text(json.dumps(description | {"source": str(other)}))
        pattern = r"(?s)does not fit the video model:.*the adapter is for \[24, 24\], the model has \[36, 36\].*choose"
        with pytest.raises(ValueError, match=pattern):
            load_video_model(tuned[1])

    def test_an_adapter_of_unknown_layers_is_refused(self, tuned: tuple[Any, Path]):
        path = tuned[1] / "adapter" / WEIGHTS_FILE
        save_file({name.replace("blocks.0.", "blocks.9."): tensor for name, tensor in load_file(path).items()}, path)
        with pytest.raises(
            ValueError, match=r"blocks\.9\.attn1\.to_k: the adapter is for .*, the model has no such layer"
        ):
            load_video_model(tuned[1])

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"use_dora": True}, r"more than plain LoRA \(use_dora=True"),
            ({"bias": "all"}, r"more than plain LoRA \(bias='all'"),
            ({"peft_type": "LOHA"}, "must describe a LORA with r and lora_alpha, got peft_type='LOHA'"),
        ],
    )
    def test_what_is_more_than_lora_is_refused(self, tuned: tuple[Any, Path], changes: dict[str, Any], said: str):
        path = tuned[1] / "adapter" / CONFIG_FILE
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        with pytest.raises(ValueError, match=said):
            load_video_model(tuned[1])

    def test_half_an_adapter_is_refused(self, tuned: tuple[Any, Path]):
        (tuned[1] / "adapter" / WEIGHTS_FILE).unlink()
        with pytest.raises(FileNotFoundError, match=WEIGHTS_FILE):
            load_video_model(tuned[1])


@pytest.mark.parametrize("tuning", [FULL, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("name", ["wan22", "hunyuan", "cogvideox", "ltx", "cosmos"])
def test_gradients_are_the_same_with_checkpointing(name: str, tuning: TuningConfig, folders: Callable[[str], Path]):
    source = folders(name)
    gradients = []
    for saves in (False, True):
        backbone: Any = make_backbone(config_of(name, source, source / "text"), whole=True)
        torch.manual_seed(0)
        backbone.learn(replace(tuning, gradient_checkpointing=saves))
        loss = diffusion_loss(
            backbone, latents(channels_of(backbone)), instruction=TEXT, generator=torch.Generator().manual_seed(0)
        )
        loss.backward()
        assert backbone.transformer.is_gradient_checkpointing == saves
        gradients.append({name: p.grad for name, p in backbone.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() != set()
    for key, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][key], atol=1e-6), key


class TestRefused:
    def test_the_tiny_models_learning_rate(self, folders: Callable[[str], Path], recorded: Path, tmp_path: Path):
        config = config_of("wan21", folders("wan21"), tmp_path / "text")
        with pytest.raises(ValueError, match=r"a learning rate of 0\.003 ruins a published video model.*1e-4 for LoRA"):
            train_video((recorded,), tmp_path / "out", config=training("wan21", learning_rate=3e-3), backbone=config)
        assert not (tmp_path / "out").exists()

    def test_nothing_to_train(self, recorded: Path, small_backbone: BackboneConfig, tmp_path: Path):
        with pytest.raises(ValueError, match="must be full or lora, got 'frozen'"):
            train_video(
                (recorded,), tmp_path / "out", config=VideoTrainConfig(), backbone=small_backbone, tuning=TuningConfig()
            )
        with pytest.raises(ValueError, match="lora is for published video models"):
            train_video((recorded,), tmp_path / "out", config=VideoTrainConfig(), backbone=small_backbone, tuning=LORA)

    def test_which_model_a_preset_trains(self, tmp_path: Path):
        def chosen(preset: str, **options: Any) -> Any:
            folders = {"data": (tmp_path,), "out": tmp_path / "out"}
            asked = TrainVideoOptions(preset=preset, **folders, **options)
            return backbone_to_train(asked, choose_policy(asked, ANY_DATA))

        assert chosen("tiny", changes={"system2.backbone.hidden": 64}) == BackboneConfig(hidden=64)
        assert chosen("small", scratch=ScratchConfig(hidden=64)) == ScratchConfig(hidden=64)
        assert chosen("small", video_model=tmp_path).source == str(tmp_path)
        assert chosen("wan22_5b").source == "Wan-AI/Wan2.2-TI2V-5B-Diffusers"
        with pytest.raises(ValueError, match=r"video model is trained from nothing; leave --video-model .* out"):
            chosen("tiny", video_model=tmp_path)
        with pytest.raises(ValueError, match="this policy has no System 2"):
            chosen("rdt_1b")
