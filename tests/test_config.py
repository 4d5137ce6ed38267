import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from video2act.config import (
    BackboneConfig,
    DenoisingConfig,
    DitConfig,
    FilterConfig,
    FormerConfig,
    OptimizationConfig,
    PolicyConfig,
    PretrainedBackboneConfig,
    PretrainedConfig,
    StreamConfig,
    System1Config,
    System2Config,
    TrainConfig,
    VideoTrainConfig,
    from_json,
    load,
    to_json,
)
from video2act.config.files import read_plain
from video2act.presets import PRESETS, PUBLISHED, DataSpec, make_preset

SPEC = DataSpec(state_dim=4, action_dim=3, fps=20.0, cameras=("top", "wrist"))
STREAM = StreamConfig("motion", "top", 9, 1, 16, FilterConfig(), FormerConfig())
BACKBONE = BackboneConfig()
WAN22 = PretrainedBackboneConfig("wan22", "some/model", feature_layers=(20,))
POLICY = make_preset("tiny", SPEC)


def with_field(path: str, value: Any) -> str:
    """The json of a policy with one field replaced; `path` is dotted."""
    data = json.loads(to_json(POLICY))
    *parents, name = path.split(".")
    place = data
    for parent in parents:
        place = place[int(parent) if parent.isdigit() else parent]
    place[name] = value
    return json.dumps(data)


def test_a_temporal_filter_needs_features_of_several_frames(small_config: PolicyConfig):
    """One imagined frame was accepted, and failed at the first refresh with another remedy."""
    one = {"system2.streams.motion.imagine.num_frames": 4, "system2.streams.motion.imagine.keep": "future"}
    with pytest.raises(ValueError, match=r"stream 'motion': the filter 'temporal_bandpass' needs .*; imagine more"):
        small_config.replace(one)
    assert small_config.replace({**one, "system2.streams.motion.imagine.num_frames": 8}).system2 is not None
    assert small_config.replace({**one, "system2.streams.motion.imagine.keep": "all"}).system2 is not None


class TestJson:
    @pytest.mark.parametrize("name", PRESETS)
    def test_a_policy_survives_the_round_trip(self, name: str):
        policy = make_preset(name, SPEC)
        assert from_json(PolicyConfig, to_json(policy), source="config.json") == policy

    @pytest.mark.parametrize(
        "config", [TrainConfig(num_steps=3), VideoTrainConfig(stride=2), BACKBONE], ids=lambda c: type(c).__name__
    )
    def test_other_configs_survive_the_round_trip(self, config: Any):
        assert from_json(type(config), to_json(config), source="training.json") == config

    def test_no_system2_stays_none(self):
        again = from_json(PolicyConfig, to_json(make_preset("tiny_system1", SPEC)), source="config.json")
        assert again.system2 is None

    def test_whole_numbers_are_read_as_floats_where_floats_belong(self):
        fps = from_json(PolicyConfig, with_field("fps", 20), source="config.json").fps
        assert fps == 20.0
        assert isinstance(fps, float)

    def test_an_unknown_field_is_named_with_those_there_are(self):
        with pytest.raises(
            ValueError, match=r"c\.json: system2: unknown field colour of System2Config; it has .*filter_on"
        ):
            from_json(PolicyConfig, with_field("system2.colour", 1), source="c.json")

    def test_a_missing_field_is_named(self):
        data = json.loads(to_json(POLICY))
        del data["system2"]["streams"][1]["stride"]
        with pytest.raises(ValueError, match=r"c\.json: system2: streams\[1\]: missing field stride of StreamConfig"):
            from_json(PolicyConfig, json.dumps(data), source="c.json")

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("state_dim", 4.0),
            ("state_dim", "4"),
            ("state_dim", True),
            ("state_dim", None),
            ("fps", "fast"),
            ("fps", True),
            ("cameras", "top"),
            ("cameras", [1]),
            ("system1", []),
            ("system1.denoising.loss", "mae"),
            ("system1.denoising.loss", []),
            ("normalize_state", 1),
            ("system2.streams", {}),
            ("system2.streams.0.camera", 3),
            ("system2.backbone.hidden", 12.5),
        ],
    )
    def test_a_value_of_the_wrong_type_is_named(self, path: str, value: Any):
        with pytest.raises(ValueError, match=rf"c\.json: .*{path.split('.')[-1]}.*: (expected|.* is not one of)"):
            from_json(PolicyConfig, with_field(path, value), source="c.json")

    def test_a_file_that_is_no_json_is_named(self):
        with pytest.raises(ValueError, match=r"c\.json is not valid json"):
            from_json(PolicyConfig, "{", source="c.json")

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path):
        with pytest.raises(FileNotFoundError, match=r"config\.json does not exist"):
            load(PolicyConfig, tmp_path / "config.json")

    def test_values_are_checked_when_read(self):
        with pytest.raises(ValueError, match="execute_steps must lie in"):
            from_json(PolicyConfig, with_field("execute_steps", 99), source="c.json")


