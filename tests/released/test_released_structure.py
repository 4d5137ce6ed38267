"""A checkpoint that has lost tensors must not pass for a smaller policy."""

from typing import Any

import pytest
from released_checkpoint import as_model, as_video, released_state, settings_yaml
from torch import Tensor

from video2act.config import BackboneConfig, PolicyConfig
from video2act_released.config import Robot, Sources, policy_config
from video2act_released.convert import policy_weights
from video2act_released.structure import check_structure


def refusal(state: dict[str, Tensor], settings: dict[str, Any]) -> str:
    with pytest.raises(ValueError) as error:
        check_structure(state, as_model(settings), source="checkpoint.bin")
    return str(error.value)


def model(formers: str = "direct", **fields: Any) -> dict[str, Any]:
    return settings_yaml(formers=formers)["model"] | fields


def without(state: dict[str, Tensor], *beginnings: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith(beginnings)}


def configured(state: dict[str, Tensor], settings: dict[str, Any]) -> PolicyConfig:
    backbone = BackboneConfig(feature_layers=(1,), hidden=48, depth=2, num_heads=4, latent_channels=16, text_dim=16)
    video = as_video(settings["video"])
    return policy_config(state, as_model(settings), video=video, backbone=backbone, sources=Sources(), robot=Robot())


@pytest.mark.parametrize("formers", ["direct", "formers", "depth0"])
def test_whole_checkpoints_pass(formers: str):
    check_structure(released_state(formers), as_model(model(formers)), source="checkpoint.bin")
    single = model(formers, use_dual_stream_framepack=False)
    check_structure(released_state(formers, ("video",)), as_model(single), source="checkpoint.bin")


@pytest.mark.parametrize(
    ("lost", "formers", "messages"),
    [
        ("model.blocks.1.", "direct", ["missing model.blocks.1.norm1.weight", "(core.depth=2)"]),
        (
            "motion_",
            "direct",
            [
                "missing motion_layernorm.weight, motion_layernorm.bias (use_dual_stream_framepack: true)",
                "missing motion_adaptor.0.weight, motion_adaptor.2.weight",
            ],
        ),
        ("lang_adaptor.2.weight", "direct", ["missing lang_adaptor.2.weight (lang_adaptor: mlp2x_gelu)"]),
        (
            "motion_token_compressor.",
            "formers",
            ["missing motion_token_compressor.latents (use_video_token_compressor is true, or absent)"],
        ),
        (
            "video_token_compressor.layers.1.",
            "formers",
            ["missing video_token_compressor.layers.1.0.norm_media.weight"],
        ),
    ],
    ids=["a block", "a stream", "a layer of an adaptor", "a former", "a layer of a former"],
)
def test_lost_tensors_are_named(lost: str, formers: str, messages: list[str]):
    said = refusal(without(released_state(formers), lost), model(formers))
    for message in messages:
        assert message in said


def test_a_lost_bias_is_found_when_the_tensors_are_renamed():
    state, settings = without(released_state(), "model.blocks.1.attn.proj.bias"), model()
    with pytest.raises(ValueError, match=r"missing model\.blocks\.1\.attn\.proj\.bias \(here system1\.dit\.blocks\.1"):
        policy_weights(configured(state, settings), state, source="checkpoint.bin")


class TestAnotherYaml:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            (
                {"core": {"hidden_size": 64, "depth": 2, "num_heads": 4}},
                r"core.hidden_size=64, but model.x_pos_embed is [1, 7, 32]",
            ),
            ({"core": {"hidden_size": 32, "depth": 1, "num_heads": 4}}, "unexpected model.blocks.1.attn.k_norm.weight"),
            ({"core": {"hidden_size": 32, "depth": 2, "num_heads": 2}}, "core.num_heads=2 of core.hidden_size=32"),
            ({"core": {"hidden_size": 32, "depth": 2}}, "task.yaml: core: missing field num_heads"),
            ({"state_adaptor": "mlp2x_gelu"}, "unexpected state_adaptor.4.weight (state_adaptor: mlp2x_gelu)"),
            ({"framepack_adaptor": "linear"}, "missing video_adaptor.weight (framepack_adaptor: linear)"),
            ({"framepack_adaptor": "relu"}, "written linear or mlpNx_gelu"),
            ({"use_dual_stream_framepack": False}, "unexpected motion_adaptor.0.bias"),
            ({"use_video_token_compressor": True}, "missing video_token_compressor.latents"),
        ],
    )
    def test_what_it_describes_is_not_there(self, fields: dict[str, Any], message: str):
        assert message in refusal(released_state(), model(**fields))

    def test_the_released_defaults_count(self):
        settings = model()
        del settings["use_dual_stream_framepack"]
        assert "one stream: use_dual_stream_framepack is false, or absent" in refusal(released_state(), settings)
        settings = model("formers")
        del settings["use_video_token_compressor"]
        check_structure(released_state("formers"), as_model(settings), source="checkpoint.bin")
        del settings["token_compressor_heads"]
        assert "8 heads (compressor_heads of raw_stream" in refusal(released_state("formers"), settings)
        del settings["token_compressor_depth"]
        assert "missing video_token_compressor.layers.2.0.norm_media.weight" in refusal(
            released_state("formers"), settings
        )

    def test_each_stream_may_have_its_own_heads_and_depth(self):
        settings = model("formers", token_compressor_heads=7, token_compressor_depth=5)
        for stream in settings["dual_stream_framepack"].values():
            stream |= {"compressor_heads": 2, "compressor_depth": 2}
        check_structure(released_state("formers"), as_model(settings), source="checkpoint.bin")


def test_linear_adaptors_are_converted():
    state = without(released_state(), "video_adaptor.2", "motion_adaptor.2")
    state = {
        name.replace("o_adaptor.0", "o_adaptor").replace("n_adaptor.0", "n_adaptor"): t for name, t in state.items()
    }
    assert "video_adaptor.weight" in state
    settings = model(framepack_adaptor="linear")
    check_structure(state, as_model(settings), source="checkpoint.bin")
    config = configured(state, settings)
    assert config.system2 is not None
    assert [stream.former.adaptor for stream in config.system2.streams] == ["mlp1x_gelu", "mlp1x_gelu"]
    weights = policy_weights(config, state, source="checkpoint.bin")
    assert weights["system2.formers.motion.adaptor.weight"].equal(state["motion_adaptor.weight"])
