import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from video2act.clips import FrameHistory
from video2act.config import PolicyConfig, PretrainedConfig
from video2act.files.run_folder import INSTRUCTIONS_FILE
from video2act.files.weights import save_weights
from video2act.observations import read_image
from video2act.policy import Video2Act
from video2act.statistics import Statistics
from video2act.system1 import Visibility
from video2act.system2 import load_system2
from video2act.text.cache import file_name
from video2act.types import Batch, Committed, Conditions, Observation, Tokens, Video, VideoCondition

MakePolicy = Callable[[PolicyConfig], Video2Act]
MakeBatch = Callable[..., Batch]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def policy(make_policy: MakePolicy, small_config: PolicyConfig) -> Video2Act:
    return make_policy(small_config)


def observation(seed: int = 0, time: float = 1.0, instruction: str = "push", size: int = 32) -> Observation:
    rng = np.random.default_rng(seed)
    images = {camera: rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for camera in ("front", "wrist")}
    return Observation(images, rng.standard_normal(3).astype(np.float32), instruction, time)


def condition(policy: Video2Act, seed: int = 0, observed_at: float = 1.0) -> VideoCondition:
    streams = policy.config.system2.streams if policy.config.system2 else ()
    history = FrameHistory(streams)
    for step in range(9):
        history.append(observation(100 * seed + step))
    return VideoCondition(policy.perceive(history.clips(20.0), ["push"]), observed_at, episode=0)


def act(policy: Video2Act, seen: Observation, video: VideoCondition) -> np.ndarray:
    policy.seed(3)
    return policy.act(seen, video).actions


class TestTraining:
    def test_the_loss_is_a_function_of_weights_batch_and_generator(
        self, policy: Video2Act, small_config: PolicyConfig, make_batch: MakeBatch
    ):
        batch = make_batch(small_config)
        loss = policy(batch, generator())
        assert loss.isfinite()
        torch.rand(1)
        assert policy(batch, generator()) == loss
        assert policy(batch, generator(1)) != loss
        assert policy(batch, generator(), state_noise=0.5) != loss

    def test_everything_but_the_backbone_learns(
        self, policy: Video2Act, small_config: PolicyConfig, make_batch: MakeBatch
    ):
        policy.train()
        policy(make_batch(small_config), generator()).backward()
        frozen = [name for name, p in policy.named_parameters() if p.grad is None]
        assert frozen
        assert all(name.startswith("system2.backbone.") for name in frozen)

    def test_what_was_cached_teaches_the_same_as_what_is_seen_live(
        self, policy: Video2Act, small_config: PolicyConfig, make_batch: MakeBatch
    ):
        batch = make_batch(small_config)
        assert policy.system2 is not None
        cached = replace(batch, videos=policy.system2.see(batch.videos, batch.instruction), stage="seen")
        assert policy(cached, generator()) == policy(batch, generator())

    def test_a_state_far_outside_the_training_data_is_clipped_as_when_acting(
        self, policy: Video2Act, small_config: PolicyConfig, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
    ):
        """And normalised: the first dimension lies in 0 to 2, with half that range allowed on either side."""
        told, project = [], policy.system1.project
        monkeypatch.setattr(policy.system1, "project", lambda *a, **words: (told.append(a[1]), project(*a, **words))[1])
        far = torch.tensor([[1e6, 2.0, 3.0], [-1e6, 3.0, 1.0]])
        policy(replace(make_batch(small_config), state=far), generator())
        assert told[0].tolist() == [[4.0, 0.0, 0.0], [-4.0, 1.0, -1.0]]

    def test_system_2_reads_the_sentence_of_its_clip_and_system_1_that_of_the_present(
        self, policy: Video2Act, small_config: PolicyConfig, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
    ):
        """They differ where an instruction changes within an episode."""
        told: list[list[str]] = []
        see_on, gather = policy.slow.see_on, policy.system1.gather
        monkeypatch.setattr(
            policy.slow, "see_on", lambda *a, **words: (told.append(words["instruction"]), see_on(*a, **words))[1]
        )
        monkeypatch.setattr(policy.system1, "gather", lambda *a, **words: (told.append(a[0]), gather(*a, **words))[1])
        batch = make_batch(small_config)
        policy(replace(batch, clip_instruction=("lift", "turn")), generator())
        policy(batch, generator())
        assert told == [["lift", "turn"], batch.instruction, batch.instruction, batch.instruction]

    def test_change_the_padding_of_the_text_and_nothing_changes(
        self, policy: Video2Act, small_config: PolicyConfig, make_batch: MakeBatch
    ):
        """Beside a long instruction a short one is padded; its sample's loss stays what it is."""
        batch = make_batch(small_config, size=2)
        # only the first sample's actions count
        is_pad = torch.tensor([[False] * 4, [True] * 4])
        losses = [
            policy(replace(batch, instruction=["push", other], action_is_pad=is_pad), generator())
            for other in ("pull", "open the drawer and put the block into it")
        ]
        assert torch.allclose(losses[0], losses[1], atol=1e-4)

    def test_the_loss_is_in_normalised_units(
        self, small_config: PolicyConfig, make_batch: MakeBatch, make_policy: MakePolicy
    ):
        """A robot that measures in millimetres learns as one that measures in metres."""
        batch, policy = make_batch(small_config), make_policy(small_config)
        scaled = {
            name: Statistics(*(tuple(1000 * v for v in values) for values in (s.mean, s.std, s.min, s.max)))  # type: ignore[arg-type]
            for name, s in policy.statistics.items()
        }
        torch.manual_seed(0)
        other = Video2Act(small_config, scaled)
        millimetres = replace(batch, state=1000 * batch.state, actions=1000 * batch.actions)
        assert torch.allclose(other(millimetres, generator()), policy(batch, generator()), rtol=1e-4)

    def test_what_is_hidden_does_not_count(self, policy: Video2Act, small_config: PolicyConfig, make_batch: MakeBatch):
        first, second = make_batch(small_config, seed=0), make_batch(small_config, seed=1)
        other = replace(second, actions=first.actions, instruction=first.instruction, staleness=first.staleness)
        shown, hidden = torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.bool)
        visible = Visibility(text=shown, image=hidden, video=hidden, state=hidden)
        assert torch.allclose(policy(first, generator(), visible), policy(other, generator(), visible), atol=1e-6)
        assert policy(first, generator()) != policy(other, generator())


