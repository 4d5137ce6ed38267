"""Every field of a policy by its path: on the command line, in Python, and in a file, all the same."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from video2act import cli
from video2act.cli_flags import parse
from video2act.config import PolicyConfig, differences, to_json
from video2act.config.paths import _children, value_at
from video2act.config.training_options import TrainOptions
from video2act.presets import ANY_DATA, PRESETS, DataSpec, make_preset
from video2act.programs.info.run import describe_run
from video2act.statistics import Statistics, statistics_to_json
from video2act.training.choice import choose_policy

BEGIN = ["--data", "somewhere", "--out", "run"]


def options(*words: object) -> TrainOptions:
    return parse(TrainOptions, [*BEGIN, *map(str, words)], program="video2act train")


def leaf_paths(config: Any) -> list[str]:
    below = _children(config)
    return [f"{name}.{path}".rstrip(".") for name in below for path in leaf_paths(below[name])] if below else [""]


def words_of(path: str, value: Any) -> list[str]:
    flag = "--policy." + path.replace("_", "-")
    if isinstance(value, bool):
        *parents, last = flag.rsplit(".", 1)
        return [flag] if value else [".".join([*parents, f"no-{last}"])]
    return [flag, *map(str, value)] if isinstance(value, tuple) else [flag, str(value)]


@pytest.mark.parametrize("name", PRESETS)
def test_every_field_of_every_preset_is_an_option(name: str):
    policy = make_preset(name, ANY_DATA)
    paths = [path for path in leaf_paths(policy) if path != "preset"]
    # absent parts are given by their fields
    paths = [path for path in paths if value_at(policy, path) is not None or path.endswith(("_hz", "text_cache"))]
    words = [word for path in paths for word in words_of(path, value_at(policy, path))]
    chosen = options("--preset", name, *words)
    assert set(chosen.changes) == set(paths)
    assert choose_policy(chosen, ANY_DATA) == policy


@pytest.mark.parametrize("name", PRESETS)
def test_an_unknown_option_is_named_with_every_preset(name: str, capsys: pytest.CaptureFixture[str]):
    """Of presets without System 2, every mistyped option ended with tyro's complaint about the type of its streams."""
    with pytest.raises(SystemExit):
        options("--preset", name, "--policy.horizn", 30)
    said = capsys.readouterr()
    assert "Unrecognized options: --policy.horizn" in said.out + said.err


@pytest.mark.parametrize("name", ["tiny", "tiny_system1", "rdt_1b"])
def test_help_offers_flags_only(name: str, capsys: pytest.CaptureFixture[str]):
    """Of presets without System 2 it ended with subcommands, such as `policy.system2.streams:none`."""
    with pytest.raises(SystemExit):
        options("--preset", name, "--help")
    assert "subcommands" not in capsys.readouterr().out


def test_the_command_line_and_python_change_the_same():
    words = "--policy.horizon 16 --policy.system2.filter-on latents --policy.system2.streams.motion.filter.name scharr"
    changes = {"horizon": 16, "system2.filter_on": "latents", "system2.streams.motion.filter.name": "scharr"}
    chosen = options(*words.split())
    assert chosen.changes == changes
    policy = make_preset("tiny", ANY_DATA).replace(changes)
    assert choose_policy(chosen, ANY_DATA) == policy
    found = differences(make_preset("tiny", ANY_DATA), policy)
    assert {path: new for path, _, new in found} == changes


@pytest.mark.parametrize("words", ["--policy.system2 None", "--policy.system2=null"])
@pytest.mark.parametrize("preset", ["tiny", "rdt_1b", "tiny_system1"])
def test_a_part_may_be_left_out_also_where_the_preset_has_none(preset: str, words: str):
    assert choose_policy(options("--preset", preset, *words.split()), ANY_DATA).system2 is None


def test_a_part_of_a_part_that_the_preset_lacks_may_be_left_out():
    assert choose_policy(options("--policy.system1.text-encoder", "None"), ANY_DATA).system1.text_encoder is None


def test_a_part_that_every_policy_needs_cannot_be_left_out():
    with pytest.raises(ValueError, match=r"--policy\.system1: a policy needs this part; change its fields"):
        options("--policy.system1", "None")


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_config_file_reproduces_its_policy_exactly(tmp_path: Path, suffix: str):
    policy = make_preset("tiny", ANY_DATA).replace({"horizon": 12, "system2.streams.motion.stride": 2})
    path = tmp_path / f"config.{suffix}"
    path.write_text(to_json(policy))  # json is yaml
    assert choose_policy(options("--config", path), ANY_DATA) == policy
    assert choose_policy(options("--config", path, "--policy.horizon", 6), ANY_DATA) == policy.replace({"horizon": 6})


def test_a_preset_and_a_file_together_are_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text(to_json(make_preset("tiny", ANY_DATA)))
    with pytest.raises(ValueError, match="leave one of them out"):
        options("--preset", "tiny", "--config", tmp_path / "config.json")


def test_the_help_shows_the_line_of_a_nested_field_and_every_preset(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parse(TrainOptions, ["--help"], program="video2act train")
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--policy.system2.streams.motion.stride INT control steps between two frames (default: 1)" in text
    assert all(name in text for name in PRESETS)


def test_an_unknown_option_is_answered_with_near_ones(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exit_:
        options("--policy.horizn", 3)
    assert exit_.value.code not in (0, None)
    assert "--policy.horizon" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizn": 3}, r"the policy has no 'horizn'; did you mean horizon\?"),
        ({"system2.streams.moton.stride": 3}, r"system2.streams has no 'moton'; did you mean motion\?"),
        ({"horizon": "long"}, "horizon: expected int, got 'long'"),
        ({"system2.filter_on": "pixels"}, "system2.filter_on: 'pixels' is not one of 'features', 'latents'"),
        ({"horizon": {"x": 1}}, "horizon is a value, 8; it has no field x"),
        ({"system2.streams.motion.stride": 0}, "system2.streams.motion: .*stride must be at least 1, got 0"),
        ({"system1.text_encoder.source": "t5"}, "system1.text_encoder: missing field width"),
        ({"system2": None, "system2.filter_on": "latents"}, "another change replaces a part above it"),
    ],
    ids=str,
)
def test_what_cannot_be_changed_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        make_preset("tiny", ANY_DATA).replace(changes)


