"""Options of a training that could have no effect are refused before any work."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trainings import train, train_video
from video2act.config import (
    BackboneConfig,
    PolicyConfig,
    ScratchConfig,
    TrainConfig,
    TuningConfig,
    VideoTrainConfig,
)
from video2act.config.training_options import TrainVideoOptions
from video2act.data.cache_manifest import CacheSpec
from video2act.presets import ANY_DATA
from video2act.programs.train_video import backbone_to_train
from video2act.training.choice import choose_policy
from video2act.training.effects import check_effects, instruction_notes

FULL = TuningConfig("full")
NOTHING: dict[str, Any] = {"init": None, "init_parts": (), "cache": None, "live": False}


def given(**options: Any) -> dict[str, Any]:
    return NOTHING | options


ALONE = [
    ({}, {"init_parts": ("system1",)}, "init_parts system1 says what is taken of init, which is not given"),
    ({}, {"cache": "seen"}, "cache would have no effect: this policy has no System 2"),
    ({}, {"live": True}, "live would have no effect: this policy has no System 2"),
    ({"video_learning_rate": 1e-4}, {}, "video_learning_rate would have no effect: this policy has no System 2"),
    ({"video_batch_size": 2}, {}, "video_batch_size would have no effect: there is no video loss"),
    ({"clip_copies": 2}, {}, "clip_copies would have no effect: no clips vary"),
    ({"clip_jitter": 0.2}, {}, "clip_jitter varies the clips of System 2"),
    ({"validate_every": 5}, {}, "validate_every would have no effect: no episodes are held out"),
]
OVER_FROZEN = [
    ({}, {"cache": "seen", "live": True}, "cache would have no effect: live runs"),
    ({"video_learning_rate": 1e-4}, {}, "video_learning_rate would have no effect: the video model is frozen"),
    ({"clip_jitter": 0.1, "clip_copies": 2}, {"live": True}, "clip_copies would have no effect: live caches nothing"),
]
OVER_TUNED = [
    ({}, {"live": True}, "live would have no effect: system2.tuning.method=full runs System 2 at every step"),
    ({"clip_jitter": 0.1, "clip_copies": 2}, {}, "clip_copies would have no effect: system2.tuning"),
]


@pytest.mark.parametrize(("training", "options", "message"), ALONE)
def test_of_a_policy_without_system2(small_config: PolicyConfig, training: Any, options: Any, message: str):
    """A forgotten --init trained from nothing, although --init-parts was given."""
    config = replace(small_config, system2=None)
    with pytest.raises(ValueError, match=message):
        check_effects(config, TrainConfig(**training), **given(**options))
    check_effects(config, TrainConfig(), **NOTHING)


@pytest.mark.parametrize(
    ("tuning", "training", "options", "message"),
    [(TuningConfig(), *case) for case in OVER_FROZEN] + [(FULL, *case) for case in OVER_TUNED],
)
def test_of_a_policy_with_system2(
    small_config: PolicyConfig, tuning: TuningConfig, training: Any, options: Any, message: str
):
    config = small_config.replace({"system2.tuning": tuning})
    with pytest.raises(ValueError, match=message):
        check_effects(config, TrainConfig(**training), **given(**options))


def test_what_has_an_effect_is_taken(small_config: PolicyConfig):
    held_out = TrainConfig(validation_fraction=0.1, validate_every=5)
    check_effects(replace(small_config, system2=None), held_out, **NOTHING)
    check_effects(small_config, TrainConfig(clip_jitter=0.1, clip_copies=2), **given(cache="seen"))
    check_effects(small_config, TrainConfig(clip_jitter=0.1), **given(live=True))
    tuned = small_config.replace({"system2.tuning": FULL})
    check_effects(tuned, TrainConfig(video_learning_rate=1e-4, video_loss_weight=0.1, video_batch_size=2), **NOTHING)


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        (replace(FULL, gradient_checkpointing=True), "tuning.gradient_checkpointing would have no effect: it is for"),
        (replace(FULL, rank=8), "tuning.rank would have no effect: tuning.method is full, not lora"),
        (TuningConfig(gradient_checkpointing=True), "tuning.gradient_checkpointing would have no effect: .* frozen"),
    ],
)
def test_fields_of_tuning(
    recorded: Path,
    small_backbone: BackboneConfig,
    small_config: PolicyConfig,
    tmp_path: Path,
    tuning: TuningConfig,
    message: str,
):
    with pytest.raises(ValueError, match=message):
        check_effects(small_config.replace({"system2.tuning": tuning}), TrainConfig(), **NOTHING)
    if tuning.method != "frozen":
        how: dict[str, Any] = {"config": VideoTrainConfig(num_steps=1), "backbone": small_backbone, "tuning": tuning}
        with pytest.raises(ValueError, match=message):
            train_video((recorded,), tmp_path / "out", **how)


def test_sizes_of_a_model_from_nothing_where_none_is_trained():
    options = TrainVideoOptions(data=(Path("data"),), out=Path("out"), scratch=ScratchConfig(hidden=64))
    with pytest.raises(ValueError, match="scratch would have no effect: it is for the preset small"):
        backbone_to_train(options, choose_policy(options, ANY_DATA))


def test_train_asks_before_any_work(recorded: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="init_parts foo says"):
        train((recorded,), tmp_path / "run", config=TrainConfig(), preset="tiny_system1", init_parts=("foo",))
    assert not (tmp_path / "run").exists()


def test_what_drawn_instructions_do_not_reach_is_noted_where_they_do_not():
    varied = TrainConfig(vary_instruction=True)
    assert instruction_notes(varied, CacheSpec(stage="latents")) == []
    assert instruction_notes(TrainConfig(), CacheSpec(stage="seen")) == []
    for stage in ("features", "seen"):
        assert f"(stage {stage})" in instruction_notes(varied, CacheSpec(stage=stage))[0]
