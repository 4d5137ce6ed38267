"""The LeRobot plugin against today's library, over a stand-in for the few names of LeRobot that it builds on.

What LeRobot itself makes of it is `make test-interop`'s business; that the plugin still fits what it calls is told
here.
"""

import dataclasses
import enum
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed import FileStore, init_device_mesh

from video2act.config import PolicyConfig
from video2act.policy import Video2Act
from video2act.presets import PRESETS, DataSpec, make_preset

PLUGIN = Path(__file__).parents[1] / "lerobot_policy_video2act" / "src"


class NormalizationMode(enum.Enum):
    IDENTITY = "IDENTITY"


@dataclass
class PreTrainedConfig:
    input_features: dict[str, Any] = field(default_factory=dict)
    output_features: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"

    @classmethod
    def register_subclass(cls, name: str) -> Any:
        return lambda subclass: subclass

    def __post_init__(self) -> None: ...

    robot_state_feature = property(lambda self: self.input_features.get("observation.state"))
    action_feature = property(lambda self: self.output_features.get("action"))
    image_features = property(lambda self: {k: v for k, v in self.input_features.items() if "image" in k})


class PreTrainedPolicy(nn.Module):
    def __init__(self, config: Any):
        super().__init__()
        self.config = config


STANDS_IN = {
    "configs.policies": {"PreTrainedConfig": PreTrainedConfig},
    "configs.types": {"NormalizationMode": NormalizationMode},
    "optim.optimizers": {"AdamWConfig": SimpleNamespace},
    "optim.schedulers": {"DiffuserSchedulerConfig": SimpleNamespace},
    "policies.pretrained": {"PreTrainedPolicy": PreTrainedPolicy},
}


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModuleType, ModuleType]]:
    """Its modules of the config and of the policy."""
    for name, content in STANDS_IN.items():
        for package in ("lerobot", f"lerobot.{name.partition('.')[0]}"):
            monkeypatch.setitem(sys.modules, package, ModuleType(package))
        module = ModuleType(f"lerobot.{name}")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    package = ModuleType("lerobot_policy_video2act")
    package.__path__ = [str(PLUGIN / package.__name__)]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    names = [f"{package.__name__}.{name}" for name in ("configuration_video2act", "modeling_video2act")]
    yield importlib.import_module(names[0]), importlib.import_module(names[1])
    for name in [*names, f"{package.__name__}.batches", f"{package.__name__}.chunking"]:
        sys.modules.pop(name)


