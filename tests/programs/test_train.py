"""`train` as it is run, on a small recording and a small video model, alone and in two processes."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import published_models
from launched import launch_two
from trainings import train, train_video
from video2act.config import (
    BackboneConfig,
    PolicyConfig,
    PretrainedBackboneConfig,
    TrainConfig,
    VideoTrainConfig,
    to_json,
)
from video2act.data import LeRobotDataset, open_dataset
from video2act.data.cache import FeatureCache
from video2act.policy import Video2Act
from video2act.presets import PRESETS, DataSpec
from video2act.system2 import System2
from video2act.system2.backbones import make_backbone, save_video_model
from video2act.training.loop import TrainingLoop
from video2act.training.new_policy import build_policy
from video2act.training.pause import TrainingPausedError
from video2act.training.step_inputs import draw_visibility
from video2act.types import Observation, Tokens, Video, VideoCondition

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

CONFIG = TrainConfig(num_steps=8, batch_size=4, warmup_steps=2, save_every=3, image_shift_px=1)


@pytest.fixture(autouse=True)
def small_presets(monkeypatch: pytest.MonkeyPatch, small_preset: Callable[[DataSpec], PolicyConfig]) -> None:
    """Presets as small as the recording."""
    monkeypatch.setitem(PRESETS, "small_system1", lambda spec: replace(small_preset(spec), system2=None))


@pytest.fixture(scope="module")
def video_model(recorded: Path, small_backbone: BackboneConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("video") / "model"
    config = VideoTrainConfig(num_steps=1, batch_size=2, num_frames=9, sizes_px=(16,))
    train_video((recorded,), out, config=config, backbone=small_backbone)
    return out


@pytest.fixture(scope="module")
def trained(
    recorded: Path, video_model: Path, small_config: PolicyConfig, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("policy") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "small", lambda spec: small_config)
        train((recorded,), out, config=CONFIG, preset="small", video_model=video_model)
    return out


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@contextmanager
def killed_at(last: int) -> Iterator[None]:
    take_step = TrainingLoop._step

    def step(self: TrainingLoop, number: int, inputs: Callable[[int], tuple[Any, ...]]) -> Any:
        if number == last:
            raise KeyboardInterrupt
        return take_step(self, number, inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingLoop, "_step", step)
        yield


def observation() -> Observation:
    images = {camera: np.full((64, 64, 3), 90, np.uint8) for camera in ("front", "wrist")}
    return Observation(images, np.zeros(3, np.float32), "push the square", 0.0)


def act(policy: Video2Act) -> np.ndarray:
    policy.seed(0)
    num_tokens = 0 if policy.system2 is None else 6
    data = torch.randn(1, num_tokens, policy.config.system1.hidden, generator=torch.Generator().manual_seed(0))
    return policy.act(observation(), VideoCondition(Tokens.all_visible(data), observed_at=0.0, episode=0)).actions


class TestRun:
    def test_the_run_folder_is_a_policy(
        self, trained: Path, video_model: Path, small_config: PolicyConfig, recorded: Path
    ):
        policy = Video2Act.load(trained)
        assert policy.config == replace(small_config, preset="small")
        assert policy.statistics == LeRobotDataset(recorded).stats
        assert np.isfinite(act(policy)).all()
        assert not (trained / "checkpoints").exists()

    def test_every_step_is_written_down(self, trained: Path):
        lines = metrics(trained)
        assert [line["step"] for line in lines] == list(range(8))
        assert all(np.isfinite(line["loss"]) and line["gradient_norm"] > 0 for line in lines)

    def test_the_video_model_is_inside_unchanged_and_the_rest_has_learned(
        self, trained: Path, recorded: Path, video_model: Path
    ):
        policy = Video2Act.load(trained)
        torch.manual_seed(CONFIG.seed)
        start = build_policy(policy.config, LeRobotDataset(recorded).stats, video_model=video_model).state_dict()
        for name, tensor in policy.state_dict().items():
            is_fixed = name.startswith(("system2.backbone.", "normalize_"))
            assert torch.equal(tensor, start[name]) == is_fixed, name

    def test_what_system2_saw_is_kept_beside_the_video_model_and_read_again(
        self, recorded: Path, trained: Path, video_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        (folder,) = (video_model / "seen").iterdir()
        assert sorted(path.name for path in folder.iterdir()) == [
            *(f"{i:06d}.safetensors" for i in range(3)),
            "cache.json",
        ]

        def look_again(*args: object) -> None:
            raise AssertionError("everything was seen before")

        monkeypatch.setattr(System2, "see", look_again)
        train((recorded,), tmp_path / "again", config=CONFIG, preset="small", video_model=video_model)
        assert (tmp_path / "again" / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()

    def test_an_interrupted_filling_of_the_cache_goes_on(
        self, recorded: Path, trained: Path, video_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        model = tmp_path / "model"
        model.mkdir()
        for name in ("backbone.json", "model.safetensors"):
            (model / name).write_bytes((video_model / name).read_bytes())
        write, out, asked = FeatureCache.write, tmp_path / "run", []

        def interrupted(self: FeatureCache, episode: int, seen: dict[str, Video]) -> None:
            asked.append(episode)
            if len(asked) == 2:
                raise KeyboardInterrupt
            write(self, episode, seen)

        monkeypatch.setattr(FeatureCache, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train((recorded,), out, config=CONFIG, preset="small", video_model=model)
        train((recorded,), out, config=CONFIG, preset="small", video_model=model, resume=True)
        assert asked == [0, 1, 1, 2]
        assert (out / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()

    def test_without_system_2_it_needs_no_video_model(self, recorded: Path, tmp_path: Path):
        train((recorded,), tmp_path / "run", config=replace(CONFIG, num_steps=2), preset="small_system1")
        policy = Video2Act.load(tmp_path / "run")
        assert policy.system2 is None
        assert np.isfinite(act(policy)).all()

    def test_plans_may_be_taught_to_continue_one_another(self, recorded: Path, tmp_path: Path):
        delay = {"system1.max_delay_steps": 2}
        train((recorded,), tmp_path / "run", config=TrainConfig(num_steps=2), preset="small_system1", changes=delay)
        policy = Video2Act.load(tmp_path / "run")
        assert policy.config.system1.max_delay_steps == 2
        assert policy.system1.dit.committed_mark is not None
        assert policy.system1.dit.committed_mark.abs().sum() > 0

    def test_a_delay_as_long_as_the_plan_is_refused(self, recorded: Path, tmp_path: Path):
        with pytest.raises(ValueError, match=r"max_delay_steps \(4\) must be smaller than horizon \(4\)"):
            train(
                (recorded,),
                tmp_path / "run",
                config=TrainConfig(num_steps=2),
                preset="small_system1",
                changes={"system1.max_delay_steps": 4},
            )

    def test_cameras_may_be_chosen(self, recorded: Path, tmp_path: Path):
        train(
            (recorded,),
            tmp_path / "run",
            config=replace(CONFIG, num_steps=1),
            preset="small_system1",
            cameras=("wrist",),
        )
        assert Video2Act.load(tmp_path / "run").config.cameras == ("wrist",)

    def test_it_learns_what_the_demonstrations_show(self, recorded: Path, tmp_path: Path):
        config = replace(CONFIG, num_steps=60, batch_size=16, learning_rate=5e-3, save_every=1000)
        train((recorded,), tmp_path / "run", config=config, preset="small_system1")
        losses = [line["loss"] for line in metrics(tmp_path / "run")]
        assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])


class TestValidation:
    CONFIG = replace(CONFIG, num_steps=5, validation_fraction=0.34, validate_every=2)

    def test_the_loss_on_held_out_episodes_is_written_down(self, recorded: Path, video_model: Path, tmp_path: Path):
        train((recorded,), tmp_path / "run", config=self.CONFIG, preset="small", video_model=video_model)
        lines = metrics(tmp_path / "run")
        assert [line["step"] for line in lines if "validation_loss" in line] == [1, 3, 4]
        assert all(np.isfinite(line["validation_loss"]) for line in lines if "validation_loss" in line)
        trained_on = open_dataset(recorded, episodes=range(2))
        assert Video2Act.load(tmp_path / "run").statistics == trained_on.stats  # of what was trained on

    def test_measuring_it_does_not_change_what_is_learned(self, recorded: Path, tmp_path: Path):
        often = replace(self.CONFIG, validate_every=1)
        for name, config in (("seldom", self.CONFIG), ("often", often)):
            train((recorded,), tmp_path / name, config=config, preset="small_system1")
        seldom, frequent = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("seldom", "often"))
        assert seldom == frequent


def test_a_part_of_a_dataset_is_trained_on_and_recorded(recorded: Path, tmp_path: Path):
    train(
        (recorded,), tmp_path / "run", config=replace(CONFIG, num_steps=1), preset="small_system1", episodes=range(1, 3)
    )
    described = json.loads((tmp_path / "run" / "data.json").read_text())[0]
    assert described["episodes"] == 2
    data = open_dataset(recorded)
    assert described["frame_sizes"] == {camera: list(data.image_size(camera)) for camera in data.cameras}


class TestResume:
    def test_a_killed_run_that_goes_on_equals_one_that_was_never_killed(
        self, recorded: Path, trained: Path, video_model: Path, tmp_path: Path
    ):
        out = tmp_path / "killed"
        with killed_at(7), pytest.raises(KeyboardInterrupt):
            train((recorded,), out, config=CONFIG, preset="small", video_model=video_model)
        assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["000003", "000006"]
        with pytest.raises(FileNotFoundError, match="holds a training that has not finished, and no policy yet"):
            Video2Act.load(out)
        train((recorded,), out, config=CONFIG, preset="small", video_model=video_model, resume=True)
        assert metrics(out) == metrics(trained)
        for name in ("model.safetensors", "config.json", "stats.json"):
            assert (out / name).read_bytes() == (trained / name).read_bytes()

    def test_other_settings_are_refused_naming_both(self, recorded: Path, video_model: Path, tmp_path: Path):
        out = tmp_path / "run"
        with killed_at(4), pytest.raises(KeyboardInterrupt):
            train((recorded,), out, config=CONFIG, preset="small", video_model=video_model)
        with pytest.raises(ValueError, match=r"started with other settings .*batch_size: 4 then, 6 now"):
            train(
                (recorded,),
                out,
                config=replace(CONFIG, batch_size=6),
                preset="small",
                video_model=video_model,
                resume=True,
            )

    def test_without_a_checkpoint_it_begins_with_the_weights_of_init_again(
        self, recorded: Path, trained: Path, video_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        """A training that was killed while it wrote its first checkpoint went on from random weights."""
        given = {"config": CONFIG, "preset": "small", "video_model": video_model, "init": trained}
        whole, out = tmp_path / "whole", tmp_path / "run"
        train((recorded,), whole, **given)
        with killed_at(1), pytest.raises(KeyboardInterrupt):
            train((recorded,), out, **given)
        (out / "checkpoints/000003.tmp").mkdir(parents=True)
        capsys.readouterr()
        train((recorded,), out, **given, resume=True)
        assert f"tensors of {trained}" in capsys.readouterr().out
        assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
        with killed_at(7), pytest.raises(KeyboardInterrupt):
            train((recorded,), tmp_path / "later", **given)
        capsys.readouterr()
        train((recorded,), tmp_path / "later", **given, resume=True)
        assert f"tensors of {trained}" not in capsys.readouterr().out
        assert (tmp_path / "later/model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()

    def test_what_it_begins_with_is_not_left_out_when_it_goes_on(
        self, recorded: Path, trained: Path, video_model: Path, tmp_path: Path
    ):
        """Before the first checkpoint it began anew, from random weights."""
        given, out = {"config": CONFIG, "preset": "small", "video_model": video_model}, tmp_path / "run"
        with killed_at(1), pytest.raises(KeyboardInterrupt):
            train((recorded,), out, **given, init=trained)
        with pytest.raises(ValueError, match=r"other settings \(init: "):
            train((recorded,), out, **given, resume=True)
        record = json.loads((out / "training.json").read_text())
        older = {name: value for name, value in record.items() if name not in ("init", "init_parts")}
        (out / "training.json").write_text(json.dumps(older))
        with killed_at(3), pytest.raises(KeyboardInterrupt):
            train((recorded,), out, **given, resume=True)

    def test_the_run_that_it_begins_with_may_move(
        self, recorded: Path, trained: Path, video_model: Path, tmp_path: Path
    ):
        """It was refused for other settings; so was an older record, which is a path, if the weights were compared."""
        given = {"config": CONFIG, "preset": "small", "video_model": video_model}
        first, out = shutil.copytree(trained, tmp_path / "first"), tmp_path / "run"
        with killed_at(4), pytest.raises(KeyboardInterrupt):
            train((recorded,), out, **given, init=first)
        moved = first.rename(tmp_path / "moved")
        with killed_at(5), pytest.raises(KeyboardInterrupt):
            train((recorded,), out, **given, init=moved, resume=True)
        other = shutil.copytree(moved, tmp_path / "other")
        weights = load_file(other / "model.safetensors")
        save_file({name: tensor + 1 for name, tensor in weights.items()}, other / "model.safetensors")
        with pytest.raises(ValueError, match=r"other settings \(init: "):
            train((recorded,), out, **given, init=other, resume=True)
        record = json.loads((out / "training.json").read_text())
        (out / "training.json").write_text(json.dumps(record | {"init": str(moved.resolve())}))
        with killed_at(6), pytest.raises(KeyboardInterrupt):
            train((recorded,), out, **given, init=moved, resume=True)
        shutil.rmtree(moved)  # its weights are in the checkpoint
        train((recorded,), out, **given, init=moved, resume=True)

    def test_time_that_is_over_stops_the_filling_of_the_cache(
        self, recorded: Path, trained: Path, video_model: Path, tmp_path: Path
    ):
        """`max_minutes` began to count after it. In pieces of one episode, then of one step, the result is the same."""
        model = shutil.copytree(video_model, tmp_path / "model", ignore=shutil.ignore_patterns("seen"))
        given = {"config": replace(CONFIG, max_minutes=1e-9), "preset": "small", "video_model": model}
        for count in (1, 2):
            with pytest.raises(TrainingPausedError, match=r"1e-09 minutes are over; the episodes .* kept in .*seen"):
                train((recorded,), tmp_path / "run", **given)
            assert len(list((model / "seen").rglob("*.safetensors"))) == count
        with pytest.raises(TrainingPausedError, match=r"step 1 of 8 is finished"):
            train((recorded,), tmp_path / "run", **given)
        train((recorded,), tmp_path / "run", **{**given, "config": CONFIG}, resume=True)
        ours, theirs = ((run / "model.safetensors").read_bytes() for run in (tmp_path / "run", trained))
        assert ours == theirs

    def test_another_preset_is_refused(self, recorded: Path, video_model: Path, tmp_path: Path):
        """It is as much a setting as the learning rate."""
        out = tmp_path / "run"
        with killed_at(4), pytest.raises(KeyboardInterrupt):
            train((recorded,), out, config=CONFIG, preset="small_system1")
        with pytest.raises(ValueError, match="other settings"):
            train((recorded,), out, config=CONFIG, preset="small", video_model=video_model, resume=True)


class TestRefused:
    def test_an_existing_run(self, recorded: Path, trained: Path, video_model: Path):
        before = (trained / "model.safetensors").read_bytes()
        with pytest.raises(FileExistsError, match="already holds a training"):
            train((recorded,), trained, config=CONFIG, preset="small", video_model=video_model)
        assert (trained / "model.safetensors").read_bytes() == before

    def test_system_2_without_a_video_model(self, recorded: Path, tmp_path: Path):
        with pytest.raises(ValueError, match=r"needs a video model: train one \(train-video, or train_video\)"):
            train((recorded,), tmp_path / "run", config=CONFIG, preset="tiny")
        assert not (tmp_path / "run").exists()

    def test_a_video_model_that_would_go_unused(self, recorded: Path, video_model: Path, tmp_path: Path):
        with pytest.raises(ValueError, match=r"no System 2, so the video model .* would go unused"):
            train((recorded,), tmp_path / "run", config=CONFIG, preset="tiny_system1", video_model=video_model)
        assert not (tmp_path / "run").exists()

    def test_an_unknown_preset_and_an_unknown_camera(self, recorded: Path, tmp_path: Path):
        with pytest.raises(ValueError, match="unknown preset 'huge'"):
            train((recorded,), tmp_path / "run", config=CONFIG, preset="huge")
        with pytest.raises(
            ValueError, match="looks through top, which the dataset does not have; its cameras are front, wrist"
        ):
            train((recorded,), tmp_path / "run", config=CONFIG, preset="small_system1", cameras=("top",))

    def test_a_folder_that_is_no_video_model(self, recorded: Path, tmp_path: Path):
        with pytest.raises(FileNotFoundError, match="is not a video model"):
            train((recorded,), tmp_path / "run", config=CONFIG, preset="small", video_model=tmp_path)

    def test_a_loss_that_is_not_finite_names_its_step(self, recorded: Path, tmp_path: Path):
        with pytest.raises(FloatingPointError, match=r"the loss of step [0-9]+ is nan"):
            train(
                (recorded,),
                tmp_path / "run",
                config=replace(CONFIG, state_noise=3e38, condition_dropout=0.0),
                preset="small_system1",
            )


class TestVisibility:
    def test_each_condition_is_hidden_as_often_as_asked_and_independently(self):
        visible = draw_visibility(
            20_000, 0.2, vision_dropout=0.0, generator=torch.Generator().manual_seed(0), device=torch.device("cpu")
        )
        hidden = torch.stack([~visible.text, ~visible.image, ~visible.video, ~visible.state]).float()
        assert torch.allclose(hidden.mean(dim=1), torch.full((4,), 0.2), atol=0.02)
        assert (torch.corrcoef(hidden) - torch.eye(4)).abs().max() < 0.03

    def test_no_dropout_hides_nothing(self):
        visible = draw_visibility(
            100, 0.0, vision_dropout=0.0, generator=torch.Generator().manual_seed(0), device=torch.device("cpu")
        )
        assert all(shown.all() for shown in (visible.text, visible.image, visible.video, visible.state))

    def test_of_all_that_is_seen_at_once_and_then_text_is_never_hidden(self):
        visible = draw_visibility(
            20_000, 0.1, vision_dropout=0.3, generator=torch.Generator().manual_seed(0), device=torch.device("cpu")
        )
        blind = ~visible.image & ~visible.video
        assert blind.float().mean() == pytest.approx(0.3 + 0.7 * 0.1**2, abs=0.02)
        assert visible.text.all()
        assert (~visible.state).float().mean() == pytest.approx(0.1, abs=0.02)


LAUNCHED = """
from accelerate import PartialState
from video2act.cli import main

