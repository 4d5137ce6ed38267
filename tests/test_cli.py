"""The command line as a person meets it: every verb explains itself, and every mistake is answered in one message.

A refusal names the thing, the value and the remedy, ends with a non-zero code, and shows no traceback.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from video2act import cli
from video2act.config import PolicyConfig
from video2act.config.paths import field_docs
from video2act.config.study import StudyConfig
from video2act.data import DatasetWriter, Episode, LeRobotDataset
from video2act.policy import Video2Act
from video2act.statistics import Statistics

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

Call = Callable[..., None]
PUSH = "metaworld:push-v3"


@pytest.fixture
def video2act(monkeypatch: pytest.MonkeyPatch) -> Call:
    """The command line, in this process."""
    monkeypatch.delenv("VIDEO2ACT_DEBUG", raising=False)

    def call(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["video2act", *map(str, arguments)])
        cli.main()

    return call


@pytest.fixture
def refusal(video2act: Call) -> Callable[..., str]:
    """What a command answers that cannot be done."""

    def refused(*arguments: object) -> str:
        with pytest.raises(SystemExit) as exit_:
            video2act(*arguments)
        message = exit_.value.code
        assert isinstance(message, str)  # printed to stderr by the interpreter, with exit code 1
        assert message.startswith("video2act: ")
        assert "Traceback" not in message
        return message

    return refused


@pytest.fixture(scope="module")
def blind_config(small_config: PolicyConfig) -> PolicyConfig:
    """Fits MetaWorld and needs no picture of it."""
    return replace(small_config, state_dim=4, action_dim=4, fps=80.0, cameras=(), system2=None)


@pytest.fixture
def run(blind_config: PolicyConfig, tmp_path: Path) -> Path:
    """The run folder of a policy with random weights that could drive MetaWorld."""
    return save(blind_config, tmp_path / "run")


def save(config: PolicyConfig, folder: Path) -> Path:
    def unit(size: int) -> Statistics:
        return Statistics(mean=(0.0,) * size, std=(1.0,) * size, min=(-1.0,) * size, max=(1.0,) * size)

    Video2Act(config, {"state": unit(config.state_dim), "action": unit(config.action_dim)}).save(folder)
    return folder


def record(
    root: Path, fps: float = 20.0, cameras: tuple[str, ...] = ("front", "wrist"), has_action: bool = True
) -> Path:
    """One short episode of the robot of the fixture `recorded`."""
    frames = np.zeros((4, 64, 64, 3), np.uint8)
    action = np.zeros((4, 2), np.float32) if has_action else None
    with DatasetWriter.create(
        root,
        fps=fps,
        robot="arm",
        cameras=cameras,
        image_size=64,
        state_names=("x", "y", "grip"),
        action_names=("dx", "dy") if has_action else (),
    ) as writer:
        writer.add_episode(Episode(dict.fromkeys(cameras, frames), np.zeros((4, 3), np.float32), action, "push"))
    return root


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


class TestHelp:
    def test_without_a_verb_all_of_them_are_listed(self, video2act: Call, capsys: pytest.CaptureFixture[str]):
        with pytest.raises(SystemExit) as exit_:
            video2act("--help")
        assert exit_.value.code == 0
        listed = capsys.readouterr().out
        for verb in cli.VERBS:
            assert verb in listed

    @pytest.mark.parametrize("verb", cli.VERBS)
    def test_every_verb_explains_itself(self, verb: str, video2act: Call, capsys: pytest.CaptureFixture[str]):
        with pytest.raises(SystemExit) as exit_:
            video2act(*verb.split(), "--help")
        assert exit_.value.code == 0
        text = " ".join(capsys.readouterr().out.split())
        what = (cli.VERBS[verb].options.__doc__ or "").split(".")[0].split(":")[0]
        assert " ".join(what.split()[:4]) in text

    @pytest.mark.parametrize("verb", cli.VERBS)
    def test_the_line_of_a_verb_is_not_cut_in_mid_sentence(self, verb: str):
        assert cli.overview([verb]).endswith("."), cli.overview([verb])

    def test_values_that_come_from_the_data_are_not_shown_as_defaults(
        self, video2act: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("COLUMNS", "60")  # one column of boxes
        with pytest.raises(SystemExit):
            video2act("train", "--help")
        text = " ".join(capsys.readouterr().out.replace("│", " ").split())
        for flag in ("state-dim INT", "action-dim INT", "fps FLOAT", "system2.streams.motion.camera STR"):
            assert re.search(rf"--policy\.{flag} (?:(?!--policy|default:).)*\(from the data\)", text), flag
        assert re.search(r"--policy\.horizon INT (?:(?!--policy).)*\(default: 8\)", text)

    def test_train_video_does_not_offer_to_train_nothing(
        self, video2act: Call, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ):
        with pytest.raises(SystemExit):
            video2act("train-video", "--data", tmp_path, "--out", tmp_path / "out", "--tuning.method", "frozen")
        assert "'frozen'" in capsys.readouterr().err

    def test_a_verb_that_does_not_exist_is_answered_with_those_that_do(
        self, video2act: Call, capsys: pytest.CaptureFixture[str]
    ):
        with pytest.raises(SystemExit) as exit_:
            video2act("fly")
        assert exit_.value.code not in (0, None)
        assert "no verb 'fly'" in str(exit_.value.code)
        assert "train-video" in capsys.readouterr().err

    def test_a_missing_argument_is_named(self, video2act: Call, capsys: pytest.CaptureFixture[str]):
        with pytest.raises(SystemExit) as exit_:
            video2act("collect", "--out", "somewhere")
        assert exit_.value.code not in (0, None)
        assert "--env" in capsys.readouterr().err

    def test_the_version(self, video2act: Call, capsys: pytest.CaptureFixture[str]):
        video2act("--version")
        assert re.fullmatch(r"video2act \d+\.\d+\.\d+(\.dev\d+)?\n", capsys.readouterr().out)

    @pytest.mark.parametrize(
        "command",
        [
            ("eval", "run", "--env", PUSH, "--episodes", 0),
            ("serve", "run", "--port", -1),
            ("sweep", "run", "--env", PUSH, "--refresh-every", 0),
        ],
        ids=lambda command: command[0],
    )
    def test_a_wrong_option_names_the_help_of_its_verb(self, refusal: Callable[..., str], command: tuple[Any, ...]):
        assert f"(options: video2act {command[0]} --help)" in refusal(*command)

    @pytest.mark.parametrize("words", [("--nope",), ("--horizon", "x"), ()], ids=["unknown", "value", "missing"])
    def test_what_the_parser_refuses_names_it_too(
        self, video2act: Call, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
    ):
        with pytest.raises(SystemExit):
            video2act("train", *words)
        assert "video2act train --help" in " ".join(capsys.readouterr().err.split())


def test_a_process_ends_with_one_line_and_a_code():
    """The one test with a process of its own: what the others call is what the shell gets."""
    done = subprocess.run(
        [sys.executable, "-m", "video2act.cli", "eval", "run", "--env", PUSH, "--episodes", "0"],
        env={name: value for name, value in os.environ.items() if name != "VIDEO2ACT_DEBUG"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "video2act: ValueError: episodes must be at least 1, got 0 (options: video2act eval --help)\n"


def test_a_reader_that_goes_away_is_no_mistake():
    """`video2act info data/push | head` ended with `BrokenPipeError`."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "video2act.cli", "--help"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_the_traceback_is_there_for_who_asks(video2act: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VIDEO2ACT_DEBUG", "1")
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        video2act("info", tmp_path / "nowhere")