class TestActing:
    def test_shapes_and_stamps(self, policy: Video2Act):
        seen = condition(policy)
        assert seen.tokens.data.shape == (1, 6, 32)
        chunk = policy.act(observation(time=1.25), seen)
        assert chunk.actions.shape == (4, 2)
        assert np.isfinite(chunk.actions).all()
        assert chunk.observed_at == 1.25
        assert chunk.period == pytest.approx(0.05)

    def test_change_the_video_and_tokens_and_actions_change(self, policy: Video2Act):
        first, second = condition(policy, 0), condition(policy, 1)
        assert (first.tokens.data - second.tokens.data).abs().mean() > 1e-2
        assert not np.allclose(act(policy, observation(), first), act(policy, observation(), second), atol=1e-5)

    def test_everything_observed_matters(self, policy: Video2Act):
        video, base = condition(policy), observation()
        plan = act(policy, base, video)
        other = observation(5)
        for changed in (
            replace(base, images=other.images),
            replace(base, images=base.images | {"wrist": other.images["wrist"]}),
            replace(base, state=other.state),
            replace(base, instruction="pull it up"),
            replace(base, time=1.3),
        ):
            assert not np.allclose(plan, act(policy, changed, video), atol=1e-6)

    def test_a_seed_is_reproduced(self, policy: Video2Act):
        video = condition(policy)
        assert np.array_equal(act(policy, observation(), video), act(policy, observation(), video))
        # without seeding, the next chunk starts from other noise
        assert not np.array_equal(act(policy, observation(), video), policy.act(observation(), video).actions)

    def test_no_gradient_is_recorded(self, policy: Video2Act, small_config: PolicyConfig, make_batch: MakeBatch):
        batch = make_batch(small_config)
        assert not policy.perceive(batch.videos, batch.instruction).data.requires_grad
        assert not any(video.grid.requires_grad for video in policy.explain(batch.videos, batch.instruction).values())

    def test_half_the_memory_gives_nearly_the_same_plan(self, make_policy: MakePolicy, small_config: PolicyConfig):
        policy = make_policy(small_config)
        plan = act(policy, observation(), condition(policy))
        half = policy.to_bfloat16()
        assert half.system1.dit.position.dtype == torch.bfloat16
        assert half.normalize_action.scale.dtype == torch.float32
        again = act(half, observation(), condition(half))
        assert again.dtype == np.float32
        assert np.allclose(again, plan, atol=0.05)

    def test_with_half_the_memory_a_frozen_encoders_sentence_is_checked(
        self, make_policy: MakePolicy, small_config: PolicyConfig, tmp_path: Path
    ):
        save_file({"tokens": torch.randn(3, 8)}, tmp_path / file_name("push"), {"encoder": "x"})
        encoder = PretrainedConfig("", 8, str(tmp_path))
        half = make_policy(small_config.replace({"system1.text_encoder": encoder})).to_bfloat16()
        half.check_instruction("push")

    def test_actions_come_in_raw_units(self, make_policy: MakePolicy, small_config: PolicyConfig):
        policy = make_policy(small_config)
        shift = policy.normalize_action.shift.clone()
        plan = act(policy, observation(), condition(policy))
        policy.normalize_action.shift += 100
        assert np.allclose(act(policy, observation(), condition(policy)), plan + 100, atol=1e-4)
        assert torch.equal(shift, torch.tensor([0.5, -0.5]))

    def test_images_may_be_larger_and_are_averaged_down(self, policy: Video2Act):
        seen = observation()
        enlarged = {camera: image.repeat(2, axis=0).repeat(2, axis=1) for camera, image in seen.images.items()}
        video = condition(policy)
        assert np.allclose(act(policy, seen, video), act(policy, replace(seen, images=enlarged), video), atol=1e-6)

    def test_explaining_shows_what_the_formers_read(
        self, policy: Video2Act, small_config: PolicyConfig, make_batch: MakeBatch
    ):
        batch = make_batch(small_config)
        assert policy.system2 is not None
        seen = policy.explain(batch.videos, batch.instruction)
        assert set(seen) == {"spatial", "motion"}
        with torch.no_grad():  # attention with gradients rounds otherwise
            tokens = policy.system2.compress(seen)
        assert torch.equal(tokens.data, policy.perceive(batch.videos, batch.instruction).data)


