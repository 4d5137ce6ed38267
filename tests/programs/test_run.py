"""`video2act run`: what is recorded of a run, and that it needs no terminal."""

import io
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from video2act.config import RuntimeConfig
from video2act.config.programs import RunOptions
from video2act.data import LeRobotDataset, load_origin
from video2act.data.seeds import recorded_seeds
from video2act.envs import make_environment
from video2act.incidents import Incident
from video2act.interfaces import Environment
from video2act.programs.run import Dashboard, draw, run
from video2act.runtime.keys import QueuedKeys
from video2act.runtime.live import Status
from video2act.runtime.runner import Rates
from video2act.types import Step

ENV = "report_world:make"


def options(folder: Path, **changes) -> RunOptions:
    return RunOptions(**{"run": folder, "env": ENV, "seed": 1001, "system2": "inline", **changes})


CORRECTED = ([], [], ["tab"], ["d"], ["d"], ["tab"])


def test_a_run_is_recorded_with_its_corrections_and_its_instructions(saved_policy: Path, tmp_path: Path):
    out = tmp_path / "recorded"
    keys = QueuedKeys([*CORRECTED, [":", "p", "u", "l", "l", "enter"]])
    done = run(options(saved_policy, record=out), keys=keys)
    assert (done.episodes, done.recorded, done.corrected_steps) == (1, 1, 3)
    dataset = LeRobotDataset(out)
    episode = dataset.episode(0)
    assert episode.instruction == ("push the square",) * 6 + ("pull",) * 6
    assert dataset.frames(0, "front").shape == (12, 64, 64, 3)
    (file,) = (out / "data").rglob("*.parquet")
    marks = pq.read_table(file).column("intervention").to_pylist()
    assert np.ravel(marks).tolist() == [False] * 2 + [True] * 3 + [False] * 7


@pytest.mark.parametrize(
    "changes", [{"device": "nosuch"}, {"refresh_every": 7, "runtime": RuntimeConfig(max_staleness_s=0.01)}]
)
def test_a_run_that_is_refused_begins_no_dataset(saved_policy: Path, tmp_path: Path, changes: dict[str, Any]):
    """An empty dataset stayed, and a second command with other options was refused for it."""
    with pytest.raises((ValueError, RuntimeError)):
        run(options(saved_policy, record=tmp_path / "recorded", **changes), keys=QueuedKeys([]))
    assert not (tmp_path / "recorded").exists()


@pytest.mark.parametrize("is_recorded", [True, False])
def test_what_is_recorded_is_no_scene_that_is_kept_for_evaluation(
    saved_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_recorded: bool
):
    """Corrections in LIBERO were recorded on the official states, which its evaluations have."""
    asked: list[bool] = []

    def make(name: str, cameras: tuple[str, ...], *, to_demonstrate: bool, **given: Any) -> Environment:
        asked.append(to_demonstrate)
        return make_environment(name, cameras, **given)

    monkeypatch.setattr("video2act.programs.run.make_environment", make)
    run(options(saved_policy, record=tmp_path / "recorded" if is_recorded else None), keys=QueuedKeys())
    assert asked == [is_recorded]


def test_a_second_run_adds_to_the_dataset_and_dropped_episodes_are_not_in_it(saved_policy: Path, tmp_path: Path):
    out = tmp_path / "recorded"
    run(options(saved_policy, record=out), keys=QueuedKeys())
    done = run(
        options(saved_policy, record=out, episodes=3), keys=QueuedKeys([[], [], ["backspace"], [], [], ["escape"]])
    )
    assert (done.episodes, done.recorded) == (2, 0)
    assert len(LeRobotDataset(out)) == 1
    run(options(saved_policy, record=out), keys=QueuedKeys())
    assert len(LeRobotDataset(out)) == 2