def test_a_simulated_task_is_recorded_and_described(
    video2act: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "push"
    video2act(
        "collect",
        "--env",
        PUSH,
        "--out",
        out,
        "--episodes",
        1,
        "--image-size",
        32,
        "--cameras",
        "corner4",
        "--workers",
        1,
    )
    assert f"{out}: 1 episodes, 1 recorded now" in capsys.readouterr().out
    dataset = LeRobotDataset(out)
    assert (len(dataset), dataset.cameras, dataset.image_size("corner4")) == (1, ("corner4",), (32, 32))
    video2act("info", out)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "robot sawyer" in lines
    assert "cameras corner4: 32 x 32 px, h264" in lines


class TestNames:
    """An unknown name is answered with those that exist."""

    def test_task(self, refusal: Callable[..., str], run: Path, tmp_path: Path):
        said = refusal("collect", "--env", "metaworld:pusch-v3", "--out", tmp_path / "data", "--workers", 1)
        assert "unknown environment 'metaworld:pusch-v3'. Did you mean 'metaworld:push-v3'?" in said
        assert "There are families aloha (2)" in said
        assert not (tmp_path / "data").exists()
        said = refusal("eval", run, "--env", "push-v3")
        assert "unknown environment 'push-v3'. Did you mean 'metaworld:push-v3'? There are families" in said
        assert "the cameras of this policy" not in said, "this is about no camera"
        said = refusal("run", run, "--env", PUSH, "--max-steps", 9999)
        assert "max_steps=9999 is not in" in said
        assert "the cameras of this policy" not in said

    def test_preset(self, refusal: Callable[..., str], recorded: Path, tmp_path: Path):
        said = refusal("train", "--data", recorded, "--out", tmp_path / "out", "--preset", "tinny")
        assert "unknown preset 'tinny'; did you mean 'tiny'? choose from tiny, tiny_lookahead, tiny_latents, " in said
        assert "unknown preset 'huge'; choose from tiny" in refusal("bench", "--preset", "huge")

    def test_camera_of_a_simulator(self, refusal: Callable[..., str], tmp_path: Path):
        said = refusal("collect", "--env", PUSH, "--out", tmp_path / "data", "--cameras", "korner", "--workers", 1)
        assert "unknown camera 'korner'. Did you mean 'corner'?" in said
        assert "gripperPOV" in said

    def test_camera_of_a_dataset(self, refusal: Callable[..., str], recorded: Path, tmp_path: Path):
        said = refusal("train-video", "--data", recorded, "--out", tmp_path / "out", "--camera", "top")
        assert "no camera 'top'; its cameras are front, wrist" in said
        options = ("--preset", "tiny_system1", "--cameras", "top")
        said = refusal("train", "--data", recorded, "--out", tmp_path / "out", *options)
        assert "looks through top, which the dataset does not have; its cameras are front, wrist" in said
        assert not (tmp_path / "out").exists()

    def test_filter(self, refusal: Callable[..., str], small_config: PolicyConfig, tmp_path: Path):
        run = save(small_config, tmp_path / "run")
        edit_json(run / "config.json", lambda config: config["system2"]["streams"][0]["filter"].update(name="canny"))
        said = refusal("eval", run, "--env", PUSH)
        assert (
            f"{run / 'config.json'}: system2: streams[0]: filter: name: 'canny' is not one of 'none', 'sobel'" in said
        )
        assert "'temporal_bandpass'" in said

    def test_field_of_the_configuration(self, refusal: Callable[..., str], run: Path):
        edit_json(run / "config.json", lambda config: config.update(horizont=3))
        assert "unknown field horizont of PolicyConfig; did you mean 'horizon'? It has state_dim" in refusal(
            "eval", run, "--env", PUSH
        )

    def test_demo(self, refusal: Callable[..., str], tmp_path: Path):
        said = refusal("demo", "--name", "pull", "--out", tmp_path / "demo")
        assert "unknown demo 'pull'; choose from push, three_tasks" in said
        assert not (tmp_path / "demo").exists()


class TestDatasets:
    """A dataset that cannot be used: which file, and what is wrong with it."""

    @pytest.fixture
    def damaged(self, recorded: Path, tmp_path: Path) -> Path:
        shutil.copytree(recorded, tmp_path / "damaged")
        return tmp_path / "damaged"

    @pytest.mark.parametrize(
        "command",
        [
            ("info", "{data}"),
            ("train-video", "--data", "{data}", "--out", "{out}"),
            ("train", "--data", "{data}", "--out", "{out}", "--preset", "tiny_blind"),
        ],
        ids=lambda command: command[0],
    )
    def test_missing(self, command: tuple[str, ...], refusal: Callable[..., str], tmp_path: Path):
        data, out = tmp_path / "nowhere", tmp_path / "out"
        said = refusal(*(word.format(data=data, out=out) for word in command))
        assert f"{data} is not a folder; expected a dataset, which holds meta/info.json" in said
        assert not out.exists()

    def test_a_folder_of_something_else(self, refusal: Callable[..., str], tmp_path: Path):
        (tmp_path / "letter.txt").touch()
        assert "is not a LeRobot dataset: it has no meta/info.json (found: letter.txt)" in refusal("info", tmp_path)

    def test_films_are_said_to_need_a_dataset(self, refusal: Callable[..., str], tmp_path: Path):
        film, out = tmp_path / "clip.MP4", tmp_path / "out"
        film.write_bytes(b"film")
        for data in (film, tmp_path):
            said = refusal("train-video", "--data", data, "--out", out)
            assert "films become a dataset without actions by a few lines of Python (docs/data.md, Films)" in said

    def test_an_older_version(self, refusal: Callable[..., str], damaged: Path):
        edit_json(damaged / "meta/info.json", lambda info: info.update(codebase_version="v2.1"))
        said = refusal("info", damaged)
        assert (
            f"{damaged / 'meta/info.json'}: this dataset is LeRobotDataset v2.1, expected v3.0; convert it once" in said
        )

    def test_truncated_description(self, refusal: Callable[..., str], damaged: Path):
        path = damaged / "meta/info.json"
        path.write_text(path.read_text()[:100])
        assert f"{path} is not valid json" in refusal("info", damaged)

    def test_truncated_table(self, refusal: Callable[..., str], damaged: Path):
        path = damaged / "data/chunk-000/file-001.parquet"
        path.write_bytes(path.read_bytes()[:500])
        assert f"{path} is not a readable parquet file" in refusal("info", damaged)

    def test_missing_video(self, refusal: Callable[..., str], damaged: Path):
        path = damaged / "videos/observation.images.front/chunk-000/file-002.mp4"
        path.unlink()
        assert f"{path} does not exist, but episodes refer to it; copy the dataset again" in refusal("info", damaged)

    def test_truncated_video(self, refusal: Callable[..., str], damaged: Path, tmp_path: Path):
        path = damaged / "videos/observation.images.front/chunk-000/file-001.mp4"
        path.write_bytes(path.read_bytes()[:300])
        said = refusal("train", "--data", damaged, "--out", tmp_path / "out", "--preset", "tiny_system1")
        assert str(path) in said

    def test_nothing_recorded_yet(self, refusal: Callable[..., str], tmp_path: Path):
        DatasetWriter.create(
            tmp_path / "new", fps=20.0, robot="arm", cameras=(), image_size=64, state_names=("x",), action_names=("x",)
        ).close()
        assert "holds no complete episode yet; record at least one" in refusal("info", tmp_path / "new")

    def test_a_number_that_is_none(self, refusal: Callable[..., str], damaged: Path, tmp_path: Path):
        path = damaged / "data/chunk-000/file-001.parquet"
        table = pq.read_table(path)
        rows = table["action"].to_pylist()
        rows[5][1] = float("nan")
        column = table.schema.get_field_index("action")
        pq.write_table(
            table.set_column(column, table.schema.field("action"), pa.array(rows, table["action"].type)), path
        )
        for command in (
            ("info", damaged),
            ("train", "--data", damaged, "--out", tmp_path / "out", "--preset", "tiny_blind"),
        ):
            said = refusal(*command)
            assert f"{path}: episode 1, frame 5: action[1] is nan" in said
            assert "remove the episode or record it again" in said

    def test_recorded_otherwise(self, refusal: Callable[..., str], damaged: Path):
        """`collect` continues only what `collect` began."""
        said = refusal("collect", "--env", PUSH, "--out", damaged, "--workers", 1)
        assert f"{damaged} was not recorded" in said
        assert "record into a new folder" in said


class TestRefusedEarly:
    """Before processes are spawned and folders claimed."""

    def test_an_evaluation_that_never_refreshes(
        self, refusal: Callable[..., str], blind_config: PolicyConfig, tmp_path: Path
    ):
        run = save(blind_config, tmp_path / "run")
        assert "refresh_every must be at least 1, got 0" in refusal("eval", run, "--env", PUSH, "--refresh-every", 0)

    def test_an_evaluation_on_a_scene_of_the_demonstrations(
        self, refusal: Callable[..., str], blind_config: PolicyConfig, tmp_path: Path
    ):
        run = save(blind_config, tmp_path / "run")
        (run / "scenes.json").write_text(f'{{"{PUSH}": [0, 1003]}}')
        assert "1003 among them" in refusal("eval", run, "--env", PUSH, "--episodes", 5)


class TestRuntime:
    """What cannot be run is refused with the words that can."""

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--system2", "gpu"), "inline, in a thread, in a process, or at ws://host:port; got 'gpu'"),
            (("--system2", "process"), "this policy has no System 2, so there is nothing to run at system2='process'"),
            (("--simulate-latency", "system1=1s", "--system2", "thread"), "leave out system2 and system1"),
            (("--limits", "data+x"), "data+x does not exist; limits are"),
        ],
    )
    def test_options(
        self,
        options: tuple[str, ...],
        said: str,
        refusal: Callable[..., str],
        blind_config: PolicyConfig,
        tmp_path: Path,
    ):
        run = save(blind_config, tmp_path / "run")
        assert said in refusal("eval", run, "--env", PUSH, *options)

    def test_a_latency_of_another_form_is_refused_by_its_flag(
        self, video2act: Call, capsys: pytest.CaptureFixture[str]
    ):
        with pytest.raises(SystemExit):
            video2act("eval", "run", "--env", PUSH, "--simulate-latency", "60")
        printed = capsys.readouterr().err
        assert "Error parsing --simulate-latency: expected system1=60ms" in printed