def test_one_change_needs_no_second_one():
    tiny = make_preset("tiny", ANY_DATA)
    assert tiny.replace({"system1.hidden": 64}).system1.hidden == 64  # tokens follow
    assert tiny.replace({"system2.streams.motion.stride": 3})  # the band follows
    streamed = tiny.replace({"system2.streams.motion.encoding": "stream"}).system2
    assert streamed is not None
    assert [stream.every for stream in streamed.streams] == [4, 4]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[PolicyConfig], Path]:
    def save(policy: PolicyConfig) -> Path:
        (tmp_path / "config.json").write_text(to_json(policy))
        return tmp_path

    return save


def test_a_run_is_compared_with_its_preset(run: Callable[[PolicyConfig], Path]):
    policy = make_preset("official", ANY_DATA)
    assert "nothing: the run is as its preset says" in describe_run(run(policy))
    text = describe_run(run(policy.replace({"system2.streams.motion.stride": 2})))
    assert "system2.streams.motion.stride: 1 in the preset, 2 in this run" in text


def test_a_run_says_what_the_policy_sees_and_does(run: Callable[[PolicyConfig], Path]):
    folder = run(make_preset("tiny", DataSpec(3, 2, 20.0, ("top", "wrist"))))
    assert "not recorded" in describe_run(folder)
    learned = {"name": "push", "robot": "arm", "episodes": 7, "frames": 700, "tasks": ["push the block"]}
    sizes = {"frame_sizes": {"top": (480, 640), "wrist": (96, 96)}}
    (folder / "data.json").write_text(json.dumps([learned, learned | sizes]))  # older run folders have no sizes
    (folder / "instructions.json").write_text(json.dumps(["push the block", "pull it"]))
    lines = [" ".join(line.split()) for line in describe_run(folder).splitlines()]
    for line in (
        "preset tiny",
        "sees top: letterbox to 64x64 (spatial)",
        "top: letterbox to 64x64, 17 frames of the last 0.8 s (motion)",
        "wrist: letterbox to 64x64 (System 1)",
        "state 3 numbers, normalised by mean_std",
        "plans 8 actions of 2 numbers; 4 are executed",
        "instruction push the block",
        "pull it",
        "trained on push (arm): 7 episodes, 700 frames; push the block",
        "push (arm): 7 episodes, 700 frames; push the block; top 640x480, wrist 96x96",
        "changed nothing: the run is as its preset says",
    ):
        assert line in lines
    assert any(line.startswith("rate 20 control steps per second; System 2 refreshes every 8") for line in lines)
    (folder / "training.json").write_text('{"validation_fraction": 0.3}')
    assert "7 episodes (2 of them held out), 700 frames" in describe_run(folder), "those were counted as trained on"


def test_a_run_names_the_numbers_that_a_robot_gives_and_gets(run: Callable[[PolicyConfig], Path]):
    """A state that is joined from several columns has an order that only the dataset knew."""
    folder = run(make_preset("tiny", DataSpec(2, 2, 20.0, ("top",))))
    some = Statistics((0.0, 0.0), (1.0, 1.0), (0.0, 0.0), (1.0, 1.0))
    numbers = {"state": replace(some, names=("arm.pos", "gripper.pos")), "action": replace(some, names=("dx", "dy"))}
    (folder / "stats.json").write_text(statistics_to_json(numbers))
    lines = [line.strip() for line in describe_run(folder).splitlines()]
    assert "arm.pos, gripper.pos" in lines
    assert "dx, dy" in lines
    (folder / "stats.json").write_text(statistics_to_json({"state": some, "action": some}))  # older ones have no names
    assert "2 numbers, normalised by mean_std" in describe_run(folder)


def test_a_run_of_an_unknown_preset_is_not_compared(run: Callable[[PolicyConfig], Path]):
    folder = run(make_preset("tiny", ANY_DATA))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "preset": "mine"}))
    assert "cannot be compared: the preset 'mine' is unknown here" in describe_run(folder)


def test_info_describes_a_run(
    run: Callable[[PolicyConfig], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = run(make_preset("tiny_blind", ANY_DATA))
    (folder / "stats.json").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["video2act", "info", str(folder)])
    cli.main()
    assert " preset       tiny_blind" in capsys.readouterr().out


def test_a_stream_can_be_left_out(capsys: pytest.CaptureFixture[str]):
    tiny = make_preset("tiny", ANY_DATA)
    alone = tiny.replace({"system2.streams.spatial": None, "system2.streams.motion.stride": 2})
    assert alone.system2 is not None
    assert [(stream.name, stream.stride) for stream in alone.system2.streams] == [("motion", 2)]
    with pytest.raises(ValueError, match="System 2 needs at least one stream"):
        alone.replace({"system2.streams.motion": None})
    words = ["--data", "d", "--out", "o", "--policy.system2.streams.spatial", "None", "--policy.horizon", "16"]
    options = parse(TrainOptions, words, program="video2act train")
    assert options.changes == {"system2.streams.spatial": None, "horizon": 16}
