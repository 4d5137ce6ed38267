"""A study from its yaml file to its table: what is run, what goes on, and what is refused."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("robostats")
from evaluations import evaluation_info
from small_study import STUDY, player, write_study
from video2act.config.study import StudyOptions
from video2act.data import DatasetWriter, Episode, LeRobotDataset
from video2act.files.lock import FolderLock, InUseError
from video2act.programs.study import StudyFailedError, study
from video2act.study import worker


@pytest.fixture(autouse=True)
def _played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One worker runs in this process, where the commands are played."""
    monkeypatch.setattr(worker, "COMMAND", player(tmp_path))


def run(folder: Path, plan: Path | None = None, **options: Any) -> Any:
    return study(StudyOptions(study=plan or write_study(folder), out=folder / "out", workers=1, **options))


def another_episode() -> Episode:
    """One more episode for a copy of the dataset `recorded`."""
    frames = np.zeros((12, 64, 64, 3), np.uint8)
    state, action = np.zeros((12, 3), np.float32), np.zeros((12, 2), np.float32)
    return Episode({"front": frames, "wrist": frames}, state, action, "pull", seed=3)


def played(folder: Path) -> list[str]:
    """The commands that were run."""
    path = folder / "out/played.txt"
    lines = path.read_text().splitlines() if path.is_file() else []
    path.unlink(missing_ok=True)
    return lines


def test_all_jobs_are_run_once_and_recorded(tmp_path: Path):
    table = run(tmp_path)
    assert len(played(tmp_path)) == 2 + 6 + 6
    assert "| the frozen clip | " in table.read_text()
    record = json.loads((tmp_path / "out/jobs/eval_good_seed1.json").read_text())
    assert record["command"].startswith("video2act eval policies/good_seed1 --env moving:intercept --out evaluations/")
    assert record["result"]["n_episodes"] == 10
    assert record["cpu_seconds"] > 0
    assert record["attempts"][0]["machine"]["cores"] >= 1
    assert record["versions"]["numpy"]
    run(tmp_path)
    assert played(tmp_path) == [], "what is done was repeated"


def test_a_part_first_and_the_rest_later(tmp_path: Path):
    run(tmp_path, arms=("good",), seeds=(1,))
    assert [line.split()[0] for line in played(tmp_path)] == ["collect", "train-video", "train", "eval"]
    run(tmp_path)
    assert len(played(tmp_path)) == 10
    with pytest.raises(ValueError, match=r"there is no arm 'god'; did you mean 'good'\?"):
        run(tmp_path, arms=("god",))
    with pytest.raises(ValueError, match="there is no training seed '7'"):
        run(tmp_path, seeds=(7,))