class TestRefused:
    @pytest.mark.parametrize("size", [2, 4])
    def test_a_state_of_another_size(self, policy: Video2Act, size: int):
        seen = replace(observation(), state=np.zeros(size, np.float32))
        with pytest.raises(ValueError, match=rf"trained on a state of 3 numbers, got \[{size}\]"):
            policy.act(seen, condition(policy))

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_state_that_is_not_finite(self, policy: Video2Act, value: float):
        seen = replace(observation(), state=np.array([0, value, 0], np.float32))
        with pytest.raises(ValueError, match="not finite"):
            policy.act(seen, condition(policy))

    def test_a_missing_camera_is_named_with_those_there_are(self, policy: Video2Act):
        seen = observation()
        with pytest.raises(ValueError, match="System 1 reads camera 'wrist', but the observation has front"):
            policy.act(replace(seen, images={"front": seen.images["front"]}), condition(policy))

    def test_images_too_small(self, policy: Video2Act):
        with pytest.raises(ValueError, match="frames of 8x8 are too small for 16x16"):
            policy.act(observation(size=8), condition(policy))

    def test_a_condition_from_the_future(self, policy: Video2Act):
        with pytest.raises(
            ValueError, match=r"observed 0\.500 s after the observation .*\(1\.500 s against 1\.000 s\); their clocks"
        ):
            policy.act(observation(), condition(policy, observed_at=1.5))

    def test_rounding_of_clocks_is_no_future(self, policy: Video2Act):
        now = condition(policy)
        plan = act(policy, observation(), now)
        assert np.array_equal(plan, act(policy, observation(), replace(now, observed_at=1.0 + 5e-7)))
        with pytest.raises(ValueError, match=r"observed 0\.002 s after"):
            policy.act(observation(), replace(now, observed_at=1.002))

    def test_statistics_of_another_robot(self, small_config: PolicyConfig, small_statistics: dict[str, Statistics]):
        with pytest.raises(ValueError, match="action_dim=2, but the statistics describe 3 dimensions"):
            Video2Act(small_config, small_statistics | {"action": small_statistics["state"]})
        with pytest.raises(ValueError, match="the statistics have no 'action', only state"):
            Video2Act(small_config, {"state": small_statistics["state"]})


