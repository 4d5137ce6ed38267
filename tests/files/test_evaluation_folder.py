"""The result of an evaluation is read in one place: what is wrong with it is named, with the remedy."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluations import evaluation_info, write_info
from video2act.files.evaluation_folder import evaluations_of, read_evaluation, read_evaluations_of, run_of
from video2act.files.run_folder import policy_fingerprint


def test_what_eval_writes_is_read_from_its_folder_or_its_file(tmp_path: Path):
    info = evaluation_info({"fake:a": [True, False], "count": [True]}, expert=1)
    write_info(tmp_path / "eval/one", info)
    (tmp_path / "eval/unfinished").mkdir()
    (folder,) = evaluations_of(tmp_path)
    assert read_evaluation(folder) == read_evaluation(folder / "eval_info.json") == info


@pytest.mark.parametrize("place", ["", "eval_info.json", "nowhere"])
def test_without_a_finished_evaluation_it_says_what_to_name(tmp_path: Path, place: str):
    with pytest.raises(FileNotFoundError, match=r"does not exist; name the folder of an evaluation that is finished"):
        read_evaluation(tmp_path / place)


def test_a_study_and_other_files_are_told_from_a_damaged_evaluation(tmp_path: Path):
    """Weights were called damaged, with the advice to remove them."""
    (tmp_path / "evaluations").mkdir()
    with pytest.raises(FileNotFoundError, match=r"such as one in .*/evaluations"):
        read_evaluation(tmp_path)
    (tmp_path / "begun/episodes").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"begun holds an evaluation that is not finished; the same .* goes on"):
        read_evaluation(tmp_path / "begun")
    (tmp_path / "model.safetensors").write_bytes(bytes(9))
    with pytest.raises(ValueError, match=r"is no evaluation; name what `video2act eval` wrote, a folder"):
        read_evaluation(tmp_path / "model.safetensors")


def test_an_evaluation_of_another_policy_is_not_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Its place decided: written into another run's folder, or older than its training, it counted as that run's."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_text(name)
    info = evaluation_info({"fake:a": [True]}, run=str(tmp_path / "b"))
    info["policy_fingerprint"] = policy_fingerprint(tmp_path / "b")
    write_info(tmp_path / "a/eval/s", info)
    assert run_of(tmp_path / "a/eval/s", info) == tmp_path / "b"
    assert read_evaluations_of(tmp_path / "a") == {}
    assert "a/eval/s is left out: it is of another policy than the one in" in capsys.readouterr().out
    (tmp_path / "b/model.safetensors").write_text("trained anew")
    assert run_of(tmp_path / "a/eval/s", info) is None
    del info["policy_fingerprint"]  # of an older version
    write_info(tmp_path / "a/eval/s", info)
    assert len(read_evaluations_of(tmp_path / "a")) == 1


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "it has no per_task": lambda info: info.pop("per_task"),
    "it: per_task is empty": lambda info: info["per_task"].clear(),
    "it: per_task[0]: expected dict, got 3": lambda info: info["per_task"].insert(0, 3),
    "metrics: successes[0]: expected bool, got 1": lambda info: info["per_task"][0]["metrics"].update(successes=[1, 0]),
    "fake:a has 1 and 2 episodes": lambda info: info["per_task"][0]["metrics"]["seeds"].pop(),
    "settings: instruction: expected str, got 7": lambda info: info["settings"].update(instruction=7),
    "visual_shift: 'x | y' is not one of": lambda info: info["settings"].update(visual_shift="x | y"),
    "latency_s has no system2": lambda info: info["latency_s"].pop("system2"),
}


@pytest.mark.parametrize("problem", DAMAGE)
def test_each_damage_is_named_with_the_file_and_the_remedy(tmp_path: Path, problem: str):
    """Eight readers checked as much as each of them needed: a study took an evaluation that `compare` refused, and one
    without a single episode passed everywhere."""
    info = evaluation_info({"fake:a": [True, False]})
    DAMAGE[problem](info)
    folder = write_info(tmp_path, info)
    said = f"{folder}/eval_info.json is damaged (.*{re.escape(problem)}.*); name what `video2act eval` wrote, or remove"
    with pytest.raises(ValueError, match=said.replace("damaged (", r"damaged \(").replace("); name", r"\); name")):
        read_evaluation(folder)


@pytest.mark.parametrize("text", ["", "[1]", '{"per_task": ', json.dumps({"time": "now"})])
def test_another_file_is_refused(tmp_path: Path, text: str):
    (tmp_path / "eval_info.json").write_text(text)
    with pytest.raises(ValueError, match=r"eval_info\.json is damaged"):
        read_evaluation(tmp_path)
