"""The demo: its bookkeeping with made-up results, and the whole of it in miniature, from the simulator to the film.

The miniature is also this project's short closed-loop evaluation: a policy trained a moment ago acts in MuJoCo from
pixels.
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import av
import pytest

from evaluations import evaluation_info, write_info
from video2act.config import TrainConfig, VideoTrainConfig
from video2act.data import LeRobotDataset
from video2act.envs import list_environments
from video2act.hub import model_card
from video2act.policy import Video2Act
from video2act.programs import demo as module
from video2act.programs.demo import DEMOS, FILM_FILE, STAGES_FILE, SUMMARY_FILE, Demo, Stages, demo
from video2act.training import video_report

KEYS = {
    "success_rate",
    "successes",
    "episodes",
    "wilson_low",
    "wilson_high",
    "expert_rate",
    "blind_rate",
    "system1_ms_p50",
    "system2_ms_p50",
    "staleness_p95_s",
    "total_seconds",
}
"""what `summary.json` of a demo with one task holds; others read it"""

IDENTITY = {"demo": "push", "seed": 0}
MINIATURE = Demo({"metaworld:push-v3": 2}, video_steps=2, policy_steps=2, eval_episodes=1)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No work and no data: the names of the programs that were called."""
    called: list[str] = []

    class Named:
        def __init__(self, path: Path):
            self.entries = [SimpleNamespace(environment=None, tasks=(f"do {path.name}",))]

    def note(name: str) -> Callable[..., None]:
        return lambda *arguments, **options: called.append(name)

    for name in ("collect", "train_video", "train", "evaluate"):
        monkeypatch.setattr(module, name, note(name))
    monkeypatch.setattr(module, "report", lambda run, out: out)
    monkeypatch.setattr(module, "LeRobotDataset", Named)
    for name in ("open_dataset", "open_datasets"):
        monkeypatch.setattr(module, name, lambda *arguments: None)
    monkeypatch.setattr(module, "make_preset", lambda *arguments: SimpleNamespace(replace=lambda changes: None))
    return called


def write_evaluation(folder: Path, expert: int, n: int, tasks: dict[str, int]) -> None:
    """Successes of each task, and of its expert, among so many scenes."""
    won = {task: [scene < successes for scene in range(n)] for task, successes in tasks.items()}
    write_info(folder, evaluation_info(won, expert=expert))
    (folder / "videos").mkdir()
    (folder / "videos" / "eval_episode_0.mp4").write_bytes(b"film")


def write_trainings(out: Path) -> None:
    """Both trainings of a demo, finished."""
    for name in ("video_model", "policy"):
        (out / name).mkdir(parents=True, exist_ok=True)
        (out / name / "training.json").write_text('{"finished": true}')


class TestPlans:
    @pytest.mark.parametrize("name", DEMOS)
    def test_a_plan_names_environments_that_exist(self, name: str):
        assert set(DEMOS[name].tasks) <= set(list_environments())
        assert (
            max(DEMOS[name].episodes.values()) < module.EVALUATION_SEED
        )  # demonstrations count up from 0; failures leave room

    def test_an_unknown_one_is_answered_with_those_there_are(self, tmp_path: Path, programs: list[str]):
        with pytest.raises(ValueError, match="unknown demo 'pull'; choose from push, three_tasks, libero"):
            demo("pull", tmp_path / "out")
        assert not (tmp_path / "out").exists()
        assert programs == []

    def test_of_many_tasks_each_hears_one_other_instruction(self, monkeypatch: pytest.MonkeyPatch):
        plan = DEMOS["libero"]
        entries = [SimpleNamespace(environment=task, tasks=(f"do {task}",)) for task in plan.tasks]
        monkeypatch.setattr(module, "LeRobotDataset", lambda path: SimpleNamespace(entries=entries))
        wrong = module._wrong_instructions(plan, (Path("data"),))
        assert sorted(task for _, (task,), _ in wrong) == sorted(plan.tasks)
        assert all(sentence == f"do {other}" != f"do {task}" for other, (task,), sentence in wrong)

    def test_it_says_first_how_long_it_takes(
        self, tmp_path: Path, programs: list[str], capsys: pytest.CaptureFixture[str]
    ):
        with pytest.raises(FileNotFoundError):  # nothing was evaluated
            demo("push", tmp_path)
        assert capsys.readouterr().out.startswith("push: about 12 minutes on two cores; interrupted, the same")
        assert programs[0] == "collect"