class TestFit:
    """Policy, data and robot must be of one kind; where they are not, both sides are named."""

    def test_state_action_and_rate_of_a_robot(
        self, refusal: Callable[..., str], blind_config: PolicyConfig, tmp_path: Path
    ):
        run = save(replace(blind_config, state_dim=3, action_dim=2, fps=20.0), tmp_path / "run")
        said = refusal("eval", run, "--env", PUSH)
        assert "this policy cannot drive metaworld:push-v3" in said
        assert "state size: the policy was trained with 3, the environment has 4" in said
        assert "action size: the policy was trained with 2, the environment has 4" in said
        assert "control steps per second: the policy was trained with 20, the environment has 80" in said
        assert not (run / "eval").exists()

    def test_cameras_of_a_robot(self, refusal: Callable[..., str], small_config: PolicyConfig, tmp_path: Path):
        said = refusal("eval", save(small_config, tmp_path / "run"), "--env", PUSH)
        assert "the cameras of this policy: front, wrist" in said
        assert "corner4" in said

    def test_rate_camera_and_episode_of_a_film(
        self, refusal: Callable[..., str], small_config: PolicyConfig, tmp_path: Path
    ):
        run, film = save(small_config, tmp_path / "run"), ("--out", tmp_path / "film.mp4")
        slow = record(tmp_path / "slow", fps=10.0)
        said = refusal("view", run, "--data", slow, *film)
        assert "control rate in Hz: the policy has 20, the dataset 10" in said
        other = record(tmp_path / "other", cameras=("top",))
        said = refusal("view", run, "--data", other, *film)
        assert "looks through front, wrist, which the dataset does not have; its cameras are top" in said
        fitting = record(tmp_path / "fitting")
        assert "the dataset has episodes 0 to 0, got 7" in refusal(
            "view", run, "--data", fitting, "--episode", 7, *film
        )
        assert not (tmp_path / "film.mp4").exists()

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"fps": 10.0}, "fps is 20.0 in the first and 10.0 in the second"),
            (
                {"cameras": ("top",)},
                "cameras is {'front': (64, 64), 'wrist': (64, 64)} in the first and {'top': (64, 64)}",
            ),
            ({"has_action": False}, "{other} has no actions; label it first"),
        ],
        ids=["fps", "cameras", "actions"],
    )
    def test_two_datasets(
        self, options: dict[str, Any], expected: str, refusal: Callable[..., str], recorded: Path, tmp_path: Path
    ):
        other = record(tmp_path / "other", **options)
        said = refusal("train", "--data", recorded, other, "--out", tmp_path / "out", "--preset", "tiny_blind")
        assert f"{recorded} and {other} do not go together: {expected.replace('{other}', str(other))}" in said
        assert not (tmp_path / "out").exists()

    def test_videos_without_actions(self, refusal: Callable[..., str], tmp_path: Path):
        videos = record(tmp_path / "videos", has_action=False)
        said = refusal("train", "--data", videos, "--out", tmp_path / "out", "--preset", "tiny_blind")
        assert (
            "has no actions: it has no column action, and none was chosen; its columns are observation.state [3]"
            in said
        )


