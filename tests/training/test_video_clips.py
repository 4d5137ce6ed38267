"""Which clips a video model learns where nobody says: those of the streams that will read it, in length and size."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from trainings import train_video
from video2act.config import PolicyConfig, PretrainedBackboneConfig, StreamConfig, VideoTrainConfig
from video2act.data import open_dataset
from video2act.data.clip_sampler import ClipSampler, Footage
from video2act.presets import ANY_DATA, DataSpec, make_preset
from video2act.training.choice import frame_notes
from video2act.training.video_clips import check_rate, clip_of, clip_sizes, clips_of_streams, wide_sizes

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


def streams_of(preset: str) -> tuple[StreamConfig, ...]:
    policy = make_preset(preset, ANY_DATA)
    assert policy.system2 is not None
    return policy.system2.streams


def sizes_of(preset: str, *sizes_px: int) -> list[tuple[int, int]]:
    streams, config = streams_of(preset), VideoTrainConfig(sizes_px=sizes_px)
    return clip_sizes(clips_of_streams(config, streams, frames_per_feature=4), streams)


@pytest.mark.parametrize(
    ("preset", "sides"),
    [("tiny", [64]), ("tiny_lookahead", [64]), ("small", [128]), ("wan22_5b", [224, 480]), ("ltx", [320, 512])],
)
def test_a_video_model_learns_clips_of_its_streams_sizes(preset: str, sides: list[int]):
    """Published models and `small` were trained on clips of 64 px, of which Wan 2.2 makes four tokens."""
    assert sizes_of(preset) == [(side, side) for side in sides]


@pytest.mark.parametrize("others", [(1, 0), (17, 0), (9, 8), (1, 4)], ids=str)
def test_a_video_model_learns_clips_of_one_length_before_a_policy_and_beside_it(others: tuple[int, int]):
    """Beside a stream of 9 frames and 8 imagined ones, one of 17 was learned with a future before the policy (21
    frames), and without it in the policy's training (17)."""
    policy = make_preset("tiny", ANY_DATA).replace(
        {
            "system2.streams.motion.num_frames": 9,
            "system2.streams.motion.imagine.num_frames": 8,
            "system2.streams.spatial.num_frames": others[0],
            "system2.streams.spatial.imagine.num_frames": others[1],
            "system2.streams.spatial.stride": streams_of("tiny")[1].stride,
        }
    )
    assert policy.system2 is not None
    streams = policy.system2.streams[::-1]
    before = clips_of_streams(VideoTrainConfig(), streams, frames_per_feature=4).num_frames
    beside = clip_of(replace(policy.system2, streams=streams))
    assert before == beside.num_frames == (21 if others == (17, 0) else 17)
    assert beside.name == ("spatial" if others == (17, 0) else "motion")


def test_wide_streams_are_learned_as_wide_and_a_size_that_is_given_counts():
    assert sizes_of("official") == [(224, 224), (480, 832)]
    assert sizes_of("official", 480, 96) == [(480, 832), (96, 96)]
    # a resumed training must agree in it; square clips are told by their heights, as by older versions
    assert wide_sizes(sizes_of("official")) == {"clip_px": [[224, 224], [480, 832]]}
    assert wide_sizes(sizes_of("wan22_5b")) == {}


@pytest.mark.parametrize(
    ("fps", "other"),
    [(80.0, ", or give the stream that of the video model: --policy.system2.streams.motion.stride 4"), (50.0, "")],
)
def test_a_video_model_of_another_rate_is_refused_with_remedies_that_work(tmp_path: Path, fps: float, other: str):
    """At 50 Hz no stride shows 20 frames a second, and the stride alone, on the old data, gave another rate again."""
    (tmp_path / "training.json").write_text(json.dumps({"clip_hz": [20.0]}))
    policy = make_preset("tiny", replace(ANY_DATA, fps=fps)).replace({"system2.streams.motion.stride": 3})
    with pytest.raises(ValueError, match="train a video model on these data at this stride") as refused:
        check_rate(policy, tmp_path)
    assert str(refused.value).endswith(f"(train-video --data, --policy.system2.streams.motion.stride 3){other}")


def test_a_wide_clip_has_the_shape_of_its_stream(recorded: Path):
    config, sizes = VideoTrainConfig(num_frames=5, stride=1), [(16, 32), (16, 16)]
    footage = Footage.open([open_dataset(recorded)], None, config=config, sizes=sizes)
    sampler = ClipSampler(footage, num_frames=5, stride=1, sizes=sizes)
    seen = {tuple(sampler.random(2, (step,))[0].grid.shape[-2:]) for step in range(20)}
    assert seen == {(16, 32), (16, 16)}


def test_the_record_of_a_training_says_which_clips_it_learned_and_train_notes_what_it_did_not(
    recorded: Path, small_config: PolicyConfig, small_preset: Callable[[DataSpec], PolicyConfig], tmp_path: Path
):
    """No note said that a model of clips of 32 px and 5 frames is shown 64 px and 17."""
    assert small_config.system2 is not None
    streams, backbone = small_config.system2.streams, small_config.system2.backbone
    learned = {"config": VideoTrainConfig(num_steps=0), "streams": streams, "camera": streams[0].camera}
    train_video((recorded,), tmp_path / "video", **learned, backbone=backbone)  # type: ignore[arg-type]
    settings = json.loads((tmp_path / "video" / "training.json").read_text())
    assert settings["sizes_px"] == list(dict.fromkeys(one.size_px for one in (*streams[1:], streams[0])))
    data = open_dataset(recorded)
    assert frame_notes(small_config, data, tmp_path / "video") == []
    for name, stream in {"motion": streams[1], "spatial": streams[0]}.items():
        larger = small_config.replace({f"system2.streams.{name}.size_px": 48})
        (note,) = frame_notes(larger, data, tmp_path / "video")
        assert f"stream {name!r}" in note
        assert f"48x48 px, learned: {stream.size_px}x{stream.size_px} px" in note
    longer = small_config.replace({"system2.streams.motion.num_frames": 41})
    (note,) = frame_notes(longer, data, tmp_path / "video")
    assert f"41 frames, learned: {settings['num_frames']}; train one for this policy without" in note


def test_a_published_model_is_not_trained_on_clips_that_no_policy_shows(recorded: Path, tmp_path: Path):
    """From Python, without streams, it learned those of the preset tiny."""
    wan = PretrainedBackboneConfig("wan21", "its/repo", (1,))
    config = replace(VideoTrainConfig(num_steps=1), learning_rate=1e-4)
    with pytest.raises(ValueError, match=r"name the policy's streams \(streams=policy.system2.streams\)"):
        train_video((recorded,), tmp_path / "out", config=config, backbone=wan)
    assert not (tmp_path / "out").exists()