main()
print("process", PartialState().process_index, "of", PartialState().num_processes)
"""


# with nothing to attend to, a parameter without a gradient would stop the second process (tests/test_layers.py has it
# small)
@pytest.mark.parametrize("preset", ["", pytest.param("tiny_blind", marks=pytest.mark.slow)])
def test_two_processes_train_one_policy(
    recorded: Path, video_model: Path, small_config: PolicyConfig, tmp_path: Path, preset: str
):
    """As torchrun starts them. (`accelerate launch` starts several on GPUs but, without MPI, a single one on CPUs.)"""
    (tmp_path / "launched.py").write_text(LAUNCHED)
    (tmp_path / "small.json").write_text(to_json(small_config))
    small = ("--config", str(tmp_path / "small.json"), "--video-model", str(video_model))
    options = (
        *("train", "--data", str(recorded), "--out", str(tmp_path / "run")),
        *(("--preset", preset) if preset else small),
        *("--num-steps", "3", "--batch-size", "2", "--warmup-steps", "1", "--save-every", "2"),
    )
    said = launch_two(tmp_path / "launched.py", *options, VIDEO2ACT_DEBUG="1")
    assert [out.splitlines()[-1] for out in said] == ["process 0 of 2", "process 1 of 2"]
    assert [line["step"] for line in metrics(tmp_path / "run")] == [0, 1, 2]
    assert np.isfinite(act(Video2Act.load(tmp_path / "run"))).all()


class TestOverAPublishedVideoModel:
    def test_a_finetuned_one_is_not_the_tiny_one(self, recorded: Path, small_config: PolicyConfig, tmp_path: Path):
        source = published_models.write_wan21(tmp_path / "wan21", text=False)
        config = PretrainedBackboneConfig("wan21", str(source), (1,), dtype="float32")
        whole: Any = make_backbone(config, whole=True)
        save_video_model(tmp_path / "tuned", whole, weights=whole.state_dict())
        with pytest.raises(
            ValueError, match="wan21 video model, but this policy is over the tiny one; choose a preset over wan21"
        ):
            build_policy(small_config, LeRobotDataset(recorded).stats, video_model=tmp_path / "tuned")

    def test_the_model_stays_at_its_source_and_what_it_saw_in_the_run_folder(
        self,
        recorded: Path,
        small_config: PolicyConfig,
        fresh_accelerator: None,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ):
        source = published_models.write_wan21(tmp_path / "wan21")
        assert small_config.system2 is not None
        backbone = PretrainedBackboneConfig("wan21", "its/repo", (1,), dtype="float32", text_cache="text")
        streams = tuple(replace(stream, size_px=32) for stream in small_config.system2.streams)
        config = replace(small_config, system2=replace(small_config.system2, backbone=backbone, streams=streams))
        monkeypatch.setitem(PRESETS, "small_wan", lambda spec: config)
        named = Path("wan21")
        monkeypatch.chdir(tmp_path)
        train((recorded,), tmp_path / "run", config=replace(CONFIG, num_steps=2), preset="small_wan", video_model=named)
        policy = Video2Act.load(tmp_path / "run")
        assert policy.config.system2 is not None
        assert policy.config.system2.backbone == replace(backbone, source="./wan21")
        assert len(list((tmp_path / "run" / "seen").rglob("*.safetensors"))) == 3
        assert not (source / "seen").exists()
        names = load_file(tmp_path / "run" / "model.safetensors")
        assert not any(name.startswith("system2.backbone.") for name in names)


@pytest.mark.parametrize("live", [False, True])
def test_instructions_that_are_drawn_for_system_1_alone_are_noted(
    recorded: Path, video_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], live: bool
):
    """`vary_instruction` reached System 2 only with `live`, and nothing said so."""
    varied = replace(CONFIG, num_steps=1, warmup_steps=1, vary_instruction=True)
    train((recorded,), tmp_path / "run", config=varied, preset="small", video_model=video_model, live=live)
    assert ("note: vary_instruction is for System 1 alone" in capsys.readouterr().out) != live
