"""What a conversion refuses: checkpoints, yamls, video models and folders that do not fit."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from released_checkpoint import convert, released_state, settings_yaml, write_layout, write_yaml

from video2act_released import convert as convert_module
from video2act_released.__main__ import main

LORA = "wan_transformer.model.blocks.0.self_attn.q.lora_A.weight"


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "messages"),
        [
            pytest.param(
                {
                    "model.blocks.1.attn.qkv.weight": None,
                    "model.blocks.1.extra.weight": torch.zeros(3),
                    "model.blocks.0.norm1.weight": torch.zeros(5),
                },
                [
                    "missing model.blocks.1.attn.qkv.weight (here system1.dit.blocks.1.attention.qkv.weight) [96, 32]",
                    "unexpected model.blocks.1.extra.weight [3]",
                    "model.blocks.0.norm1.weight (here system1.dit.blocks.0.norm_self.weight) is [5], "
                    "the config asks for [32]",
                ],
                id="missing, unexpected and misshapen tensors",
            ),
            pytest.param(
                {"video_layernorm.weight": torch.zeros(3072)},
                [
                    "video_layernorm.weight (here system2.formers.spatial.norm_in.weight) is [3072], "
                    "the config asks for [48]"
                ],
                id="a video model of another width",
            ),
            pytest.param(
                {LORA: torch.zeros(4, 48)}, ["holds 1 LoRA tensors", "no train_lora"], id="LoRA, not in the yaml"
            ),
            pytest.param(
                {"model.blocks.1.attn.qkv.weight": torch.full((96, 32), float("nan"))},
                ["pytorch_model.bin: model.blocks.1.attn.qkv.weight holds numbers that are not finite"],
                id="NaN",
            ),
            pytest.param(
                {"model.x_pos_embed": torch.tensor(1.0), "lang_adaptor.0.weight": torch.zeros(3)},
                [
                    "pytorch_model.bin does not",
                    "model.x_pos_embed is [], expected 3 axes",
                    "lang_adaptor.0.weight is [3], expected 2",
                ],
                id="other axes",
            ),
            pytest.param(
                {"model.img_cond_pos_embed": torch.zeros(1, 25, 32)},
                ["cannot be shared out among 6 images"],
                id="images",
            ),
            pytest.param(None, ["not a checkpoint of the released code"], id="another kind of checkpoint"),
        ],
    )
    def test_tensors_are_named(
        self,
        tmp_path: Path,
        yaml_file: Path,
        video_model: Path,
        changes: dict[str, torch.Tensor | None] | None,
        messages: list[str],
    ):
        """`changes` go over a whole checkpoint; None takes a tensor away."""
        wanted = {"encoder.weight": torch.zeros(2)} if changes is None else released_state() | changes
        state = {name: tensor for name, tensor in wanted.items() if tensor is not None}
        with pytest.raises(ValueError) as error:
            convert(write_layout("file", tmp_path, state), tmp_path / "run", yaml_file, video_model)
        assert not (tmp_path / "run").exists()
        for message in messages:
            assert message in str(error.value)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("model: {hidden: 3}", "no section with noise_scheduler"),
            ("model: [", "not valid yaml"),
            # filters that cannot be converted
            (yaml.safe_dump(settings_yaml((None, "moft"))), "extraction"),
            (yaml.safe_dump(settings_yaml((None, "wavelet"))), "extraction"),
        ],
        ids=["another yaml", "no yaml", "moft", "wavelet"],
    )
    def test_settings(self, tmp_path: Path, video_model: Path, text: str, message: str):
        (tmp_path / "other.yaml").write_text(text)
        checkpoint = write_layout("file", tmp_path, released_state())
        with pytest.raises(ValueError, match=message):
            convert(checkpoint, tmp_path / "run", tmp_path / "other.yaml", video_model)

    @pytest.mark.parametrize("cameras", [(), ("cam_high",), ("cam_high", "right"), tuple("abcd")])
    def test_other_than_three_cameras_are_refused(
        self,
        tmp_path: Path,
        yaml_file: Path,
        video_model: Path,
        monkeypatch: pytest.MonkeyPatch,
        cameras: tuple[str, ...],
    ):
        """One or two gave a policy whose images stood at wrong positions, none a ZeroDivisionError."""
        checkpoint = write_layout("file", tmp_path, released_state())
        options = ("--out", tmp_path / "run", "--settings", yaml_file, "--video-model", video_model)
        words = ("video2act-convert-released", checkpoint, *options, "--cameras", *cameras)
        monkeypatch.setattr(sys, "argv", [*map(str, words)])
        with pytest.raises(SystemExit, match=rf"ValueError: cameras=\[.*\] are {len(cameras)}: .* always has 3, head"):
            main()
        assert not (tmp_path / "run").exists()


class TestOut:
    @pytest.mark.parametrize("name", ["model.safetensors", "instructions.json", "training.json"])
    def test_a_folder_that_is_in_use_is_not_written_into(
        self, tmp_path: Path, yaml_file: Path, video_model: Path, name: str
    ):
        """A conversion wrote over weights without a question, and left the other policy's files beside its own."""
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / name).write_text("precious")
        checkpoint = write_layout("file", tmp_path, released_state())
        with pytest.raises(FileExistsError, match=f"run/{name} exists; choose another folder"):
            convert(checkpoint, tmp_path / "run", yaml_file, video_model)
        assert [path.name for path in (tmp_path / "run").iterdir()] == [name]

    def test_what_could_not_be_written_whole_is_not_there(
        self, tmp_path: Path, yaml_file: Path, video_model: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """Config and statistics came before the weights, so a full disk left half a policy."""

        def full(*_: object) -> None:
            raise OSError("the disk is full")

        monkeypatch.setattr(convert_module, "save_weights", full)
        checkpoint = write_layout("file", tmp_path / "checkpoint", released_state())
        with pytest.raises(OSError, match="the disk is full"):
            convert(checkpoint, tmp_path / "runs" / "run", yaml_file, video_model)
        assert not list((tmp_path / "runs" / "run").iterdir())

    def test_it_may_be_the_working_folder_or_a_link(
        self, tmp_path: Path, yaml_file: Path, video_model: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """An empty folder was replaced by another, which failed for these after all was converted."""
        checkpoint = write_layout("file", tmp_path / "checkpoint", released_state())
        (tmp_path / "here").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "here")
        convert(checkpoint, tmp_path / "link", yaml_file, video_model)
        (tmp_path / "there").mkdir()
        monkeypatch.chdir(tmp_path / "there")
        convert(checkpoint, Path("."), yaml_file, video_model)
        files = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("here", "there")]
        assert files[0] == files[1] == ["config.json", "model.safetensors", "stats.json"]