class TestContinuing:
    @pytest.mark.parametrize("guidance", [5.0, None])
    def test_a_plan_begins_with_what_is_frozen_in_raw_units(
        self, make_policy: MakePolicy, small_config: PolicyConfig, guidance: float | None
    ):
        system1 = replace(small_config.system1, max_delay_steps=2)
        policy = make_policy(replace(small_config, system1=system1))
        rest = np.array([[1.0, -0.3], [0.5, -0.5], [2.0, -0.9]])
        chunk = policy.continue_plan(
            observation(), condition(policy), committed=Committed(rest, num_frozen=2), guidance=guidance
        )
        assert chunk.actions.shape == (4, 2)
        assert np.allclose(chunk.actions[:2], rest[:2], atol=1e-6)
        assert not np.allclose(chunk.actions[2], rest[2])

    def test_guidance_depends_on_the_plan_before_and_on_nothing_random(self, policy: Video2Act):
        def plan(far: float) -> np.ndarray:
            policy.seed(3)
            rest = np.array([[0.5, -0.5]] * 4) + far
            return policy.continue_plan(
                observation(), condition(policy), committed=Committed(rest, 0), guidance=5.0
            ).actions

        # where it leads is tested where the network has learned something: system1/test_real_time_chunking.py
        assert np.array_equal(plan(0.4), plan(0.4))
        assert not np.allclose(plan(0.4), plan(-0.4), atol=1e-6)

    def test_guidance_works_in_a_callers_inference_mode(self, policy: Video2Act):
        """Gradients cannot be taken of what inference mode made, and a robot's loop may run in it."""
        committed = Committed(np.array([[0.5, -0.5]] * 4), 1)
        expected = policy.continue_plan(observation(), condition(policy), committed=committed, guidance=5.0)
        policy.seed(0)
        with torch.inference_mode():
            seen = condition(policy)
            policy.act(observation(), seen)
            policy.seed(0)
            found = policy.continue_plan(observation(), seen, committed=committed, guidance=5.0)
        np.testing.assert_allclose(found.actions[:1], expected.actions[:1], atol=1e-6)


class TestSystem2Alone:
    def test_it_understands_what_the_whole_policy_does(self, policy: Video2Act, tmp_path: Path):
        policy.save(tmp_path)
        alone = load_system2(tmp_path)
        assert not any("system1" in name for name in alone.state_dict())
        assert alone.config == policy.config.system2
        history = FrameHistory(policy.config.system2.streams if policy.config.system2 else ())
        history.append(observation())
        clips = history.clips(20.0)
        assert torch.equal(alone.perceive(clips, ["push"]).data, policy.perceive(clips, ["push"]).data)

    def test_it_warms_up_on_an_instruction_of_the_training_if_it_knows_one(self, policy: Video2Act, tmp_path: Path):
        assert policy.trained_instruction() == ""
        policy.save(tmp_path)
        loaded = Video2Act.load(tmp_path)
        assert loaded.trained_instruction() == ""
        for sentences, first in ((["push it", "pull"], "push it"), ([], "")):
            (tmp_path / INSTRUCTIONS_FILE).write_text(json.dumps(sentences))
            assert loaded.trained_instruction() == first

    def test_a_policy_without_system_2_has_none_to_load(
        self, make_policy: MakePolicy, small_config: PolicyConfig, tmp_path: Path
    ):
        make_policy(replace(small_config, system2=None)).save(tmp_path)
        with pytest.raises(ValueError, match="no System 2, so there is nothing to run apart"):
            load_system2(tmp_path)