class TestStages:
    def test_what_is_done_is_skipped_and_its_seconds_are_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        clock = iter([100.0, 107.5])
        monkeypatch.setattr(module, "monotonic", lambda: next(clock))
        done: list[str] = []
        Stages(tmp_path / "stages.json", IDENTITY).run("collect", lambda: done.append("collect"))
        again = Stages(tmp_path / "stages.json", IDENTITY)
        again.run("collect", lambda: done.append("collect again"))
        assert done == ["collect"]
        assert again.seconds == {"collect": 7.5}

    def test_what_it_made_is_made_again_if_it_was_removed(self, tmp_path: Path):
        made, done = tmp_path / "made", list[str]()
        for _ in range(2):
            Stages(tmp_path / "stages.json", IDENTITY).run("eval", lambda: done.append("eval"), is_made=made.is_file)
        made.touch()
        Stages(tmp_path / "stages.json", IDENTITY).run("eval", lambda: done.append("eval"), is_made=made.is_file)
        assert len(done) == 2

    def test_what_was_interrupted_is_not_done(self, tmp_path: Path):
        def interrupted() -> None:
            raise KeyboardInterrupt

        stages = Stages(tmp_path / "stages.json", IDENTITY)
        stages.run("collect", lambda: None)
        with pytest.raises(KeyboardInterrupt):
            stages.run("train", interrupted)
        assert list(Stages(tmp_path / "stages.json", IDENTITY).seconds) == ["collect"]

    def test_what_another_demo_did_does_not_count(self, tmp_path: Path):
        """The three-task demo in the folder of the push demo once reported the push policy as its own."""
        Stages(tmp_path / "stages.json", IDENTITY).run("collect", lambda: None)
        with pytest.raises(ValueError, match=r"holds another demo \(seed: 0 then, 7 now\); choose another folder"):
            Stages(tmp_path / "stages.json", {**IDENTITY, "seed": 7})


class TestSummary:
    def test_of_one_task_it_has_exactly_the_agreed_keys(self, tmp_path: Path, programs: list[str]):
        out = tmp_path / "demo"
        write_evaluation(out / "policy" / "eval" / "full", 24, 25, {"metaworld:push-v3": 18})
        write_evaluation(out / "policy" / "eval" / "blind", 24, 25, {"metaworld:push-v3": 2})
        identity = {"demo": "push", "seed": 0, **json.loads(json.dumps(asdict(DEMOS["push"])))}
        (out / STAGES_FILE).write_text(json.dumps({**identity, "seconds": {"train-video": 20.0, "train": 40.5}}))
        write_trainings(out)
        summary = demo("push", out)
        assert set(summary) == KEYS
        assert json.loads((out / SUMMARY_FILE).read_text()) == summary
        assert (summary["successes"], summary["episodes"], summary["success_rate"]) == (18, 25, 0.72)
        assert (summary["wilson_low"], summary["wilson_high"]) == pytest.approx((0.524, 0.857), abs=1e-3)
        assert (summary["expert_rate"], summary["blind_rate"]) == (0.96, 0.08)
        assert summary["system1_ms_p50"] == pytest.approx(12.5)
        assert summary["system2_ms_p50"] == pytest.approx(31)
        assert summary["staleness_p95_s"] == 0.05
        # what was done before counts; what is replaced here takes no time
        assert summary["total_seconds"] == pytest.approx(60.5, abs=1)
        assert (out / FILM_FILE).read_bytes() == b"film"
        assert "train" not in programs
        assert programs == ["collect", "evaluate", "evaluate"]

    def test_what_was_removed_is_made_again_by_the_same_command(self, tmp_path: Path, programs: list[str]):
        """Without its data or its policy a demo failed at every stage after them, and its command never made them."""
        out = tmp_path / "demo"
        for name in ("full", "blind"):
            write_evaluation(out / "policy" / "eval" / name, 24, 25, {"metaworld:push-v3": 18})
        write_trainings(out)
        demo("push", out)
        programs.clear()
        (out / "policy" / "training.json").write_text("{}")
        demo("push", out)
        assert programs == ["collect", "train"], "a training that has only begun is not all"

    def test_a_part_of_the_episodes_is_not_all(self, recorded: Path):
        number = len(LeRobotDataset(recorded))
        assert module._is_recorded(recorded, number)
        assert not module._is_recorded(recorded, number + 1)
        assert not module._is_recorded(recorded / "removed", 1)

    def test_a_film_that_was_removed_is_named(self, tmp_path: Path, programs: list[str]):
        out = tmp_path / "demo"
        for name in ("full", "blind"):
            write_evaluation(out / "policy" / "eval" / name, 24, 25, {"metaworld:push-v3": 18})
        (out / "policy" / "eval" / "full" / "videos" / "eval_episode_0.mp4").unlink()
        with pytest.raises(
            FileNotFoundError, match=r"eval/full holds no film \(\*\.mp4\); remove .*, and the same comm"
        ):
            demo("push", out)

    def test_of_several_tasks_it_also_has_each_of_them_and_each_told_another(
        self,
        tmp_path: Path,
        programs: list[str],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ):
        monkeypatch.setitem(DEMOS, "two", Demo({"metaworld:a": 2, "metaworld:b": 3}, 2, 2, 4))
        out = tmp_path / "demo"
        tasks = {"metaworld:a": 3, "metaworld:b": 1}
        write_evaluation(out / "policy" / "eval" / "full", 4, 4, tasks)
        write_evaluation(out / "policy" / "eval" / "blind", 4, 4, tasks)
        for name, env in (("told b", "metaworld:a"), ("told a", "metaworld:b")):
            write_evaluation(out / "policy" / "eval" / name, 4, 4, {env: 1})
        summary = demo("two", out)
        assert set(summary) == KEYS | {"tasks", "wrong_instruction"}
        assert {task: rate["successes"] for task, rate in summary["tasks"].items()} == tasks
        assert set(summary["wrong_instruction"]) == {"metaworld:a, told b", "metaworld:b, told a"}
        assert re.search(r"told another task's instruction\s+│ 2 of 8 ", capsys.readouterr().out)
        assert programs == ["collect", "collect", "train_video", "train", *["evaluate"] * 4]