@pytest.fixture
def make(
    plugin: tuple[ModuleType, ModuleType], small_config: PolicyConfig, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Makes a new policy of the small preset; its video model has random weights, which only a test may have."""
    configuration, modeling = plugin
    monkeypatch.setitem(PRESETS, "tiny", lambda spec: small_config)
    monkeypatch.setattr(modeling, "build_policy", lambda config, statistics, video_model: Video2Act(config, statistics))
    shapes = {
        "observation.images.front": (3, 16, 16),
        "observation.images.wrist": (3, 16, 16),
        "observation.state": (3,),
    }
    stats = {
        name: {"mean": [0.0] * size, "std": [1.0] * size, "min": [-1.0] * size, "max": [1.0] * size}
        for name, size in (("observation.state", 3), ("action", 2))
    }
    # an angle in degrees
    stats["observation.state"] = {
        "mean": [45.0, 0.0, 0.0],
        "std": [60.0, 1.0, 1.0],
        "min": [-180.0, -1.0, -1.0],
        "max": [300.0, 1.0, 1.0],
    }

    def made(**options: Any) -> Any:
        config = configuration.Video2ActConfig(
            input_features={name: SimpleNamespace(shape=shape) for name, shape in shapes.items()},
            output_features={"action": SimpleNamespace(shape=(2,))},
            fps=small_config.fps,
            **options,
        )
        return modeling.Video2ActPolicy(config, stats).eval()

    return made


@pytest.fixture
def policy(make: Callable[..., Any]) -> Any:
    return make()


def training_batch(policy: Any, real_steps: int) -> dict[str, Any]:
    """Two samples, before which as many control steps lie."""
    looks_back, horizon = len(policy.config.observation_delta_indices), len(policy.config.action_delta_indices)
    is_pad = torch.arange(looks_back) < looks_back - 1 - real_steps
    images = {f"observation.images.{camera}": torch.rand(2, looks_back, 3, 16, 16) for camera in ("front", "wrist")}
    return {
        **images,
        **{f"{name}_is_pad": is_pad.repeat(2, 1) for name in images},
        "observation.state": torch.zeros(2, looks_back, 3),
        "action": torch.zeros(2, horizon, 2),
        "action_is_pad": torch.zeros(2, horizon, dtype=torch.bool),
        "task": ["push", "pull"],
    }


def test_it_takes_a_training_step(policy: Any):
    """It handed over one chance where the library had begun to take two."""
    loss, told = policy.train()(training_batch(policy, 3))
    loss.backward()
    assert torch.isfinite(loss)
    assert any(parameter.grad is not None for parameter in policy.parameters())
    assert told["staleness_s"] >= 0


def seen_by(policy: Any, batch: int = 2) -> dict[str, Any]:
    """A batch of newest observations."""
    of = training_batch(policy, 3)
    seen = {name: of[name][:batch, -1] for name in of if name.startswith("observation.") and "_is_pad" not in name}
    return {**seen, "task": ["push", "pull"][:batch]}


def test_it_acts(policy: Any, small_config: PolicyConfig):
    assert policy.select_action(seen_by(policy)).shape == (2, 2)
    assert policy.predict_action_chunk(seen_by(policy)).shape == (2, small_config.horizon, 2)


# real-time chunking


@pytest.mark.parametrize("rows", [1, 2], ids=["one robot, as LeRobot's rollout", "batched"])
def test_a_chunk_continues_what_is_left_of_the_last_one(policy: Any, rows: int):
    seen = seen_by(policy, batch=rows)
    left = policy.predict_action_chunk(seen, inference_delay=0)[:, 1:4] + 0.25
    handed = left[0] if rows == 1 else left
    again = policy.predict_action_chunk(seen, inference_delay=2, prev_chunk_left_over=handed)
    torch.testing.assert_close(again[:, :2], left[:, :2], msg="the actions that are executed meanwhile")
    assert not torch.equal(again[:, 2:], policy.predict_action_chunk(seen, inference_delay=2)[:, 2:])


def test_it_continues_in_inference_mode(policy: Any):
    """Guidance takes gradients, which tensors made in inference mode do not have."""
    with torch.inference_mode():
        seen = {name: value.clone() if torch.is_tensor(value) else value for name, value in seen_by(policy, 1).items()}
        left = policy.predict_action_chunk(seen, inference_delay=0)[0, 1:]
        again = policy.predict_action_chunk(seen, inference_delay=1, prev_chunk_left_over=left)
    torch.testing.assert_close(again[0, 0], left[0])


def test_it_acts_in_inference_mode(policy: Any):
    """`lerobot-eval` acts so: its second plan, which continues the first, took gradients."""
    with torch.inference_mode():
        seen = {name: value.clone() if torch.is_tensor(value) else value for name, value in seen_by(policy, 1).items()}
        for _ in range(policy.model.config.execute_steps + 1):
            assert policy.select_action(seen).shape == (1, 2)


def test_rows_that_lerobot_fills_up_are_no_actions(plugin: Any):
    chunking = importlib.import_module("lerobot_policy_video2act.chunking")
    left = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [0.0, 0.0]])
    found = chunking.committed_actions(left, 3, execution_horizon=None, batch=1, action_dim=2)
    assert (len(found[0].actions), found[0].num_frozen) == (2, 2)
    found = chunking.committed_actions(left, 0, execution_horizon=1, batch=1, action_dim=2)
    assert (len(found[0].actions), found[0].num_frozen) == (1, 0)
    assert chunking.committed_actions(left[2:], 1, execution_horizon=None, batch=1, action_dim=2) == [None]


@pytest.mark.parametrize(
    ("left", "delay", "complaint"),
    [
        ((3, 5), 1, r"\[n 2\] or \[1 n 2\].*\[3, 5\]"),
        ((2, 3, 2), 1, r"got \[2, 3, 2\]"),
        ((3, 2), -1, "at least 0; got -1"),
    ],
)
def test_another_shape_is_refused(policy: Any, left: tuple[int, ...], delay: int, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        policy.predict_action_chunk(seen_by(policy, 1), inference_delay=delay, prev_chunk_left_over=torch.ones(left))


def test_no_unknown_argument_is_swallowed(policy: Any):
    for call in (policy.predict_action_chunk, policy.select_action):
        with pytest.raises(TypeError, match="inference_delays"):
            call(seen_by(policy), inference_delays=2)
    with pytest.raises(TypeError, match="dataset_stat"):
        type(policy)(policy.config, dataset_stat={})


def test_lerobots_rollout_finds_what_it_asks_for(policy: Any):
    """Its own check, `supports_rtc_inference`."""
    assert policy.supports_rtc()
    inspect.signature(policy.predict_action_chunk).bind(object(), inference_delay=0, prev_chunk_left_over=None)


def test_control_steps_between_two_chunks_are_counted_on_the_wall_clock(policy: Any, monkeypatch: pytest.MonkeyPatch):
    """LeRobot's rollout asks once per chunk, but System 2's clips have a frame per control step."""
    now, fps = [0.0], policy.model.config.fps
    monkeypatch.setattr(policy._elapsed, "_clock", lambda: now[0])
    observed: list[float] = []
    seen = seen_by(policy, 1)
    policy.predict_action_chunk(seen, inference_delay=0)
    own = policy._runners[0].policy
    observe = own.observe
    monkeypatch.setattr(own, "observe", lambda frame: (observed.append(frame.time * fps), observe(frame)))
    now[0] += 3.2 / fps
    policy.predict_action_chunk(seen, inference_delay=1)
    assert observed == pytest.approx([0, 0, 3])
    now[0] += 0.2 / fps
    policy.predict_action_chunk(seen, inference_delay=1)
    now[0] += 1.6 / fps
    policy.predict_action_chunk(seen, inference_delay=1)
    assert observed == pytest.approx([0, 0, 3, 4, 5]), "the parts of a step must not add up"
    policy.predict_action_chunk(seen)
    assert observed[-1] == pytest.approx(6), "without a delay it is the next control step"


def test_lerobots_settings_of_real_time_chunking_count(make: Callable[..., Any]):
    policy = make(rtc_training_max_delay=3)
    seen, left = seen_by(policy, 1), torch.full((4, 2), 0.3)

    def frozen(**settings: Any) -> Any:
        policy.config.rtc_config = SimpleNamespace(max_guidance_weight=7.0, **settings)
        policy.reset()
        chunk = policy.predict_action_chunk(seen, inference_delay=2, prev_chunk_left_over=left)
        return bool((chunk[0, :2] == left[:2]).all()), policy._runners[0].policy._guidance

    assert frozen(enabled=False) == (False, None)
    assert frozen(enabled=True) == (True, 7.0)
    assert frozen(enabled=True, mode="trained") == (True, None)
    with pytest.raises(ValueError, match="at most 3"):
        policy.predict_action_chunk(seen, inference_delay=4, prev_chunk_left_over=left)


def test_trained_chunking_needs_the_training(make: Callable[..., Any]):
    with pytest.raises(ValueError, match=r"--policy\.overlap=rtc,"):
        make(overlap="rtc_trained")
    with pytest.raises(ValueError, match="rtc or rtc_trained, got 'replace'"):
        make(overlap="replace")
    policy = make(overlap="rtc_trained", rtc_training_max_delay=2)
    assert policy.model.config.system1.max_delay_steps == 2
    policy.predict_action_chunk(seen_by(policy, 1), inference_delay=0)
    assert policy._runners[0].policy._guidance is None


# LeRobot's other hooks


def test_lerobot_loads_the_weights_by_position(policy: Any, tmp_path: Path):
    """`from_pretrained` of every LeRobot calls it so; keyword-only arguments made every evaluation fail."""
    file = tmp_path / "model.safetensors"
    policy.model.save_weights(file)
    before = policy.predict_action_chunk(seen_by(policy))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
    policy.reset()
    policy.model.seed(0)
    type(policy)._load_as_safetensor(policy, str(file), "cpu", False)
    torch.testing.assert_close(policy.predict_action_chunk(seen_by(policy)).isfinite(), before.isfinite())
    assert any(bool(parameter.any()) for parameter in policy.parameters())


def saved_and_loaded(policy: Any, plugin: Any, folder: Path, **changes: Any) -> Any:
    policy.model.save_weights(folder / "model.safetensors")
    loaded = plugin[1].Video2ActPolicy(dataclasses.replace(policy.config, **changes)).eval()
    return loaded._load_as_safetensor(loaded, str(folder / "model.safetensors"), "cpu", False)


def test_a_loaded_policy_reads_states_as_the_saved_one(make: Callable[..., Any], plugin: Any, tmp_path: Path):
    """It clipped every state to [-2, 2]: the range was not saved."""
    policy = make()
    loaded = saved_and_loaded(policy, plugin, tmp_path)
    assert loaded.model.statistics == policy.model.statistics
    assert loaded.model.statistics["state"].max == (300.0, 1.0, 1.0)
    state = torch.tensor([[90.0, 0.5, 7.0]])
    assert policy.model.normalize_state.clip(state).tolist() == [[90.0, 0.5, 2.0]]
    torch.testing.assert_close(loaded.model.normalize_state.clip(state), policy.model.normalize_state.clip(state))
    (tmp_path / "again").mkdir()
    again = saved_and_loaded(loaded, plugin, tmp_path / "again")
    assert again.config.statistics == policy.config.statistics


def test_a_checkpoint_of_an_older_plugin_clips_nothing_and_says_so(
    make: Callable[..., Any], plugin: Any, tmp_path: Path
):
    policy = make()
    with pytest.warns(UserWarning, match="saved before the plugin kept statistics"):
        loaded = saved_and_loaded(policy, plugin, tmp_path, statistics="")
    state = torch.tensor([[-9000.0, 0.5, 7.0]])
    assert torch.equal(loaded.model.normalize_state.clip(state), state)
    torch.testing.assert_close(
        loaded.model.normalize_state.normalize(state), policy.model.normalize_state.normalize(state)
    )


def test_statistics_of_other_weights_are_refused(make: Callable[..., Any], plugin: Any, tmp_path: Path):
    policy = make()
    other = policy.config.statistics.replace("45.0", "-45.0")
    with pytest.raises(ValueError, match=r"config\.json: state is not that of these weights"):
        saved_and_loaded(policy, plugin, tmp_path, statistics=other)
    with pytest.raises(ValueError, match=r"the field `statistics` of config\.json does not hold statistics"):
        saved_and_loaded(policy, plugin, tmp_path, statistics="[]")


def test_clips_of_a_control_stand_still_in_training_too(policy: Any):
    """`is_still` was read on the robot only."""
    batches = importlib.import_module("lerobot_policy_video2act.batches")
    seen = training_batch(policy, 3)
    config, generator = policy.model.config, torch.Generator().manual_seed(0)
    moving = next(s for s in config.system2.streams if s.num_frames > 1)
    streams = tuple(
        dataclasses.replace(s, is_still=s.num_frames > 1, encoding="window") for s in config.system2.streams
    )
    still = dataclasses.replace(config, system2=dataclasses.replace(config.system2, streams=streams))
    clip = batches.training_batch(seen, still, generator=generator).videos[moving.name].grid
    assert (clip == clip[:, :, -1:]).all()
    clip = batches.training_batch(seen, config, generator=generator).videos[moving.name].grid
    assert not (clip == clip[:, :, -1:]).all()


def test_a_rhythm_that_lerobots_batches_cannot_keep_is_refused(policy: Any):
    """It was trained on other clips than the robot sees."""
    batches = importlib.import_module("lerobot_policy_video2act.batches")
    config = policy.model.config
    streams = tuple(dataclasses.replace(s, every=2) for s in config.system2.streams)
    config = dataclasses.replace(config, system2=dataclasses.replace(config.system2, streams=streams))
    with pytest.raises(ValueError, match=r"every=2.*video2act train"):
        batches.training_batch(training_batch(policy, 3), config, generator=torch.Generator())


def test_a_camera_with_the_sign_of_past_images_has_another_name(plugin: Any):
    """A policy read `top@1` as what `top` saw a step ago, as in our own training."""
    batches = importlib.import_module("lerobot_policy_video2act.batches")
    seen = batches.frames({f"observation.images.{name}": torch.zeros(1, 3, 4, 4) for name in ("top", "top@1")})
    assert list(seen) == ["top", "top_1"]


def test_queued_actions_are_dropped(policy: Any):
    seen = seen_by(policy)
    policy.select_action(seen)
    policy.select_action(seen)
    assert not policy._runners[0].decision.is_new_plan
    policy.drop_queued_actions()
    policy.select_action(seen)
    assert all(runner.decision.is_new_plan for runner in policy._runners)


def test_peft_adapts_the_blocks_of_system1(policy: Any):
    peft = pytest.importorskip("peft")
    count = len(policy.model.system1.dit.blocks)
    policy.requires_grad_(False)
    adapted = peft.get_peft_model(policy, peft.LoraConfig(r=2, **policy._get_default_peft_targets()))
    loss, _ = adapted(training_batch(policy, 3))
    loss.backward()
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * 7 * count
    assert all(".system1.dit.blocks." in name for name in trained)
    assert policy.get_optim_params()
    assert policy.select_action(seen_by(policy)).shape == (2, 2)


def test_its_fsdp_units_are_gathered_where_they_are_used(policy: Any, tmp_path: Path):
    """A unit's weights are there in its own `forward` only."""
    from torch.distributed import destroy_process_group, init_process_group
    from torch.distributed.fsdp import fully_shard

    batch = training_batch(policy, 3)
    torch.manual_seed(0)
    whole, _ = policy.train()(batch)
    init_process_group("gloo", store=FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        units = [module for module in policy.modules() if type(module).__name__ in policy._fsdp_wrap_modules]
        for module in units:
            fully_shard(module, mesh=mesh)
        fully_shard(policy, mesh=mesh)
        torch.manual_seed(0)
        sharded, _ = policy(batch)
        sharded.backward()
    finally:
        destroy_process_group()
    assert len(units) > 10
    torch.testing.assert_close(sharded, whole)


class TestControlRate:
    """LeRobot asks for the frames before it says which data it has: a new policy's window was that of 30 Hz, so that
    its clips repeated their oldest frame at 50 Hz and more."""

    @pytest.mark.parametrize("preset", ["tiny", "tiny_system1", "small", "cosmos_lookahead"])
    @pytest.mark.parametrize("fps", [10.0, 50.0, 80.0])
    def test_the_window_holds_every_clip(self, plugin: Any, preset: str, fps: float):
        new = plugin[0].Video2ActConfig(preset=preset, fps=fps)
        policy = make_preset(preset, DataSpec(3, 2, fps, ("front",)))
        window, oldest = new.observation_delta_indices, 0
        for stream in policy.system2.streams if policy.system2 else ():
            newest = -policy.max_staleness_steps
            oldest = min(oldest, newest - stream.stride * (stream.num_frames - 1))
        assert window == list(range(oldest, 1))
        assert len(new.action_delta_indices) == policy.horizon

    def test_a_new_policy_needs_the_rate_of_its_data_and_no_other(self, plugin: Any, make: Callable[..., Any]):
        with pytest.raises(ValueError, match=r"pass --policy.fps=F, the dataset's, in Hz"):
            _ = plugin[0].Video2ActConfig().observation_delta_indices
        assert plugin[0].Video2ActConfig()._rate(50) == 50  # of a dataset that is known
        with pytest.raises(ValueError, match=r"--policy.fps=10, but the dataset has 50 frames a second; pass that"):
            plugin[0].Video2ActConfig(fps=10).plan(50)
        with pytest.raises(ValueError, match=r"trained with 20 control steps a second, and the dataset has 50, so"):
            make().config.plan(50)

    def test_a_batch_with_too_few_frames_is_refused(self, policy: Any):
        batch = training_batch(policy, real_steps=2)
        batch |= {name: batch[name][:, 1:] for name in batch if name.startswith("observation.")}
        with pytest.raises(ValueError, match=r"control steps, but this policy reads .* observation_delta_indices"):
            policy.forward(batch)