class TestVideoModel:
    @pytest.mark.parametrize("name", ["nowhere", "models/wan22", "empty"])
    def test_what_is_no_folder_of_one_is_refused(self, tmp_path: Path, yaml_file: Path, name: str):
        """A name that is no folder was written into the run folder, to be looked for at the Hub."""
        (tmp_path / "empty").mkdir()
        checkpoint = write_layout("file", tmp_path, released_state())
        with pytest.raises(FileNotFoundError, match=f"{name} is no folder of a video model"):
            convert(checkpoint, tmp_path / "run", yaml_file, tmp_path / name)

    @pytest.mark.parametrize(
        ("settings", "tensors", "message"),
        [
            ({"enabled": True, "rank": 4}, {}, "train_lora.enabled: true, but .*pytorch_model.bin holds no LoRA"),
            ({"enabled": True, "rank": 4}, {LORA: torch.zeros(4, 48)}, "and .*lora_B.weight are no LoRA of .*rank: 4"),
            (
                {"enabled": True, "rank": 8},
                {LORA: torch.zeros(4, 48), LORA.replace("_A", "_B"): torch.zeros(48, 4)},
                "are no LoRA of the yaml's train_lora.rank: 8",
            ),
            (
                {"enabled": True, "rank": 4},
                {LORA: torch.zeros(4, 48), LORA.replace("_A", "_B"): torch.zeros(48, 4)},
                "holds a LoRA of Wan 2.2, but .* is a tiny video model",
            ),
        ],
    )
    def test_a_lora_that_is_not_as_the_yaml_says_is_refused(
        self,
        tmp_path: Path,
        video_model: Path,
        settings: dict[str, Any],
        tensors: dict[str, torch.Tensor],
        message: str,
    ):
        """A yaml with a LoRA and a checkpoint without one made a policy over the video model as it was before."""
        plain = settings_yaml() | {"framepack": {"train_lora": settings}}
        checkpoint = write_layout("file", tmp_path, released_state() | tensors)
        with pytest.raises(ValueError, match=message):
            convert(checkpoint, tmp_path / "run", write_yaml(tmp_path, plain), video_model)