class TestRunFolders:
    def test_no_run_at_all(self, refusal: Callable[..., str], tmp_path: Path):
        said = refusal("eval", tmp_path / "nowhere", "--env", PUSH)
        assert f"{tmp_path / 'nowhere'} does not exist; a run folder holds config.json" in said, "it named a file in it"

    def test_without_weights(self, refusal: Callable[..., str], run: Path):
        (run / "model.safetensors").unlink()
        for command in (("eval", run, "--env", PUSH, "--workers", 1), ("bench", "--run", run)):
            assert f"{run / 'model.safetensors'} does not exist: this folder has no weights" in refusal(*command)

    def test_truncated_weights(self, refusal: Callable[..., str], run: Path):
        path = run / "model.safetensors"
        path.write_bytes(path.read_bytes()[:1000])
        assert f"{path} is not a readable safetensors file" in refusal("bench", "--run", run)

    def test_weights_of_another_shape_are_refused_by_name(self, refusal: Callable[..., str], run: Path):
        path = run / "model.safetensors"
        weights = load_file(path)
        weights["system1.dit.position"] = weights["system1.dit.position"][:-1].contiguous()
        del weights["system1.text_in.bias"]
        weights["system3.bias"] = weights["system1.text_in.weight"].clone()
        save_file(weights, path)
        said = refusal("eval", run, "--env", PUSH, "--workers", 1)
        assert f"{path} does not fit its config:" in said
        assert "system1.dit.position is [6, 32], the config asks for [7, 32]" in said
        assert "missing system1.text_in.bias [32]" in said
        assert "unexpected system3.bias [32, 16]" in said

    def test_system_2_without_a_video_model(self, refusal: Callable[..., str], recorded: Path, tmp_path: Path):
        said = refusal("train", "--data", recorded, "--out", tmp_path / "out")
        assert (
            "System 2, which needs a video model: train one (train-video, or train_video), and give its folder" in said
        )
        assert "(--video-model, or video_model=...)" in said, "for Python, too"
        said = refusal("train", "--data", recorded, "--out", tmp_path / "out", "--video-model", tmp_path / "nowhere")
        assert f"{tmp_path / 'nowhere'} does not exist, and a video model is wanted; make one with train-video" in said
        assert not (tmp_path / "out").exists()

    def test_a_run_that_exists_is_not_overwritten(self, refusal: Callable[..., str], recorded: Path, tmp_path: Path):
        out = tmp_path / "out"
        out.mkdir()
        (out / "training.json").write_text("{}")
        (out / "metrics.jsonl").write_text('{"step": 0}\n')  # a step was taken, so there is something to lose
        for command in (("train", "--preset", "tiny_blind"), ("train-video",)):
            said = refusal(*command, "--data", recorded, "--out", out)
            assert f"{out} already holds a training; continue it with --resume (resume=True), or choose" in said
        assert (out / "training.json").read_text() == "{}"

    @pytest.mark.parametrize("command", [("train", "--preset", "tiny_blind"), ("train-video",)], ids=lambda it: it[0])
    def test_a_finished_training_is_resumed_by_its_own_command_alone(
        self,
        command: tuple[str, ...],
        video2act: Call,
        refusal: Callable[..., str],
        recorded: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ):
        """`train-video` took the clips of its own streams for other options, and `train` other data for the same."""
        words = (*command, "--out", tmp_path / "out", "--num-steps", 1, "--batch-size", 1, "--resume", "--data")
        video2act(*words, recorded)
        trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
        capsys.readouterr()
        video2act(*words, recorded)
        assert f"{tmp_path / 'out'} holds this training, finished: nothing is left to do" in capsys.readouterr().out
        said = refusal(*words, record(tmp_path / "other"))
        assert "holds a finished training with other options" in said
        assert "data: other episodes, columns or files" in said
        assert trained == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}

    @pytest.mark.parametrize("option", ["--episodes", "--workers", "--refresh-every"])
    def test_nothing_is_no_number_of_things(self, option: str, refusal: Callable[..., str], run: Path):
        said = refusal("eval", run, "--env", PUSH, "--workers", 1, option, 0)
        assert "at least 1, got 0" in said


def documented(cls: Any) -> Iterator[tuple[str, str | None]]:
    """Every value that an options class or a config holds, with the text below its field."""
    docs, hints = field_docs(cls), get_type_hints(cls)
    for field in fields(cls):
        held = [each for each in (hints[field.name], *get_args(hints[field.name])) if is_dataclass(each)]
        for below in held:
            yield from documented(below)
        if not held:
            yield f"{cls.__name__}.{field.name}", docs.get(field.name)


@pytest.mark.parametrize("options", [*(verb.options for verb in cli.VERBS.values()), PolicyConfig, StudyConfig])
def test_every_option_has_a_text(options: type):
    """`train --help` showed 30 options without one, `--num-steps` among them."""
    assert [name for name, text in documented(options) if not text] == []