def test_a_recording_says_which_actions_are_relative_if_the_environment_does_not(
    saved_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The dataset said that every action is a target, although the policy knew better."""
    shutil.copytree(saved_policy, tmp_path / "run")
    for name, changes in (("config", {"relative_actions": ["dx"]}), ("stats", {"action": {"names": ["dx", "dy"]}})):
        file = tmp_path / f"run/{name}.json"
        written = json.loads(file.read_text())
        for key, value in changes.items():
            written[key] = written[key] | value if isinstance(value, dict) else value
        file.write_text(json.dumps(written))

    def make(name: str, cameras: tuple[str, ...], **given: Any) -> Environment:
        environment = make_environment(name, cameras, **given)
        environment.spec = replace(environment.spec, relative_actions=())
        return environment

    monkeypatch.setattr("video2act.programs.run.make_environment", make)
    run(options(tmp_path / "run", record=tmp_path / "recorded"), keys=QueuedKeys())
    assert load_origin(tmp_path / "recorded")["relative_actions"] == ["dx"]


def test_a_dataset_of_other_pictures_is_refused_before_the_episode(saved_policy: Path, tmp_path: Path):
    """It was refused after the episode, which a person had driven by hand."""
    out = tmp_path / "recorded"
    run(options(saved_policy, record=out), keys=QueuedKeys())
    assert load_origin(out) == {"environment": ENV, "orientation": "upright", "relative_actions": ["dx", "dy"]}
    info = out / "meta/info.json"
    info.write_text(info.read_text().replace("64", "48"))
    with pytest.raises(ValueError, match=r"height and width of camera.front: \(48, 48\) there, \(64, 64\) here"):
        run(options(saved_policy, record=out), keys=QueuedKeys())


class TestAnotherEnvironment:
    """A recording was continued in another environment, with other pictures and actions, as if it were the first one.
    Seeds of all its episodes counted as the first environment's."""

    @staticmethod
    def go_on(saved_policy: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        def make(name: str, cameras: tuple[str, ...], **given: Any) -> Environment:
            environment = make_environment(name, cameras, **given)
            environment.spec = replace(environment.spec, **changes)
            return environment

        run(options(saved_policy, record=out), keys=QueuedKeys())
        monkeypatch.setattr("video2act.programs.run.make_environment", make)
        run(options(saved_policy, record=out, seed=1003), keys=QueuedKeys())

    def test_each_episode_names_its_own(self, saved_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        self.go_on(saved_policy, tmp_path / "recorded", monkeypatch, name="report_world:other")
        dataset = LeRobotDataset(tmp_path / "recorded")
        assert recorded_seeds([(dataset, (0, 1))]) == {ENV: [1001], "report_world:other": [1003]}

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"orientation": "lerobot"}, "orientation of the pictures: upright there, lerobot here"),
            ({"relative_actions": ()}, r"actions that are changes or speeds: \['dx', 'dy'\] there, \[\] here"),
        ],
        ids=["orientation", "relative"],
    )
    def test_other_pictures_or_actions_are_refused(
        self, changes: dict, match: str, saved_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        # the policy itself refuses neither
        monkeypatch.setattr("video2act.programs.run.make_fitting", lambda _config, make, **_names: make())
        with pytest.raises(ValueError, match=f"was recorded otherwise \\({match}\\); record into a new folder"):
            self.go_on(saved_policy, tmp_path / "recorded", monkeypatch, **changes)


def test_corrections_alone_become_episodes(saved_policy: Path, tmp_path: Path):
    out = tmp_path / "corrections"
    keys = QueuedKeys([*CORRECTED, [], ["tab"], ["tab"]])
    done = run(options(saved_policy, record=out, record_only="corrections"), keys=keys)
    dataset = LeRobotDataset(out)
    assert done.recorded == len(dataset) == 2
    assert dataset.lengths == (3, 1)


def test_wrong_options_are_errors_before_anything_runs(saved_policy: Path, tmp_path: Path, recorded: Path):
    with pytest.raises(ValueError, match="--record"):
        run(options(saved_policy, record_only="corrections"), keys=QueuedKeys())
    with pytest.raises(ValueError, match="no column 'intervention'"):
        run(options(saved_policy, record=recorded), keys=QueuedKeys())
    with pytest.raises(ValueError, match=r"\.rrd"):
        run(options(saved_policy, rerun="film.mp4"), keys=QueuedKeys())


def test_the_end_of_a_run_names_late_steps_and_the_kinds_of_incidents_with_their_counts(
    saved_policy: Path, monkeypatch: pytest.MonkeyPatch
):
    from report_world import FPS, Squares

    step = Squares.step

    def slow(self: Squares, action: np.ndarray) -> Step:
        time.sleep(1.5 / FPS)
        return step(self, action)

    monkeypatch.setattr(Squares, "step", slow)
    done = run(options(saved_policy, episodes=2), keys=QueuedKeys())
    assert done.late_steps == 12 + 8
    assert "20 late; incidents: none" in str(done)
    told = str(replace(done, incidents={"hold": 3, "control_rate": 1}))
    assert told.endswith("20 late; incidents: control_rate 1, hold 3")


def status(**changes) -> Status:
    incidents = (Incident("hold", "System 2 is [red]away[/red]", 0.0),)
    rest = {"late_steps": 2, "num_incidents": 7, "incidents": incidents, "num_corrected": 3}
    return Status(
        **{
            "mode": "by hand",
            "instruction": "push",
            "typed": None,
            "refused": "",
            "episode": 1,
            "control_step": 40,
            "rates": Rates(19.8, 9.9, 2.4, 0),
            "staleness_s": 0.123,
            **rest,
            **changes,
        }
    )


def test_the_dashboard_shows_rates_staleness_and_incidents():
    from report_world import make

    console = Console(file=io.StringIO(), width=100)
    console.print(draw(status(), make().spec, recorded=5))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in (
        "by hand",
        "19.8 of 20 Hz (observations' clock)",
        "123 ms",
        "2 control steps",
        "hold: System 2 is [red]away",
        "d/a dx",
    ):
        assert part in text
    console.print(draw(status(typed="pul"), make().spec, recorded=5))
    assert "pul_" in console.file.getvalue()  # type: ignore[attr-defined]
    console.print(draw(status(refused="the instruction has 1001 bytes"), make().spec, recorded=5))
    assert "the instruction has 1001 bytes" in console.file.getvalue()  # type: ignore[attr-defined]


def test_without_a_terminal_the_status_is_a_line_per_second():
    from report_world import make

    file = io.StringIO()
    with Dashboard(make().spec, None, console=Console(file=file)) as dashboard:
        for _ in range(8):
            dashboard.show(status())
    assert (
        file.getvalue().count(
            "episode 1, step 40, by hand: 19.8 Hz (observations' clock), staleness 123 ms, 2 late, 7 incidents"
        )
        == 2
    )


def test_a_package_can_offer_a_robot_by_a_name(saved_policy: Path, monkeypatch: pytest.MonkeyPatch):
    from importlib.metadata import EntryPoint

    from video2act.envs import registry

    entry = EntryPoint("arm", "report_world:make", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == registry.ENTRY_POINTS else [])
    assert registry.is_own("arm")
    assert not registry.is_own("metaworld:push-v3")
    assert run(options(saved_policy, env="arm"), keys=QueuedKeys([[], [], ["escape"]])).episodes == 1
    with pytest.raises(ValueError, match="time limit of its own"):
        run(options(saved_policy, max_steps=3), keys=QueuedKeys())