def unchecked(cls: type, **values: Any) -> None:
    """Run a config's own checks on values that the test run's type checker would refuse before them."""
    instance = object.__new__(cls)
    for field in fields(cls):
        object.__setattr__(instance, field.name, values.get(field.name, field.default))
    instance.__post_init__()


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: unchecked(FilterConfig, name="wavelet"),
        "name must be one of none, sobel, scharr, laplacian, temporal_bandpass, moft, got 'wavelet'",
    ),
    (lambda: FilterConfig("temporal_bandpass", 0.0, 0.0), "needs 0 <= low_hz < high_hz, got 0.0 and 0.0"),
    (lambda: FilterConfig("temporal_bandpass", low_hz=-1.0, high_hz=1.0), "got -1.0 and 1.0"),
    (lambda: FilterConfig("moft", keep=0.0), r"keep must lie in \(0, 1\], got 0.0"),
    (lambda: FilterConfig("moft", keep=1.5), r"keep must lie in .*, got 1.5"),
    (lambda: FormerConfig(num_tokens=0), "num_tokens must be at least 1, got 0"),
    (lambda: FormerConfig(depth=0), "depth must be at least 1, got 0"),
    (lambda: replace(STREAM, num_frames=0), "'motion': num_frames must be at least 1, got 0"),
    (lambda: replace(STREAM, stride=0), "'motion': stride must be at least 1, got 0"),
    (lambda: replace(STREAM, num_frames=1, filter=FilterConfig("moft")), "'moft' needs a clip of several frames"),
    (
        lambda: replace(STREAM, num_frames=1, filter=FilterConfig("temporal_bandpass", 1.0, 2.0)),
        "'temporal_bandpass' needs a clip of several frames, got num_frames=1",
    ),
    (lambda: unchecked(BackboneConfig, name="huge"), "name must be one of tiny, got 'huge'"),
    (lambda: BackboneConfig(feature_layers=(5,)), r"must lie in 0\.\.4 \(the number of blocks\), got 5"),
    (lambda: BackboneConfig(feature_layers=(-1,)), "feature_layers must be numbers of blocks from 0, each once"),
    (lambda: BackboneConfig(hidden=130), "hidden=130 is not divisible by num_heads=4"),
    (
        lambda: unchecked(PretrainedBackboneConfig, name="sora", source="x", feature_layers=(1,)),
        "'sora'; choose from wan21, wan22",
    ),
    (lambda: PretrainedBackboneConfig("wan22", "", (20,)), "'wan22' needs a source"),
    (lambda: PretrainedBackboneConfig("wan22", "x", (-1,)), "feature_layers must be numbers of blocks"),
    (lambda: replace(WAN22, noise_level=1.0), r"noise_level must lie in \[0, 1\), got 1.0"),
    (
        lambda: unchecked(PretrainedBackboneConfig, name="ltx", source="x", feature_layers=(1,), dtype="int8"),
        "got 'int8'",
    ),
    (
        lambda: System2Config(WAN22, (replace(STREAM, size_px=80),)),
        "size_px=80 is not a multiple of the backbone's patch of 32",
    ),
    (
        lambda: System2Config(replace(WAN22, name="cogvideox15"), (replace(STREAM, num_frames=13),)),
        r"1 \+ a multiple of 8 .* got 13",
    ),
    (lambda: System2Config(BACKBONE, ()), "at least one stream"),
    (lambda: System2Config(BACKBONE, (STREAM, STREAM)), r"names must differ, got \['motion', 'motion'\]"),
    (
        lambda: unchecked(System2Config, backbone=BACKBONE, streams=(STREAM,), filter_on="pixels"),
        "filter_on must be one of features, latents, got 'pixels'",
    ),
    (
        lambda: System2Config(BACKBONE, (replace(STREAM, size_px=20),)),
        "size_px=20 is not a multiple of the backbone's patch of 8",
    ),
    (lambda: System2Config(BACKBONE, (replace(STREAM, num_frames=8),)), "1 \\+ a multiple of 4 .* got 8"),
    (lambda: unchecked(DenoisingConfig, schedule="edm"), "schedule must be one of flow_matching, ddpm, got 'edm'"),
    (lambda: DenoisingConfig("ddpm", "velocity"), "'ddpm' predicts one of .*sample.*epsilon.*, got 'velocity'"),
    (lambda: DenoisingConfig("flow_matching", "epsilon"), "got 'epsilon'"),
    # as many steps as timesteps made actions of NaN, more an IndexError
    (lambda: DenoisingConfig("ddpm", num_steps=50, num_train_timesteps=50), "num_steps=50 must be below .*=50"),
    (lambda: System1Config(text_dim=3), "text_dim must be at least 4, got 3"),
    (lambda: replace(BACKBONE, hidden=5, num_heads=1), "hidden=5 in num_heads=1 heads makes heads of 5; .* even"),
    (lambda: replace(BACKBONE, hidden=20, num_heads=4), "hidden=20 in num_heads=4 heads makes heads of 5; .* even"),
    (lambda: System1Config(hidden=129, num_heads=3), "hidden must be even .* got 129"),
    (
        lambda: System2Config(WAN22, (replace(STREAM, size_px=64, latent_size=(5, 5)),)),
        r"latent_size=\[5, 5\] must be multiples of 2, the transformer's patch",
    ),
    (lambda: replace(STREAM, latent_size=(10**6, 4)), "each at most 1024, or empty, got"),
    (lambda: unchecked(DenoisingConfig, loss="mae"), "loss must be one of mse, smooth_l1, got 'mae'"),
    (lambda: DenoisingConfig(num_steps=0), "num_steps must be at least 1, got 0"),
    (lambda: DenoisingConfig(noise_draws=0), "noise_draws must be at least 1, got 0"),
    (lambda: DitConfig(state_adaptor="mlp"), "written mlpNx_gelu, N from 1 to 9 linear layers, got 'mlp'"),
    (lambda: DitConfig(action_adaptor="mlp0x_gelu"), "got 'mlp0x_gelu'"),
    (lambda: unchecked(DitConfig, norm="layer"), "norm must be one of rms, variance, got 'layer'"),
    (lambda: unchecked(DitConfig, clock="sun"), "clock must be one of staleness, frequency, got 'sun'"),
    (lambda: DitConfig(sinusoids=7), "come in pairs, got 7"),
    (lambda: PretrainedConfig("", 24), "needs a source"),
    (lambda: PretrainedConfig("t5", 0), "width must be at least 1, got 0"),
    (
        lambda: System1Config(
            dit=DitConfig(num_text_positions=8), text_encoder=PretrainedConfig("t5", 24, max_tokens=9)
        ),
        "text of up to 9 tokens does not fit num_text_positions=8",
    ),
    (lambda: unchecked(FormerConfig, kind="pool"), "kind must be one of resampler, projection, .*, got 'pool'"),
    (lambda: FormerConfig(num_tokens=9, num_frames=4), "num_tokens=9 cannot be shared out among num_frames=4"),
    (lambda: FilterConfig("sobel", then="scharr"), "then='scharr' follows a temporal filter"),
    (
        lambda: unchecked(FilterConfig, name="moft", then="moft"),
        "then must be one of none, sobel, scharr, laplacian, got 'moft'",
    ),
    (
        lambda: unchecked(FilterConfig, name="sobel", border="mirror"),
        "border must be one of replicate, zeros, got 'mirror'",
    ),
    (
        lambda: System2Config(BACKBONE, (replace(STREAM, width_px=20),)),
        "width_px=20 is not a multiple of the backbone's patch of 8",
    ),
    (lambda: replace(POLICY, cameras=("top@0",)), "written camera@steps, e.g. head@1, got 'top@0'"),
    (lambda: System1Config(depth=1), "at least 2 .* got 1"),
    (lambda: System1Config(hidden=30), "hidden=30 is not divisible by num_heads=4"),
    (lambda: replace(POLICY, execute_steps=9), r"1\.\.horizon \(8\), got 9"),
    (lambda: replace(POLICY, execute_steps=0), "got 0"),
    (lambda: replace(POLICY, refresh_every=0), "refresh_every must be at least 1, got 0"),
    (lambda: replace(POLICY, max_staleness_steps=-1), "must not be negative, got -1"),
    (lambda: replace(POLICY, fps=0.0), "fps must be positive, got 0.0"),
    (lambda: replace(POLICY, fps=float("nan")), "fps must be positive, got nan"),
    (
        lambda: replace(POLICY, system1=System1Config(hidden=30, num_heads=3)),
        "stream 'spatial': .* system1.hidden=30, which is not divisible by the former's num_heads=4",
    ),
    (lambda: OptimizationConfig(num_steps=-1), "num_steps must not be negative, got -1"),
    (lambda: OptimizationConfig(batch_size=0), "batch_size must be at least 1, got 0"),
    (lambda: OptimizationConfig(gradient_accumulation=0), "gradient_accumulation must be at least 1, got 0"),
    (lambda: OptimizationConfig(save_every=0), "save_every must be at least 1, got 0"),
    (lambda: OptimizationConfig(learning_rate=0.0), "learning_rate must be positive, got 0.0"),
    (lambda: TrainConfig(batch_size=0), "batch_size must be at least 1, got 0"),
    (lambda: VideoTrainConfig(validation_fraction=0.0), r"lie in \(0, 1\), got 0.0"),
    (lambda: VideoTrainConfig(validation_fraction=1.0), r"lie in \(0, 1\), got 1.0"),
    (lambda: VideoTrainConfig(batch_size=0), "batch_size must be at least 1, got 0"),
    (lambda: unchecked(VideoTrainConfig, batch_size=(8, 8)), r"batch_size must be a whole number, got \[8, 8\]"),
    (lambda: unchecked(VideoTrainConfig, batch_size=1.5), "batch_size must be a whole number, got 1.5"),
    (lambda: unchecked(TrainConfig, learning_rate="1e-4"), "learning_rate must be a number, got '1e-4'"),
    (lambda: unchecked(VideoTrainConfig, sizes_px=64), "sizes_px must be a tuple, got 64"),
    (lambda: unchecked(VideoTrainConfig, sizes_px="64"), "sizes_px must be a tuple, got '64'"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_what_cannot_work_is_refused(build: Callable[[], Any], message: str):
    with pytest.raises(ValueError, match=message):
        build()


def test_cameras_of_both_systems_are_listed_once():
    assert POLICY.all_cameras == ("top", "wrist")
    assert replace(POLICY, cameras=("wrist",)).all_cameras == ("wrist", "top")
    assert replace(POLICY, cameras=("wrist@1", "wrist")).all_cameras == ("wrist", "top")
    assert make_preset("tiny_blind", SPEC).all_cameras == ()


class TestPresets:
    def test_an_unknown_one_lists_those_there_are_and_guesses(self):
        with pytest.raises(
            ValueError, match=r"unknown preset 'tiny_system2'; did you mean 'tiny_system1'\? choose from tiny, "
        ):
            make_preset("tiny_system2", SPEC)
        with pytest.raises(ValueError, match="unknown preset 'xyz'; choose from tiny, "):
            make_preset("xyz", SPEC)

    def test_the_controls_differ_from_tiny_in_the_one_thing_their_name_says(self):
        system2, cameras = POLICY.system2, POLICY.cameras
        assert replace(make_preset("tiny_system1", SPEC), system2=system2, preset="tiny") == POLICY
        assert replace(make_preset("tiny_blind", SPEC), system2=system2, cameras=cameras, preset="tiny") == POLICY
        latents = make_preset("tiny_latents", SPEC)
        assert latents.system2 is not None
        assert latents.system2.backbone.feature_layers == (0,)
        assert replace(latents, system2=POLICY.system2, preset="tiny") == POLICY

    def test_rdt_1b_has_the_published_sizes(self):
        aloha = make_preset("rdt_1b", DataSpec(14, 14, 25.0, ("head", "right", "left"))).system1
        assert (aloha.hidden, aloha.depth, aloha.num_heads) == (2048, 28, 32)
        assert aloha.dit.positions_per_image == 729
        # fourteen numbers may be any robot's: which one it is must be said
        assert aloha.embodiment == ""

    def test_official_is_arranged_as_the_released_code(self):
        policy = make_preset("official", DataSpec(14, 14, 25.0, ("head", "right", "left")))
        assert policy.cameras == ("head@1", "right@1", "left@1", "head", "right", "left")
        assert policy.all_cameras == ("head", "right", "left")
        assert policy.system1.dit.positions_per_image == 729
        assert policy.system2 is not None
        assert policy.system2.filter_on == "latents"
        assert policy.system2.backbone.feature_norm == "none"
        assert [stream.frame_px for stream in policy.system2.streams] == [(480, 832), (224, 224)]
        assert [stream.former.kind for stream in policy.system2.streams] == ["projection", "projection"]

    @pytest.mark.parametrize("preset", PUBLISHED)
    @pytest.mark.parametrize("fps", [10.0, 50.0])
    def test_the_published_models_take_every_control_rate_and_survive_json(self, preset: str, fps: float):
        policy = make_preset(preset, replace(SPEC, fps=fps))
        assert policy.system2 is not None
        assert isinstance(policy.system2.backbone, PretrainedBackboneConfig)
        spatial, motion = policy.system2.streams
        assert (spatial.num_frames, motion.filter.name) == (1, "temporal_bandpass")
        assert from_json(PolicyConfig, to_json(policy), source="a file") == policy

    def test_a_name_of_no_video_model_lists_those_there_are(self):
        text = to_json(make_preset("wan22_5b", SPEC)).replace('"wan22"', '"wan33"')
        with pytest.raises(
            ValueError, match="unknown video model 'wan33'; choose from wan21, wan22, wan_small, hunyuan"
        ):
            from_json(PolicyConfig, text, source="a file")


def test_a_folder_in_place_of_a_file_is_named_as_one(tmp_path: Path):
    """It was said not to exist."""
    with pytest.raises(FileNotFoundError, match=r"is a folder; name the file in it, such as .*/config\.json"):
        read_plain(tmp_path)