class TestBlinded:
    def test_it_ignores_images_and_video_but_not_the_rest(self, policy: Video2Act):
        blind, base = policy.blinded(), observation()
        plan = act(blind, base, condition(policy, 0))
        assert np.array_equal(plan, act(blind, replace(base, images=observation(5).images), condition(policy, 1)))
        assert np.array_equal(plan, act(blind, replace(base, images={}), condition(policy, 0)))
        assert np.array_equal(plan, act(blind, base, condition(blind)))
        assert not np.allclose(
            plan, act(blind, replace(base, state=observation(5).state), condition(policy)), atol=1e-6
        )
        assert not np.allclose(plan, act(blind, replace(base, instruction="pull it up"), condition(policy)), atol=1e-6)

    def test_the_policy_it_comes_from_keeps_its_eyes(self, policy: Video2Act):
        before = act(policy, observation(), condition(policy))
        blind = policy.blinded()
        assert np.array_equal(before, act(policy, observation(), condition(policy)))
        assert not np.allclose(before, act(blind, observation(), condition(policy)), atol=1e-6)

    def test_it_acts_as_training_with_everything_hidden_taught(self, policy: Video2Act):
        """The control must be in distribution: no tokens equal hidden tokens."""
        seen, video = observation(), condition(policy)
        policy.seed(3)
        noise = torch.randn(1, 4, 2, generator=generator(3))
        hidden = Visibility(*(torch.tensor([value]) for value in (True, False, False, True)))
        where = {"config": policy.config, "device": policy.device}
        images = {camera: read_image(seen, camera, **where) for camera in policy.config.cameras}
        with torch.no_grad():
            conditions = policy.system1.gather(["push"], images, video=video.tokens, visible=hidden)
            state = policy.normalize_state.normalize(torch.from_numpy(seen.state)[None])
            projected = policy.system1.project(conditions, state, staleness=torch.zeros(1), visible=hidden)
            actions = policy.normalize_action.restore(policy.system1.sample(projected, noise))
        assert np.allclose(actions[0].numpy(), act(policy.blinded(), seen, video), atol=1e-5)


class TestWithoutSystem2:
    def test_it_acts_and_learns_from_images_alone(
        self, make_policy: MakePolicy, small_config: PolicyConfig, make_batch: MakeBatch
    ):
        config = replace(small_config, system2=None)
        policy = make_policy(config)
        policy(make_batch(config), generator()).backward()
        assert all(p.grad is not None for p in policy.parameters())
        video = condition(policy)
        assert video.tokens.data.shape == (1, 0, 32)
        assert policy.explain({}, ["push"]) == {}
        assert np.isfinite(act(policy, observation(), video)).all()

    def test_it_may_even_see_nothing(self, make_policy: MakePolicy, small_config: PolicyConfig, make_batch: MakeBatch):
        config = replace(small_config, system2=None, cameras=())
        policy = make_policy(config)
        assert policy(make_batch(config), generator()).isfinite()
        assert np.isfinite(act(policy, replace(observation(), images={}), condition(policy))).all()