@pytest.mark.usefixtures("fresh_accelerator")
@pytest.mark.usefixtures("short_episodes")  # of the evaluation; demonstrations are recorded whole, in other processes
def test_the_whole_path_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(DEMOS, "miniature", MINIATURE)
    monkeypatch.setattr(video_report, "NUM_CLIPS", 2)
    monkeypatch.setattr(module, "VideoTrainConfig", partial(VideoTrainConfig, batch_size=2, num_frames=9))
    monkeypatch.setattr(module, "TrainConfig", partial(TrainConfig, batch_size=2))
    out = tmp_path / "demo"
    summary = demo("miniature", out)

    assert set(json.loads((out / SUMMARY_FILE).read_text())) == KEYS
    assert summary["episodes"] == 1
    assert summary["success_rate"] in (0, 1)
    assert 0 <= summary["wilson_low"] <= summary["success_rate"] <= summary["wilson_high"] <= 1
    assert min(summary["system1_ms_p50"], summary["system2_ms_p50"], summary["total_seconds"]) > 0
    assert 0 <= summary["staleness_p95_s"] < 1
    assert len(LeRobotDataset(out / "data" / "metaworld_push-v3")) == MINIATURE.episodes["metaworld:push-v3"]
    config = Video2Act.load(out / "policy").config
    assert config.system2 is not None

    card = model_card(config, "demo", num_parameters=1, source="demo", run=out / "policy")
    assert "video2act eval demo --env metaworld:push-v3 --episodes 1 --seed 1000\n" in card
    assert "| metaworld:push-v3 | blind | " in card
    assert "Not evaluated." not in card

    evaluated = json.loads((out / "policy" / "eval" / "full" / "eval_info.json").read_text())
    assert evaluated["control_steps"] == 8
    with av.open(out / FILM_FILE) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == evaluated["control_steps"]
    # cameras and streams side by side
    assert frames[0].shape[1] > 256 * (len(config.cameras) + len(config.system2.streams))
    assert frames[0].std() > 10

    # again: everything is there, so nothing is done
    def work(*arguments: object, **options: object) -> None:
        raise AssertionError("this was done already")

    for name in ("collect", "train_video", "train", "evaluate"):
        monkeypatch.setattr(module, name, work)
    assert demo("miniature", out) == summary
