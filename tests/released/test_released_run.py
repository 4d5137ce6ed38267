import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from released_checkpoint import (
    FEATURES,
    as_model,
    as_video,
    convert,
    released_state,
    settings_yaml,
    write_layout,
    write_yaml,
)
from safetensors.torch import load_file

from golden import DEFAULT
from pretrained_folders import make_siglip_folder, make_t5_folder
from published_models import DEPTH, write_wan22
from rdt_checkpoint import HORIZON
from video2act.clips import FrameHistory, ImageHistory
from video2act.config import BackboneConfig, StreamConfig
from video2act.policy import Video2Act
from video2act.programs.info import describe_run
from video2act.types import Observation, VideoCondition
from video2act_released import config as released_config
from video2act_released.__main__ import main
from video2act_released.config import Robot, Sources, policy_config
from video2act_released.convert import policy_weights, unit_statistics
from video2act_released.structure import check_structure

SENTENCE = "push the block"
CAMERAS = ("cam_high", "cam_right_wrist", "cam_left_wrist")


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(
        text=str(make_t5_folder(tmp_path / "t5")),
        image=str(make_siglip_folder(tmp_path / "siglip", image_px=384, patch_px=192)),
    )


@pytest.fixture
def wan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where its text embeddings go
    return write_wan22(tmp_path / "wan", num_attention_heads=FEATURES // 12)


def wan_yaml() -> dict[str, Any]:
    """With frames that are whole tokens of Wan."""
    plain = settings_yaml()
    for stream, size in (("raw_stream", [32, 64]), ("motion_stream", [32, 32])):
        plain["model"]["dual_stream_framepack"][stream]["video_size"] = size
    return plain


def plan(policy: Video2Act, seed: int) -> np.ndarray:
    """A plan at the second control step of an episode."""
    rng = np.random.default_rng(seed)
    assert policy.config.system2 is not None
    history, images = FrameHistory(policy.config.system2.streams), ImageHistory(policy.config.cameras)
    for step in range(2):
        frames = {camera: rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for camera in CAMERAS}
        seen = Observation(frames, np.zeros(14, np.float32), SENTENCE, step / 25)
        history.append(seen)
        images.append(seen)
    tokens = policy.perceive(history.clips(25.0), [SENTENCE])
    policy.seed(0)
    return policy.act(images.complete(seen), VideoCondition(tokens, seen.time, 0)).actions


def acting(run: Path) -> tuple[StreamConfig, ...]:
    """Load a run, check that its plans depend on the frames, and return its streams."""
    policy = Video2Act.load(run)
    first, second = (plan(policy, seed) for seed in (0, 1))
    assert first.shape == (HORIZON, 14)
    assert np.isfinite(first).all()
    assert not np.allclose(first, second, atol=1e-6)
    assert policy.config.system2 is not None
    assert policy.config.system2.filter_on == "latents"
    assert policy.config.system2.backbone.feature_norm == "none"
    return policy.config.system2.streams


class TestLayouts:
    def test_every_layout_gives_the_same_policy(self, tmp_path: Path, yaml_file: Path, video_model: Path):
        state, written = released_state(), {}
        for layout in ("file", "folder", "deepspeed", "state_dict", "with the video model", "ema"):
            checkpoint = write_layout(layout, tmp_path / layout, state)
            run = convert(checkpoint, tmp_path / f"run {layout}", yaml_file, video_model, ema=layout == "ema")
            written[layout] = load_file(run / "model.safetensors")
        for layout, weights in written.items():
            assert weights.keys() == written["file"].keys(), layout
            assert all(torch.equal(weights[name], tensor) for name, tensor in written["file"].items()), layout

    def test_the_average_is_taken_only_when_asked_for(self, tmp_path: Path, yaml_file: Path, video_model: Path):
        folder = tmp_path / "checkpoint-2000"
        write_layout("ema", folder, released_state(seed=1))
        message = "is no checkpoint: expected a file, or a folder with pytorch_model/mp_rank_00"
        with pytest.raises(FileNotFoundError, match=message):
            convert(folder, tmp_path / "run", yaml_file, video_model)
        write_layout("folder", folder, released_state(seed=0))
        runs = [convert(folder, tmp_path / f"run{ema}", yaml_file, video_model, ema=ema) for ema in (False, True)]
        plain, average = (load_file(run / "model.safetensors") for run in runs)
        assert not torch.equal(plain["system1.dit.position"], average["system1.dit.position"])


class TestTheRun:
    @pytest.mark.parametrize(
        ("formers", "is_dual", "kind"),
        [
            ("direct", True, "projection"),
            ("formers", True, "frame_resampler"),
            ("depth0", True, "constant"),
            ("direct", False, "projection"),
            ("formers", False, "frame_resampler"),
        ],
    )
    def test_it_loads_perceives_and_acts(
        self,
        tmp_path: Path,
        video_model: Path,
        sources: Sources,
        monkeypatch: pytest.MonkeyPatch,
        formers: str,
        is_dual: bool,
        kind: str,
    ):
        # a single stream has one size only, the released one; shrunk here
        monkeypatch.setattr(released_config, "SPATIAL_PX", (16, 24))
        streams = ("video", "motion") if is_dual else ("video",)
        checkpoint = write_layout("file", tmp_path, released_state(formers, streams))
        settings = write_yaml(tmp_path, settings_yaml(is_dual=is_dual, formers=formers))
        run = convert(checkpoint, tmp_path / "run", settings, video_model, sources=sources)
        assert [stream.former.kind for stream in acting(run)] == [kind] * len(streams)

    def test_over_wan_as_published(self, tmp_path: Path, wan: Path, sources: Sources):
        checkpoint = write_layout("file", tmp_path, released_state())
        run = convert(checkpoint, tmp_path / "run", write_yaml(tmp_path, wan_yaml()), wan, sources=sources)
        assert not [name for name in load_file(run / "model.safetensors") if name.startswith("system2.backbone.")]
        acting(run)

    def test_a_video_model_named_by_a_relative_folder_is_never_a_repo(
        self, tmp_path: Path, wan: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
    ):
        """The folder stood in the config as it was typed: elsewhere it could be a stranger's repo."""
        checkpoint, settings = (
            write_layout("file", tmp_path, released_state()),
            write_yaml(tmp_path, wan_yaml()),
        )
        monkeypatch.chdir(tmp_path)
        run = convert(checkpoint, tmp_path / "run", settings, Path("wan"), sources=sources)
        assert Video2Act.load(run).config.system2.backbone.source == "./wan"  # type: ignore[union-attr]
        monkeypatch.chdir("/")
        with pytest.raises(FileNotFoundError, match=r"config\.json, system2\.backbone\.source: .*wan is not a folder"):
            Video2Act.load(run)

    def test_a_lora_of_the_video_model_is_added_when_the_policy_is_loaded(
        self, tmp_path: Path, wan: Path, sources: Sources
    ):
        """It was refused, whatever the video model; and a yaml with one was converted without it."""
        lora, generator = {}, torch.Generator().manual_seed(0)
        for block, attention, layer in product(range(DEPTH), ("self_attn", "cross_attn"), "qkvo"):
            prefix = f"wan_transformer.model.blocks.{block}.{attention}.{layer}.lora_"
            lora |= {f"{prefix}A.weight": torch.randn(2, FEATURES, generator=generator)}
            lora |= {f"{prefix}B.weight": torch.randn(FEATURES, 2, generator=generator)}
        tuned, plain = wan_yaml(), wan_yaml()
        tuned["framepack"] = {"train_lora": {"enabled": True, "rank": 2, "alpha": 6}}
        loaded = []
        for name, state, settings in (("tuned", lora, tuned), ("plain", {}, plain)):
            folder = tmp_path / name
            checkpoint = write_layout("file", folder, released_state() | state)
            run = convert(checkpoint, folder / "run", write_yaml(folder, settings), wan, sources=sources)
            acting(run)
            loaded.append(Video2Act.load(run).state_dict())
        changed = {name for name in loaded[0] if not torch.equal(loaded[0][name], loaded[1][name])}
        found = "system2.backbone.transformer.blocks.0.attn2.to_out.0.weight"
        # one block runs
        kinds = ("to_q", "to_k", "to_v", "to_out.0")
        assert changed == {
            f"system2.backbone.transformer.blocks.0.{attention}.{kind}.weight"
            for attention, kind in product(("attn1", "attn2"), kinds)
        }
        down, up = (lora[f"wan_transformer.model.blocks.0.cross_attn.o.lora_{half}.weight"] for half in "AB")
        sum_of_both = (loaded[1][found].float() + 3.0 * up @ down).to(loaded[1][found].dtype)
        assert torch.equal(loaded[0][found], sum_of_both)

    @pytest.mark.parametrize("is_dual", [True, False])
    def test_over_chosen_and_resized_latents(
        self,
        tmp_path: Path,
        video_model: Path,
        sources: Sources,
        monkeypatch: pytest.MonkeyPatch,
        is_dual: bool,
    ):
        monkeypatch.setattr(released_config, "SPATIAL_PX", (32, 48))
        plain = settings_yaml(("sobel", "sobel"), is_dual)
        streams = plain["model"]["dual_stream_framepack"]
        streams["raw_stream"] |= {"latent_source": "motion_current", "video_size": [16, 16]}
        streams["motion_stream"] |= {"latent_num_frames": 2, "latent_frame_select": "first"}
        # the single stream is resized to one latent
        plain["framepack"] = {"video_size": [16, 16]}
        state = released_state(streams=("video", "motion") if is_dual else ("video",))
        checkpoint, settings = write_layout("file", tmp_path, state), write_yaml(tmp_path, plain)
        found = acting(convert(checkpoint, tmp_path / "run", settings, video_model, sources=sources))
        shown = [(stream.num_frames, stream.latent_frames, stream.latent_size) for stream in found]
        assert shown == ([(9, (1,), ()), (9, (0, 1), ())] if is_dual else [(1, (), (1, 1))])

    def test_what_ours_has_beyond_theirs_adds_nothing(self, tmp_path: Path, yaml_file: Path, video_model: Path):
        checkpoint = write_layout("file", tmp_path, released_state())
        weights = load_file(convert(checkpoint, tmp_path / "run", yaml_file, video_model) / "model.safetensors")
        for name in ("dit.image_type", "dit.video_type", "dit.staleness_in.down.weight", "dit.staleness_in.down.bias"):
            assert not weights[f"system1.{name}"].any()
        assert not weights["system2.stream_embedding"].any()
        assert weights["system1.dit.staleness_in.up.weight"].any()

    def test_quirks_are_options(self, tmp_path: Path, yaml_file: Path, video_model: Path):
        checkpoint = write_layout("file", tmp_path, released_state())
        changes: tuple[dict[str, Any], ...] = ({}, {"norm": "rms", "bgr_latents": False})
        runs = [convert(checkpoint, tmp_path / f"{k}", yaml_file, video_model, **o) for k, o in enumerate(changes)]
        configs = [json.loads((run / "config.json").read_text()) for run in runs]
        assert [config["system1"]["dit"]["norm"] for config in configs] == ["variance", "rms"]
        orders = [[stream["channel_order"] for stream in config["system2"]["streams"]] for config in configs]
        assert orders == [["bgr", "bgr"], ["rgb", "rgb"]]
        spatial, motion = (stream["filter"] for stream in configs[0]["system2"]["streams"])
        assert (spatial["name"], spatial["border"]) == ("sobel", "zeros")
        # 25 frames a second, 6.25 latents: their 16 Hz
        assert (motion["low_hz"], motion["high_hz"]) == (pytest.approx(6.25 / 16), pytest.approx(7 * 6.25 / 16))


class TestCommand:
    def run(self, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
        monkeypatch.setattr(sys, "argv", ["video2act-convert-released", *map(str, words)])
        main()

    def test_it_writes_a_run_and_says_what_it_holds(
        self,
        tmp_path: Path,
        video_model: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ):
        checkpoint = write_layout("deepspeed", tmp_path / "checkpoint-2000", released_state("formers"))
        settings = write_yaml(tmp_path, settings_yaml(formers="formers"))
        options = f"--settings {settings} --video-model {video_model} --feature-layer 1 --norm rms --fps 20".split()
        self.run(monkeypatch, checkpoint, "--out", tmp_path / "run", *options)
        assert "spatial (frame_resampler), motion (frame_resampler)   horizon: 4" in capsys.readouterr().out
        config = Video2Act.load(tmp_path / "run").config
        assert (config.fps, config.system1.dit.norm) == (20.0, "rms")
        assert config.cameras == (*(f"{camera}@1" for camera in CAMERAS), *CAMERAS)

    def test_it_says_which_streams_the_policy_does_not_see(
        self, tmp_path: Path, video_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        """Both yamls of the released code ask for formers without layers, and nobody was told what that means."""
        checkpoint = write_layout("file", tmp_path, released_state("depth0"))
        settings = write_yaml(tmp_path, settings_yaml(formers="depth0"))
        options = f"--settings {settings} --video-model {video_model} --feature-layer 1".split()
        self.run(monkeypatch, checkpoint, "--out", tmp_path / "run", *options)
        printed = capsys.readouterr().out
        assert "note: the policy does not see the stream 'spatial': its former has no layers" in printed
        assert "note: the policy does not see the stream 'motion'" in printed
        assert describe_run(tmp_path / "run").count("always the same") == 2

    def test_what_cannot_be_read_is_told_in_one_line(
        self, tmp_path: Path, yaml_file: Path, video_model: Path, monkeypatch: pytest.MonkeyPatch
    ):
        options = ("--out", tmp_path / "run", "--settings", yaml_file, "--video-model", video_model)
        with pytest.raises(
            SystemExit, match=r"video2act-convert-released: FileNotFoundError: .*nowhere is no checkpoint"
        ):
            self.run(monkeypatch, tmp_path / "nowhere", *options)


REAL = json.loads((DEFAULT / "state_dict_keys_real.json").read_text())


@pytest.mark.parametrize("variant", [name for name in REAL if "wan" not in name])
def test_every_tensor_of_the_real_size_has_its_place(variant: str):
    """Shapes only: nothing is missing, left over or of another shape, and the policy has as many numbers as theirs."""
    shapes = REAL[variant]["shapes"]
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    model = settings_yaml()["model"] | {"token_compressor_heads": 8}
    model["core"] = {"hidden_size": 2048, "depth": 28, "num_heads": 32}
    model["use_video_token_compressor"] = "compressor" in variant
    model["token_compressor_depth"] = 0 if "depth0" in variant else 3
    streams = model["dual_stream_framepack"]
    streams["raw_stream"]["video_size"], streams["motion_stream"]["video_size"] = [480, 832], [224, 224]
    streams["motion_stream"]["num_frames"] = 61
    backbone = BackboneConfig(feature_layers=(1,), hidden=3072, depth=1, num_heads=24)
    settings, video = as_model(model), as_video(model["video"])
    check_structure(state, settings, source=variant)
    config = policy_config(state, settings, video=video, backbone=backbone, sources=Sources(), robot=Robot())
    assert (config.horizon, config.system1.hidden, config.system1.depth, config.system1.num_heads) == (64, 2048, 28, 32)
    assert config.system1.text_encoder is not None
    assert config.system1.text_encoder.width == 4096
    with torch.device("meta"):
        whole = Video2Act(config, unit_statistics())
    weights = policy_weights(config, state, source=variant)
    own = {name: tensor for name, tensor in whole.state_dict().items() if not name.startswith("system2.backbone.")}
    assert {name: tensor.shape for name, tensor in weights.items()} == {
        name: tensor.shape for name, tensor in own.items()
    }