def test_a_failed_job_stops_those_that_need_it_and_is_tried_again(tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/broken.txt").write_text("policies/bad_seed0")
    with pytest.raises(StudyFailedError, match=r"1 jobs failed(.|\n)*train_bad_seed0: exit code 1: the disk is full"):
        run(tmp_path)
    assert not any("evaluations/bad_seed0" in line for line in played(tmp_path))
    (tmp_path / "out/broken.txt").unlink()
    run(tmp_path)
    assert len(played(tmp_path)) == 2
    record = json.loads((tmp_path / "out/jobs/train_bad_seed0.json").read_text())
    assert [attempt["exit_code"] for attempt in record["attempts"]] == [1, 0]
    assert record["cpu_seconds"] == pytest.approx(sum(attempt["cpu_seconds"] for attempt in record["attempts"]))


def test_an_attempt_that_ended_with_the_study_is_counted(tmp_path: Path):
    """A killed study's attempts were nowhere in its compute."""
    run(tmp_path, arms=("good",), seeds=(0,))
    path = tmp_path / "out/jobs/train_good_seed0.json"
    record = json.loads(path.read_text()) | {"finished": False}
    cut = {"started": "2026-01-01T00:00:00+00:00", "exit_code": None, "machine": record["attempts"][0]["machine"]}
    path.write_text(json.dumps(record | {"attempts": [cut]}))
    log = tmp_path / "out/logs/train_good_seed0.log"
    os.utime(log, (0, 1767225600 + 7200))  # two hours later
    (tmp_path / "out/policies/good_seed0/training.json").unlink()
    (tmp_path / "out/jobs/eval_good_seed0.json").unlink()
    (tmp_path / "out/evaluations/good_seed0/eval_info.json").unlink()
    text = run(tmp_path, arms=("good",), seeds=(0,)).read_text()
    assert "1 attempt ended together with the study, after 2.00 hours, not counted in these numbers." in text
    first, second = json.loads(path.read_text())["attempts"]
    assert (first["seconds"], first["exit_code"], second["exit_code"]) == (7200.0, None, 0)
    assert json.loads(path.read_text())["seconds"] == pytest.approx(7200 + second["seconds"], abs=0.01)


def test_a_training_that_was_interrupted_goes_on(tmp_path: Path):
    folder = tmp_path / "out/policies/good_seed0"
    folder.mkdir(parents=True)
    (folder / "training.json").write_text('{"num_steps": 10}')
    run(tmp_path, arms=("good",), seeds=(0,))
    trained = [line for line in played(tmp_path) if line.startswith("train ")]
    assert trained[0].endswith("--resume")


def test_a_training_that_finished_when_the_study_was_killed_is_not_repeated(tmp_path: Path):
    run(tmp_path, arms=("good",), seeds=(0,))
    played(tmp_path)
    for name in ("train", "eval"):
        path = tmp_path / f"out/jobs/{name}_good_seed0.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"finished": False}))
    run(tmp_path, arms=("good",), seeds=(0,))
    assert [line.split()[0] for line in played(tmp_path)] == ["eval"], "an evaluation says by itself whose it is"


def test_what_is_there_without_a_record_does_not_count_as_done(tmp_path: Path):
    """An evaluation or a training of other settings counted as the job's result once its record was removed."""
    run(tmp_path, arms=("good",), seeds=(0,))
    played(tmp_path)
    for name in ("train_video_trained", "train_good_seed0"):
        path = tmp_path / f"out/jobs/{name}.json"
        text = path.read_text()
        path.unlink()
        with pytest.raises(ValueError, match=rf"is there, but .*{name}\.json, which says how it was made, is not; put"):
            run(tmp_path, arms=("good",), seeds=(0,))
        assert played(tmp_path) == []
        path.write_text(text)
    (tmp_path / "out/jobs/eval_good_seed0.json").unlink()
    path = write_study(tmp_path, evaluate={"refresh_every": 32})
    run(tmp_path, path, arms=("good",), seeds=(0,))
    (only,) = played(tmp_path)
    assert only.startswith("eval policies/good_seed0")
    assert json.loads((tmp_path / "out/jobs/eval_good_seed0.json").read_text())["made_from"]


def test_an_evaluation_that_is_refused_does_not_count_as_done_the_next_time(tmp_path: Path):
    run(tmp_path, arms=("good",), seeds=(0,))
    (tmp_path / "out/jobs/eval_good_seed0.json").unlink()
    (tmp_path / "out/broken.txt").write_text("evaluations/good_seed0")
    for _ in range(2):
        with pytest.raises(StudyFailedError, match="eval_good_seed0: exit code 1"):
            run(tmp_path, arms=("good",), seeds=(0,))


def moved_study(tmp_path: Path, arms: dict[str, Any], **changes: Any) -> tuple[Path, Path]:
    """A study with files of its own beside its yaml that was run and moved as a whole; returns the folder and yaml."""
    (tmp_path / "here/theirs").mkdir(parents=True)
    (tmp_path / "here/theirs/config.json").write_text("{}")
    (tmp_path / "here/theirs/model.safetensors").write_bytes(b"first")
    config = Path(__file__).parents[2] / "weights/push/config.json"
    (tmp_path / "here/mine.json").write_text(config.read_text())
    path = write_study(tmp_path / "here", arms={**STUDY["arms"], **arms}, seeds=[0], **changes)
    run(tmp_path / "here", path)
    played(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    return tmp_path / "there", tmp_path / "there" / path.name


def test_a_study_that_was_moved_goes_on_and_is_reported(tmp_path: Path, recorded: Path):
    """A folder's whole path stood in the commands, so after a move every job was `with another command`."""
    (tmp_path / "here").mkdir()
    shutil.copytree(recorded, tmp_path / "here/ball")
    arms = {"theirs": {"policy": "theirs"}, "own": {"options": {"config": "mine.json"}}}
    folder, path = moved_study(tmp_path, arms, datasets={"demos": {"folder": "ball"}})
    assert "| theirs |" in run(folder, path, report_only=True).read_text()
    record = folder / "out/jobs/eval_theirs_seed0.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"finished": False}))
    run(folder, path)
    (only,) = played(folder)
    assert only.startswith(f"eval {folder}/theirs ")
    assert json.loads(record.read_text())["words"][1] == f"{folder}/theirs"


@pytest.mark.parametrize("name", ["theirs/model.safetensors", "mine.json"])
def test_a_study_that_was_moved_beside_other_files_is_refused(tmp_path: Path, name: str):
    folder, path = moved_study(tmp_path, {"theirs": {"policy": "theirs"}, "own": {"options": {"config": "mine.json"}}})
    text = (folder / name).read_text()
    (folder / name).write_text("other" if name.startswith("theirs") else text + "\n")
    with pytest.raises(
        ValueError, match=r"was made from .*there/\w+(\.json)? \(then .*/here/\w+(\.json)?\), which has"
    ):
        run(folder, path)
    assert played(folder) == []


def test_another_study_in_the_folder_is_refused_before_any_work(tmp_path: Path):
    run(tmp_path, arms=("good",), seeds=(0,))
    played(tmp_path)
    other = write_study(tmp_path, training={"num_steps": 99})
    with pytest.raises(ValueError, match=r"job train_good_seed0 with another command \(10 then, 99 now\)"):
        run(tmp_path, other)
    assert played(tmp_path) == []


def test_a_dry_run_lists_what_is_left_and_runs_nothing(tmp_path: Path):
    listed = run(tmp_path, dry_run=True)
    assert "14 of 14 jobs to do" in listed
    assert not (tmp_path / "out").exists()
    run(tmp_path, seeds=(0,))
    played(tmp_path)
    listed = run(tmp_path, dry_run=True)
    assert "6 of 14 jobs to do" in listed
    assert "eval_good_seed0: done" in listed
    assert "train_good_seed1: to do, about" in listed
    assert played(tmp_path) == []


def test_the_smoke_slice_is_two_arms_of_one_seed(tmp_path: Path):
    run(tmp_path, slice="smoke")
    evaluated = [line for line in played(tmp_path) if line.startswith("eval")]
    assert len(evaluated) == 2
    assert all("--episodes 5" in line for line in evaluated)


def test_an_evaluation_on_other_scenes_is_not_compared(tmp_path: Path):
    theirs = tmp_path / "theirs0.json"
    theirs.write_text(json.dumps(evaluation_info({"moving:intercept": [True]}, first=17)))
    arms = {**STUDY["arms"], "alone": {"results": "theirs{seed}.json"}}
    with pytest.raises(ValueError, match=r"theirs0\.json was evaluated on 1 seeds from 17, and 10 from 3000 are want"):
        run(tmp_path, write_study(tmp_path, arms=arms))


def test_results_of_another_environment_are_refused_before_any_work(tmp_path: Path):
    """They were compared as if they were of the same scenes."""
    theirs = tmp_path / "theirs0.json"
    theirs.write_text(json.dumps(evaluation_info({"moving:push": [True] * 10}, first=3000)))
    arms = {**STUDY["arms"], "alone": {"results": "theirs{seed}.json"}}
    problem = r"theirs0\.json was evaluated in moving:push, arm alone is in moving:intercept; name an evaluation in the"
    with pytest.raises(ValueError, match=problem):
        run(tmp_path, write_study(tmp_path, arms=arms))
    assert not (tmp_path / "out").exists()
    arms["alone"]["env"] = ["moving:push"]
    run(tmp_path, write_study(tmp_path, arms=arms))


def test_results_that_are_not_there_yet_are_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A mistake in the path showed in the table only, after hours."""
    arms = {**STUDY["arms"], "alone": {"results": "theirs{seed}.json"}}
    run(tmp_path, write_study(tmp_path, arms=arms), dry_run=True)
    told = "note: the results of arm alone, seeds 0, 1, are not there yet, and count as missing: "
    assert f"{told}{tmp_path}/theirs0.json\n" in capsys.readouterr().out


def test_a_result_that_was_removed_is_made_again(tmp_path: Path):
    """The remedy of a damaged result was to remove it; the study then took the evaluation for done, without one."""
    run(tmp_path)
    played(tmp_path)
    result = tmp_path / "out/evaluations/bad_seed0/eval_info.json"
    result.write_text("{")
    with pytest.raises(ValueError, match=r"bad_seed0/eval_info\.json is damaged .*remove this file and evaluate again"):
        run(tmp_path)
    result.unlink()
    run(tmp_path)
    (only,) = played(tmp_path)
    assert only.startswith("eval policies/bad_seed0")
    assert result.is_file()


def test_a_job_that_never_began_may_be_corrected(tmp_path: Path):
    """A job that had failed at once blocked the corrected study until its record was removed by hand."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/broken.txt").write_text("alone_seed0")
    with pytest.raises(StudyFailedError):
        run(tmp_path, seeds=(0,))
    (tmp_path / "out/broken.txt").unlink()
    arms = {**STUDY["arms"], "alone": {**STUDY["arms"]["alone"], "training": {"num_steps": 4}}}
    run(tmp_path, write_study(tmp_path, arms=arms), seeds=(0,))
    with pytest.raises(ValueError, match="holds job train_alone_seed0 with another command"):
        run(tmp_path, write_study(tmp_path), seeds=(0,))


def test_what_was_made_from_a_job_that_is_repeated_is_not_kept(tmp_path: Path):
    """With a training removed as the error advised, its evaluation stayed `done` and was reported for the new one."""
    run(tmp_path)
    arms = {**STUDY["arms"], "alone": {"preset": "tiny_system1", "training": {"num_steps": 4}}}
    path, out = write_study(tmp_path, arms=arms), tmp_path / "out"
    with pytest.raises(ValueError, match=r"remove .*train_alone_seed0\.json and .*, and what was made from them"):
        run(tmp_path, path)
    for seed in (0, 1):
        (out / f"jobs/train_alone_seed{seed}.json").unlink()
        shutil.rmtree(out / f"policies/alone_seed{seed}")
    played(tmp_path)
    with pytest.raises(
        ValueError, match=r"eval_alone_seed0, eval_alone_seed1: made from what will be made anew.*remove"
    ):
        run(tmp_path, path)
    assert played(tmp_path) == []
    for seed in (0, 1):
        (out / f"jobs/eval_alone_seed{seed}.json").unlink()
        shutil.rmtree(out / f"evaluations/alone_seed{seed}")
    run(tmp_path, path)
    assert len(played(tmp_path)) == 4


def test_what_is_made_from_other_data_does_not_stand_beside_what_is_there(tmp_path: Path, recorded: Path):
    """A dataset was extended, then a seed or an arm added: more data counted as the arm's merit."""
    shutil.copytree(recorded, tmp_path / "ball")
    plan = {"datasets": {"demos": {"folder": "ball"}}}
    run(tmp_path, write_study(tmp_path, **plan, seeds=[0]))
    made_from = json.loads((tmp_path / "out/results.json").read_text())["made_from"]
    assert made_from[str(tmp_path / "ball")] == LeRobotDataset(tmp_path / "ball").fingerprint
    assert not any(place.startswith("policies/") for place in made_from)
    with DatasetWriter.resume(tmp_path / "ball") as writer:
        writer.add_episode(another_episode())
    played(tmp_path)
    told = r"train_\w+ was made from .*ball, which has changed since.*choose another out"
    with pytest.raises(ValueError, match=told):
        run(tmp_path, write_study(tmp_path, **plan, seeds=[0, 1]))
    with pytest.raises(ValueError, match=told):  # the report would have the others, too
        run(tmp_path, write_study(tmp_path, **plan, seeds=[0, 1]), arms=("alone",), seeds=(1,))
    assert played(tmp_path) == []
    assert run(tmp_path, write_study(tmp_path, **plan, seeds=[0]), report_only=True).is_file(), "nothing is made"


def test_copies_of_a_policy_are_no_training_seeds(tmp_path: Path):
    for seed in (0, 1):
        (tmp_path / f"theirs{seed}").mkdir()
        (tmp_path / f"theirs{seed}/config.json").write_text("{}")
    arms = {**STUDY["arms"], "alone": {"policy": "theirs{seed}"}}
    with pytest.raises(ValueError, match=r"arm alone: .*theirs0, .*theirs1 hold the same policy"):
        run(tmp_path, write_study(tmp_path, arms=arms))


def test_a_policy_that_was_trained_anew_elsewhere_is_not_reported_by_its_old_evaluation(tmp_path: Path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"first")
    arms = {**STUDY["arms"], "alone": {"policy": "theirs"}}
    plan = write_study(tmp_path, arms=arms, seeds=[0])
    run(tmp_path, plan)
    (folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"eval_alone_seed0 was made from .*theirs, which has changed since"):
        run(tmp_path, plan)
    (tmp_path / "out/jobs/eval_alone_seed0.json").unlink()
    shutil.rmtree(tmp_path / "out/evaluations/alone_seed0")
    played(tmp_path)
    run(tmp_path, plan)
    assert len(played(tmp_path)) == 1


def test_a_folder_with_something_else_is_no_studys(tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/training.json").write_text("{}")
    with pytest.raises(FileExistsError, match=r"out holds a training .* choose another folder for a study"):
        run(tmp_path, dry_run=True)
    with pytest.raises(FileNotFoundError, match=r"out is a folder; a study is a yaml file"):
        run(tmp_path, tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").write_text("")
    with pytest.raises(FileExistsError, match=r"out=.*/out is a file; name a folder"):
        run(tmp_path, dry_run=True)


class TestReport:
    def test_goals_and_reasons_of_secondary_contrasts_are_printed(self, tmp_path: Path):
        secondary = [{"arm": "good", "than": "alone", "goal_points": 10, "why": "System 2 differs"}]
        text = run(tmp_path, write_study(tmp_path, secondary=secondary)).read_text()
        assert "good - alone: System 2 differs. The goal was +10 points: the mean reaches it." in text

    def test_the_correction_is_for_all_contrasts_that_the_file_names(self, tmp_path: Path):
        """The contrasts that were done first were corrected for each other alone, and looked better for it."""
        secondary = [{"arm": "good", "than": "alone"}, {"arm": "late", "than": "bad"}]
        path = write_study(tmp_path, arms={**STUDY["arms"], "late": {"results": "late{seed}"}}, secondary=secondary)
        text = run(tmp_path, path).read_text()
        assert "Holm corrects the others for all 2 that the file names; a missing one counts as p = 1." in text
        numbers = json.loads((tmp_path / "out/results.json").read_text())
        assert [(each["p"], each["p_holm"]) for each in numbers["secondary"]] == [(0.5, 1.0)]

    def test_a_primary_contrast_that_was_changed_with_the_results_in_view_is_said(self, tmp_path: Path):
        """Exchanged with a secondary one after the run, it was still `named before the run`."""
        other = {"primary": {"arm": "good", "than": "alone", "goal_points": 20}, "secondary": []}
        text = run(tmp_path).read_text()
        assert "## Primary contrast, named before the run" in text
        for options in ({"report_only": True}, {}):
            before = (tmp_path / "out/primary.json").read_text()
            text = run(tmp_path, write_study(tmp_path, **other), **options).read_text()
            assert ((tmp_path / "out/primary.json").read_text() == before) == bool(options), "a report names nothing"
            assert "## Primary contrast, CHANGED when 6 evaluations were done" in text
            assert "says less than one that was named before. The first, of 20" in text
            assert "good - bad (goal +20 points). **good - the frozen clip: +60.0 points**" in text
        page = (tmp_path / "out/study.html").read_text()
        assert "CHANGED when 6 evaluations were done" in page

    def test_a_refused_command_names_no_primary_contrast(self, tmp_path: Path):
        """A second command while the study ran was refused, and left the contrast CHANGED with the results in view."""
        run(tmp_path, seeds=(0,))
        before = (tmp_path / "out/primary.json").read_text()
        other = write_study(tmp_path, primary={"arm": "good", "than": "alone"}, secondary=[])
        with FolderLock(tmp_path / "out", "a study"), pytest.raises(InUseError):
            run(tmp_path, other, seeds=(0,))
        assert (tmp_path / "out/primary.json").read_text() == before

    def test_a_primary_contrast_may_be_changed_before_there_are_results(self, tmp_path: Path):
        (tmp_path / "out").mkdir()
        run(tmp_path, report_only=True)
        other = {"primary": {"arm": "good", "than": "alone"}, "secondary": []}
        text = run(tmp_path, write_study(tmp_path, **other)).read_text()
        assert "## Primary contrast, named before the run" in text

    def test_the_primary_contrast_stands_first_and_what_is_missing_is_listed(self, tmp_path: Path):
        text = run(tmp_path, seeds=(0,)).read_text()
        assert text.index("## Primary contrast, named before the run") < text.index("## Arms")
        assert "**good - the frozen clip: +60.0 points** over 1 training seed." in text
        assert "1 of 2 seeds are done; it is not judged before all are." in text
        assert "Which arms may be the best is not judged before all seeds of these are done." in text
        assert "The goal was" not in text
        assert "It was chosen because it shows this: motion alone differs." in text
        assert "the frozen clip: seed 1" in text
        assert re.search(r"\| the frozen clip \| \w+ \| tiny \| changes: system2", text), "what each arm is"
        text = run(tmp_path, report_only=True).read_text()
        assert len(played(tmp_path)) == 8, "a report runs nothing"
        assert "the frozen clip: seed 1" in text
        assert "CPU-hours: collect 0.00, train 0.00, train-video 0.00, eval 0.00." in text.replace(
            "collect 0.00, train-video 0.00, train 0.00", "collect 0.00, train 0.00, train-video 0.00"
        )

    def test_an_arm_that_starts_from_a_config_has_no_preset_in_the_report(self, tmp_path: Path):
        """It was called tiny there."""
        config = Path(__file__).parents[2] / "weights/push/config.json"
        (tmp_path / "mine.json").write_text(config.read_text())
        arms = {**STUDY["arms"], "own": {"options": {"config": "mine.json"}}}
        run(tmp_path, write_study(tmp_path, arms=arms), seeds=(0,), arms=("good",))
        assert '| own | own | - | options: config "mine.json" |' in (tmp_path / "out/table.md").read_text()

    def test_a_slice_is_named_and_its_goal_is_not_judged(self, tmp_path: Path):
        """A smoke test's page said that the study's goal was not reached, and not that it was a smoke test's."""
        text = run(tmp_path, slice="smoke").read_text()
        notice = "These are numbers of the slice smoke, not of the whole study."
        assert text.index(notice) < text.index("Is good better than bad?")
        assert "Its own: arms: good, bad; seeds: 0; changes: scenes.episodes 5. The goal is the whole study's" in text
        assert "The goal was" not in text
        page = (tmp_path / "out/study.html").read_text()
        assert page.index(notice) < page.index("Primary contrast, named before the run</h2>")
        assert "The goal was" not in page
        assert json.loads((tmp_path / "out/results.json").read_text())["slice"] == "smoke"

    def test_evaluations_with_images_of_several_sizes_are_named(self, tmp_path: Path):
        """A study that an older version began at 128 px went on at the recorded size, and nobody heard of it."""
        assert "several sizes" not in run(tmp_path, seeds=(0,)).read_text()
        info = tmp_path / "out/evaluations/bad_seed0/eval_info.json"
        whole = json.loads(info.read_text())
        whole["settings"]["image_size"] = [64, 64]
        info.write_text(json.dumps(whole))
        text = run(tmp_path, report_only=True).read_text()
        assert "images of several sizes, so arms may differ by that alone. 128 x 128 px: good (seed 0), " in text
        assert "64 x 64 px: the frozen clip (seed 0)." in text
        whole["settings"]["recorded_sizes"] = None
        info.write_text(json.dumps(whole))
        assert "several sizes" not in run(tmp_path, report_only=True).read_text()

    def test_arms_that_could_not_be_tested_yet_are_named(self, tmp_path: Path):
        """They `may be the best` beside those that were tested, without a word."""
        told = "Not tested, since they share fewer than two training seeds: "
        run(tmp_path, arms=("good", "bad"))
        text = run(tmp_path, arms=("alone",), seeds=(1,)).read_text()
        assert f"{told}alone with good, the frozen clip." in text
        assert told not in run(tmp_path).read_text()

    def test_evaluations_with_another_simulator_are_named(self, tmp_path: Path):
        """Seeds of another machine, with another simulator, stood beside the others without a word."""
        run(tmp_path, seeds=(0,))
        for arm, version in (("good", "3.3.0"), ("bad", "3.9.9")):
            info = tmp_path / f"out/evaluations/{arm}_seed0/eval_info.json"
            info.write_text(json.dumps({**json.loads(info.read_text()), "versions": {"mujoco": version}}))
        text = run(tmp_path, report_only=True).read_text()
        told = (
            "mujoco differs, so arms may differ by that alone. 3.3.0: good (seed 0); 3.9.9: the frozen clip (seed 0)."
        )
        assert told in text

    def test_a_part_of_the_seeds_does_not_hide_the_others(self, tmp_path: Path):
        """With the seeds left out that spoke against it, a contrast was `better`, and nothing was `missing`."""
        whole = run(tmp_path).read_text()
        assert "The goal was +20 points: the mean reaches it." in whole
        assert "Nothing: every arm and seed is done." in whole
        assert run(tmp_path, seeds=(1,), arms=("good", "bad"), report_only=True).read_text() == whole

    def test_seeds_that_were_taken_out_of_the_file_are_named(self, tmp_path: Path):
        """Without the seed that speaks against it the goal was reached, and nothing was said to be missing."""
        assert "not counted, since" not in run(tmp_path).read_text()
        text = run(tmp_path, write_study(tmp_path, seeds=[0]), report_only=True).read_text()
        assert "not counted, since the file does not name them (any more): alone_seed1, bad_seed1, good_seed1." in text

    def test_how_results_from_elsewhere_were_made_is_said(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        """Results of blind policies were compared without a word, and several of one training as several seeds."""
        for seed in (0, 1):
            info = evaluation_info({"moving:intercept": [True] * 10}, first=3000, blind=True, run=f"runs/{seed}")
            (tmp_path / f"theirs{seed}.json").write_text(json.dumps(info))
            (tmp_path / f"runs/{seed}").mkdir(parents=True)
            (tmp_path / f"runs/{seed}/config.json").write_text("{}")
            (tmp_path / f"runs/{seed}/training.json").write_text(json.dumps({"seed": 7 + seed}))
        arms = {**STUDY["arms"], "alone": {"results": "theirs{seed}.json"}}
        path = write_study(tmp_path, arms=arms, primary={"arm": "good", "than": "alone"}, secondary=[])
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            text = run(tmp_path, path).read_text()
            assert "## Primary contrast, named before the run" in text
            assert "Settings differ: blind: False in" in text
            assert "theirs1.json is of training seed 8, and counts as 1." in text
            assert "count as training seeds of one arm" not in text
            (tmp_path / "runs/1/training.json").write_text(json.dumps({"seed": 8, "data": "more"}))
            told = "count as training seeds of one arm, but differ in more: data: other episodes, columns or files"
            assert told in run(tmp_path, path).read_text(), "as compare says of the same evaluations"
            assert len(re.findall(r"Settings differ: blind: False in \S+, True in \S+theirs[01]\.json", text)) == 2
            capsys.readouterr()
            run(tmp_path, path)
            assert "note: Settings differ: blind: False in" in capsys.readouterr().out
            info = json.loads((tmp_path / "theirs1.json").read_text())
            info["settings"]["run"] = "runs/0"
            (tmp_path / "theirs1.json").write_text(json.dumps(info))
            with pytest.raises(ValueError, match=r"are of one training, .*runs/0; they are not two training seeds"):
                run(tmp_path, path)

    def test_a_contrast_that_was_named_after_its_results_is_said(self, tmp_path: Path):
        """A study of results alone said `named before the run`, although its evaluations are older than its file."""
        for arm in ("good", "bad"):
            for seed in (0, 1):
                info = evaluation_info({"moving:intercept": [arm == "good"] * 10}, first=3000, run=f"runs/{arm}{seed}")
                (tmp_path / f"{arm}{seed}.json").write_text(json.dumps(info))
        arms = {arm: {"results": f"{arm}{{seed}}.json"} for arm in ("good", "bad")}
        text = run(tmp_path, write_study(tmp_path, arms=arms, secondary=[], slices={})).read_text()
        assert "## Primary contrast, named when 2 training seeds were done already" in text
        assert "named before" not in text

    def test_another_study_may_not_take_the_folder(self, tmp_path: Path):
        run(tmp_path)
        with pytest.raises(ValueError, match="holds the study 'small', not 'other'; choose another out"):
            run(tmp_path, write_study(tmp_path, name="other"))

    def test_nothing_is_done_yet(self, tmp_path: Path):
        with pytest.raises(FileNotFoundError, match="out does not exist; report_only takes the folder of a study"):
            run(tmp_path, report_only=True)
        (tmp_path / "out").mkdir()
        text = run(tmp_path, report_only=True).read_text()
        assert "**good - the frozen clip: not known yet.**" in text
        assert "No evaluation is done yet." in text
        assert not (tmp_path / "out/study.html").exists()

    def test_it_is_a_page_with_plots_and_numbers_to_compute_again(self, tmp_path: Path):
        run(tmp_path)
        out = tmp_path / "out"
        page = (out / "study.html").read_text()
        assert page.index("Primary contrast") < page.index('<img alt="success"') < page.index('<img alt="contrasts"')
        assert "http://" not in page
        for name in ("success", "contrasts"):
            assert (out / f"plots/{name}.png").read_bytes().startswith(b"\x89PNG")
            assert b"<svg" in (out / f"plots/{name}.svg").read_bytes()
        numbers = json.loads((out / "results.json").read_text())
        assert numbers["primary"]["per_seed"] == pytest.approx({"0": 0.6, "1": 0.6})
        assert numbers["scenes"]["good"]["0"].count("1") == 9
        assert numbers["secondary"][0]["p_holm"] == numbers["secondary"][0]["p"] == 0.5
        assert numbers["compute"]["cpu_seconds"]["train"] > 0


COMMITTED = Path(__file__).parents[2] / "studies"
SMOKE = COMMITTED / "results/moving_intercept_smoke.json"


@pytest.mark.slow
def test_the_smallest_slice_gives_the_committed_row_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """For real: two policies are trained and evaluated, in some minutes."""
    monkeypatch.undo()
    run(tmp_path, COMMITTED / "moving_intercept.yaml", slice="smoke")
    found, committed = (json.loads(path.read_text()) for path in (tmp_path / "out/results.json", SMOKE))
    assert found["scenes"] == committed["scenes"]