class TestFolder:
    def test_a_loaded_policy_acts_as_the_saved_one(self, policy: Video2Act, tmp_path: Path):
        policy.save(tmp_path / "runs" / "first")
        again = Video2Act.load(tmp_path / "runs" / "first")
        assert again.config == policy.config
        assert again.statistics == policy.statistics
        assert not again.training
        assert np.array_equal(
            act(policy, observation(), condition(policy)), act(again, observation(), condition(again))
        )
        assert sorted(path.name for path in (tmp_path / "runs" / "first").iterdir()) == [
            "config.json",
            "model.safetensors",
            "stats.json",
        ]

    def test_a_run_from_before_features_were_normalised_keeps_its_raw_features(self, policy: Video2Act, tmp_path: Path):
        policy.save(tmp_path)
        path = tmp_path / "config.json"
        config = json.loads(path.read_text())
        assert config["system2"]["backbone"].pop("feature_norm") == "layer"
        path.write_text(json.dumps(config))
        for system2 in (Video2Act.load(tmp_path).config.system2, load_system2(tmp_path).config):
            assert system2 is not None
            assert system2.backbone.feature_norm == "none"

    def test_other_weights_may_be_written_under_the_same_names(self, policy: Video2Act, tmp_path: Path):
        kept = {name: tensor for name, tensor in policy.state_dict().items() if name.startswith("normalize_")}
        zeros = {name: torch.zeros_like(tensor) for name, tensor in policy.state_dict().items()} | kept
        policy.save(tmp_path, zeros)
        found = Video2Act.load(tmp_path).state_dict()
        assert all((tensor == 0).all() for name, tensor in found.items() if name not in kept)

    def test_statistics_of_another_run_are_refused(self, policy: Video2Act, tmp_path: Path):
        """Limits and clipping would be those of another robot."""
        policy.save(tmp_path)
        entries = json.loads((tmp_path / "stats.json").read_text())
        for values in entries.values():
            for name in ("mean", "min", "max", "q01", "q99"):
                values[name] = [value + 1.0 for value in values.get(name, ())]
        (tmp_path / "stats.json").write_text(json.dumps(entries))
        with pytest.raises(ValueError, match=r"stats\.json: state is not that of these weights .*copy the run folder"):
            Video2Act.load(tmp_path)

    @pytest.mark.parametrize("name", ["config.json", "stats.json", "model.safetensors"])
    def test_a_folder_that_lacks_a_file_is_refused(self, policy: Video2Act, tmp_path: Path, name: str):
        policy.save(tmp_path)
        (tmp_path / name).unlink()
        with pytest.raises(FileNotFoundError, match=name):
            Video2Act.load(tmp_path)

    def test_a_folder_that_is_not_there_is_named(self, tmp_path: Path):
        with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; a run folder holds config\.json"):
            Video2Act.load(tmp_path / "nowhere")

    def test_weights_of_another_shape_are_refused_naming_the_tensors(
        self, policy: Video2Act, tmp_path: Path, make_policy: MakePolicy, small_config: PolicyConfig
    ):
        policy.save(tmp_path)
        other = make_policy(replace(small_config, horizon=6))
        save_weights(tmp_path / "model.safetensors", other.state_dict())
        with pytest.raises(ValueError, match="does not fit its config") as error:
            Video2Act.load(tmp_path)
        assert "system1.dit.position is [9, 32], the config asks for [7, 32]" in str(error.value)


def test_what_crosses_to_another_device_is_all_of_it(small_config: PolicyConfig, make_batch: MakeBatch):
    batch = make_batch(small_config)
    moved = batch.to("meta")
    for video in moved.videos.values():
        assert isinstance(video, Video)
        assert video.grid.is_meta
    assert all(image.is_meta for image in moved.images.values())
    assert all(t.is_meta for t in (moved.state, moved.actions, moved.action_is_pad, moved.staleness))
    assert moved.instruction == batch.instruction
    assert Tokens.all_visible(torch.zeros(1, 2, 3)).to("meta").mask.is_meta


def test_acting_gathers_its_conditions_as_training_does(policy: Video2Act, monkeypatch: pytest.MonkeyPatch):
    """`gather` stands in the figure below `act`, which put the conditions together by hand."""
    gathered, gather = [], policy.system1.gather

    def remember(*args: Any, **more: Any) -> Conditions:
        gathered.append(gather(*args, **more))
        return gathered[-1]

    monkeypatch.setattr(policy.system1, "gather", remember)
    policy.act(observation(), condition(policy))
    seen = observation()
    images = {
        name: read_image(seen, name, config=policy.config, device=policy.device) for name in policy.config.cameras
    }
    video, visible = condition(policy).tokens, Visibility.full(1, policy.device)
    with torch.no_grad():
        expected = gather(["push"], images, video=video, visible=visible)
    assert all(torch.equal(vars(gathered[0])[name].data, tokens.data) for name, tokens in vars(expected).items())
