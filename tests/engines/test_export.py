"""Exporting: every form of policy that can be exported is exact, and what cannot is refused before any work."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_fakes import observations

from video2act.config import DenoisingConfig, FilterConfig, PolicyConfig, PretrainedBackboneConfig, PretrainedConfig
from video2act.data import open_dataset
from video2act.embodiment import UNIFIED, UNIFIED_DIM
from video2act.engines import export
from video2act.engines.choice import check_exportable
from video2act.engines.export import export_policy
from video2act.engines.folder import ENGINE_FILE, Engine
from video2act.engines.graphs import linear_schedule
from video2act.engines.parity import Parity, compare
from video2act.engines.policy import EnginePolicy
from video2act.policy import Video2Act
from video2act.presets import DataSpec, tiny
from video2act.programs.export import drawn_observations, recorded_observations
from video2act.statistics import Statistics
from video2act.system1.denoising import Denoising

Save = Callable[[PolicyConfig], Video2Act]

FORMS: dict[str, dict[str, Any]] = {
    "RDT's System 1 (ddpm); latents, moft, boundaries of what moves": {
        "system1.denoising": DenoisingConfig("ddpm", "sample", num_steps=4),
        "system1.dit.norm": "variance",
        "system1.dit.clock": "frequency",
        "system1.dit.pools_text": False,
        "system1.dit.num_text_positions": 40,
        "system1.dit.positions_per_image": 17,
        "normalize_action": "mean_std",
        "system2.filter_on": "latents",
        "system2.streams.motion.filter": FilterConfig("moft", keep=0.5, then="sobel"),
        "system2.streams.spatial.channel_order": "bgr",
    },
    "an imagined future, a mixture of layers, no images": {
        "cameras": (),
        "system2.streams.motion.imagine.num_frames": 4,
        "system2.backbone.feature_layers": (0, 1),
        "system2.backbone.feature_join": "mixture",
    },
    "System 1 alone": {"system2": None, "cameras": ("front@2", "front")},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_exact(save_run: Save, small_config: PolicyConfig, form: str, tmp_path: Path):
    policy = save_run(small_config.replace(FORMS[form]))
    seen = observations(policy.config)
    found = export_policy(policy, tmp_path / "out", engine="onnxruntime", observations=seen, checked_on="noise")
    assert found.actions < 1e-5
    assert found.tokens < 1e-5
    record = json.loads((tmp_path / "out" / ENGINE_FILE).read_text())
    assert record["parity"]["checked_on"] == "noise"
    assert record["has_system2"] == (policy.config.system2 is not None)


def test_one_robot_out_of_several_is_exported_as_itself(small_config: PolicyConfig, tmp_path: Path):
    """No policy with an embodiment could be exported, and the folder would have had the config of all robots."""
    unified = {"state_dim": UNIFIED_DIM, "action_dim": UNIFIED_DIM, "system1.embodiment": UNIFIED}
    spread = tuple(1 + i / 100 for i in range(UNIFIED_DIM))
    below = tuple(-value for value in spread)
    statistics = {name: Statistics((0.0,) * UNIFIED_DIM, spread, below, spread) for name in ("state", "action")}
    torch.manual_seed(0)
    Video2Act(small_config.replace(unified), statistics).save(tmp_path / "run")
    (tmp_path / "run" / "instructions.json").write_text('["push the block"]')
    robot = Video2Act.load(tmp_path / "run").of_robot("one_arm_position")
    found = export_policy(
        robot, tmp_path / "out", engine="onnxruntime", observations=observations(robot.config), checked_on="noise"
    )
    assert max(found.actions, found.tokens) < 1e-5
    exported = EnginePolicy(tmp_path / "out")
    assert exported.config == robot.config
    assert exported.statistics == robot.statistics
    assert exported.config.state_dim == 4


@pytest.mark.parametrize("part", ["the age", "the bounds of the state"])
def test_the_check_sees_what_only_some_plans_need(
    policy: Video2Act, exported: EnginePolicy, part: str, monkeypatch: pytest.MonkeyPatch
):
    """All plans were asked for with a condition of age 0 and a state within its range."""
    seen = observations(policy.config)
    assert compare(policy, exported, observations=seen).actions < 1e-5
    if part == "the age":
        monkeypatch.setattr("video2act.engines.policy.staleness_of", lambda condition, observation: 0.0)
    else:
        with torch.no_grad():
            for bound in (policy.normalize_state.low, policy.normalize_state.high):
                monkeypatch.setattr(bound, "data", bound * 1000)
    assert compare(policy, exported, observations=seen).actions > 1e-4


def test_system1_alone_takes_any_tokens(save_run: Save, small_config: PolicyConfig, tmp_path: Path):
    policy = save_run(small_config)
    seen = observations(policy.config)
    export_policy(
        policy, tmp_path / "out", engine="onnxruntime", observations=seen, checked_on="noise", only_system1=True
    )
    exported = EnginePolicy(tmp_path / "out")
    assert not (tmp_path / "out" / "perceive.onnx").exists()
    with pytest.raises(ValueError, match="serve RUN --only system2"):
        exported.perceive({}, ["push the block"])
    assert exported.system2_fingerprint() == policy.slow.fingerprint(), "a robot must know its System 2 elsewhere"


@pytest.mark.parametrize(
    "config",
    [
        DenoisingConfig("flow_matching", "sample", num_steps=5),
        DenoisingConfig("flow_matching", "velocity", num_steps=3),
        DenoisingConfig("ddpm", "sample", num_steps=6),
        DenoisingConfig("ddpm", "epsilon", num_steps=1),
    ],
)
def test_a_schedule_is_its_coefficients(config: DenoisingConfig):
    """The solver's own result, for a denoiser that is not linear."""
    denoising, noise = Denoising(config), torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(0))

    def denoise(noisy: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return torch.tanh(noisy) + timestep[:, None, None] / 1000

    timesteps, rows = linear_schedule(denoising)
    known = [noise.double()]
    for timestep, row in zip(timesteps, rows, strict=False):
        noisy = torch.stack([float(weight) * part for weight, part in zip(row, known, strict=False)]).sum(dim=0)
        known.append(denoise(noisy, torch.tensor([timestep])))
    result = torch.stack([float(weight) * part for weight, part in zip(rows[-1], known, strict=True)]).sum(dim=0)
    assert len(timesteps) == config.num_steps
    assert torch.allclose(result.float(), denoising.sample(denoise, noise), atol=2e-6)


def test_no_folder_is_left_where_the_check_fails(
    save_run: Save, small_config: PolicyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    policy = save_run(small_config.replace({"system2": None}))
    monkeypatch.setattr(export, "compare", lambda *args, **options: Parity(actions=3e-4, tokens=0.0))
    with pytest.raises(ValueError, match=r"from PyTorch by 0.0003 in normalised actions .* nothing was exported"):
        export_policy(
            policy, tmp_path / "out", engine="onnxruntime", observations=observations(policy.config), checked_on=""
        )
    assert not list(tmp_path.iterdir())


def test_a_part_with_an_operation_that_no_engine_has_is_named(
    save_run: Save, small_config: PolicyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    policy = save_run(small_config.replace({"system2": None}))
    monkeypatch.setattr(policy.system1.dit.action_out, "forward", lambda x: torch.special.i1e(x[..., :2]))
    with pytest.raises(ValueError, match=r"System 1's denoiser cannot be exported: .*; run this policy with engine"):
        export_policy(
            policy, tmp_path / "out", engine="onnxruntime", observations=observations(policy.config), checked_on=""
        )
    assert not list(tmp_path.iterdir())


def test_a_number_that_is_not_finite_fails_the_check():
    for parity in (Parity(float("nan"), 0.0), Parity(0.0, float("inf"))):
        with pytest.raises(ValueError, match="differs from PyTorch"):
            parity.check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"system1.image_encoder": PretrainedConfig("google/siglip", width=8)}, "System 1's image encoder .google/sig"),
        ({"system2.streams.motion.encoding": "stream"}, "stream 'motion' of System 2 has encoding='stream'"),
    ],
)
def test_what_cannot_be_exported_is_named(small_config: PolicyConfig, changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        check_exportable(small_config.replace(changes), has_system2=True)


@pytest.mark.parametrize(("name", "dtype"), [("wan22", "float32"), ("wan_small", "bfloat16")])
def test_a_published_video_model_is_named(small_config: PolicyConfig, name: str, dtype: str):
    assert small_config.system2 is not None
    backbone = PretrainedBackboneConfig(name, "somewhere", feature_layers=(1,), dtype=dtype)  # type: ignore[arg-type]
    streams = tuple(replace(stream, size_px=64) for stream in small_config.system2.streams)
    config = replace(small_config, system2=replace(small_config.system2, backbone=backbone, streams=streams))
    with pytest.raises(ValueError, match=r"System 2's video model .*--only system1"):
        check_exportable(config, has_system2=True)
    check_exportable(config, has_system2=False)


def test_int8_is_for_onnxruntime(policy: Video2Act, tmp_path: Path):
    with pytest.raises(ValueError, match="int8 is written for onnxruntime"):
        export_policy(policy, tmp_path / "out", engine="openvino", observations=[], checked_on="", int8=True)


def test_another_folder_is_not_overwritten(policy: Video2Act, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists; remove it"):
        export_policy(policy, tmp_path, engine="onnxruntime", observations=[], checked_on="")
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_tiny_is_exact(save_run: Save, engine: Engine, tmp_path: Path):
    policy = save_run(tiny(DataSpec(3, 2, 20.0, ("front", "wrist"))))
    seen = [
        replace(one, images={name: np.tile(image, (3, 3, 1)) for name, image in one.images.items()})
        for one in observations(policy.config)
    ]
    found = export_policy(policy, tmp_path / "out", engine=engine, observations=seen, checked_on="noise")
    assert found.actions < 1e-5
    assert found.tokens < 5e-5


def test_a_quantisation_that_fails_leaves_no_folder_and_the_log_as_it_was(
    policy: Video2Act, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Warnings of the whole program were off afterwards."""
    quantization = pytest.importorskip("onnxruntime.quantization")

    def quantize(*args: Any, **options: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(quantization, "quantize_dynamic", quantize)
    seen, before = observations(policy.config), logging.root.manager.disable
    with pytest.raises(OSError, match="no space left"):
        export_policy(policy, tmp_path / "out", engine="onnxruntime", observations=seen, checked_on="", int8=True)
    assert logging.root.manager.disable == before
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_int8_records_and_tells_what_it_changed(policy: Video2Act, tmp_path: Path):
    """The command told the accuracy of the policy before it was quantised."""
    out, seen = tmp_path / "out", observations(policy.config)
    told = export_policy(policy, out, engine="onnxruntime", observations=seen, checked_on="noise", int8=True)
    assert told.actions == json.loads((out / ENGINE_FILE).read_text())["parity"]["int8"]["actions"]
    record = json.loads((out / ENGINE_FILE).read_text())
    assert record["is_int8"]
    assert record["parity"]["actions"] < 1e-5 < record["parity"]["int8"]["actions"] < 1.0
    assert EnginePolicy(out).exported.is_int8


def test_recorded_observations_are_those_of_an_episode(policy: Video2Act, recorded: Path):
    found = list(recorded_observations(policy.config, recorded, run=recorded, episode=1))
    dataset = open_dataset(recorded)
    assert len(found) == dataset.lengths[1]
    assert np.array_equal(found[3].images["wrist"], dataset.frames(1, "wrist")[3])
    assert np.array_equal(found[3].state, dataset.episode(1).state[3])
    assert found[3].time == pytest.approx(3 / 20)
    with pytest.raises(ValueError, match=r"has episodes 0..2, asked for 9"):
        list(recorded_observations(policy.config, recorded, run=recorded, episode=9))
    with pytest.raises(ValueError, match=r"does not fit this policy: it has cameras .* the policy needs front, top"):
        list(recorded_observations(replace(policy.config, cameras=("front", "top")), recorded, run=recorded, episode=0))


def test_drawn_observations_fit_the_policy(policy: Video2Act, small_config: PolicyConfig):
    drawn = drawn_observations(small_config, policy.statistics["state"], instruction="push")
    first, second = next(drawn), next(drawn)
    assert set(first.images) == {"front", "wrist"}
    assert (first.images["front"] != second.images["front"]).any()
    assert (first.state <= 6.0).all()
    assert (first.state >= 0.0).all()


def test_a_graph_does_not_depend_on_the_processor_that_writes_it(monkeypatch: pytest.MonkeyPatch):
    """Processors with bfloat16 wrote graphs that no engine reads."""
    from video2act import precision

    monkeypatch.setattr(precision, "has_fast_bf16", lambda device: True)
    with precision.full_precision(), precision.fast_precision(torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")
    with precision.fast_precision(torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu")
