"""Evaluations on disk, compared: what is said, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluations import evaluation_info, write_info

pytest.importorskip("robostats")
from video2act.programs.compare import compare


def evaluation(folder: Path, successes: list[bool], *, first: int = 1000, **settings: Any) -> Path:
    return write_info(folder, evaluation_info({"fake:a": successes}, first=first, run=str(folder), **settings))


def test_two_evaluations_are_compared_scene_by_scene(tmp_path: Path):
    a = evaluation(tmp_path / "runs/a/eval", [True] * 9 + [False] + [True] * 10)
    b = evaluation(tmp_path / "runs/b/eval", [False] * 9 + [True] + [True] * 10)
    text = compare([a, b / "eval_info.json"], out=tmp_path / "out.json")
    assert "**a/eval - b/eval/eval_info.json: +40.0 points** over 1 training seed." in text
    assert "One seed says nothing about other trainings." in text
    assert "| a/eval - b/eval/eval_info.json | 0 | +40.0 |" in text
    numbers = json.loads((tmp_path / "out.json").read_text())
    scenes = numbers["pairs"][0]["scenes"]["0"]
    assert (scenes["only_first"], scenes["only_second"]) == (9, 1)
    assert scenes["p"] == pytest.approx(22 / 1024)  # two ends of ten tosses, 0 or 1 each
    assert numbers["cannot_be_told_apart"] == ["a/eval"]


def test_names_do_not_repeat_what_all_share(tmp_path: Path):
    a, b = (evaluation(tmp_path / "runs" / name / "eval", [True, False]) for name in ("a", "b"))
    assert "**a - b: +0.0 points**" in compare([a, b])


def test_several_trainings_of_an_arm_are_paired_in_their_order(tmp_path: Path):
    good = [evaluation(tmp_path / f"good{n}", [True] * (15 + n) + [False] * (5 - n)) for n in range(3)]
    bad = [evaluation(tmp_path / f"bad{n}", [True] * (5 + n) + [False] * (15 - n)) for n in range(3)]
    text = compare([",".join(map(str, good)), ",".join(map(str, bad))])
    assert "**good0 - bad0: +50.0 points** over 3 training seeds" in text
    assert "sign-flip p = 0.2500: these seeds cannot tell the two apart." in text
    assert "No result of 3 seeds could: the smallest p they can reach is 0.2500." in text
    with pytest.raises(ValueError, match="every arm needs an evaluation for each training seed, got good0: 3, bad0: 1"):
        compare([",".join(map(str, good)), bad[0]])


def test_three_are_corrected_for_each_other(tmp_path: Path):
    a = evaluation(tmp_path / "a", [True] * 20)
    b = evaluation(tmp_path / "b", [True] * 10 + [False] * 10)
    c = evaluation(tmp_path / "c", [True] * 19 + [False])
    compare([a, b, c], out=tmp_path / "out.json")
    pairs = json.loads((tmp_path / "out.json").read_text())["pairs"]
    assert [pair["p_holm"] for pair in pairs] == pytest.approx([3 * 2 / 2**10, 1.0, 2 * 2 / 2**9])


def test_what_differs_otherwise_is_said(tmp_path: Path):
    a = evaluation(tmp_path / "a", [True, False])
    b = evaluation(tmp_path / "b", [True, True], refresh_every=1, workers=7)
    text = compare([a, b])
    assert f"Settings differ: refresh_every: 8 in {a}, 1 in {b}." in text
    assert "workers" not in text


def test_what_cannot_be_compared_is_refused(tmp_path: Path):
    a = evaluation(tmp_path / "a", [True, False])
    other = evaluation(tmp_path / "b", [True, False], first=2000)
    with pytest.raises(ValueError, match="on 2 seeds from 2000, the others on 2 from 1000; evaluate all on the same"):
        compare([a, other])
    with pytest.raises(ValueError, match=r"was evaluated in fake:b, .*/a in fake:a"):
        compare([a, evaluation(tmp_path / "c", [True, False], env=["fake:b"])])
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; name the folder of an evaluation"):
        compare([a, tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="two evaluations or more, got 1"):
        compare([a])
    with pytest.raises(ValueError, match="named twice"):
        compare([a, a])
    (other / "eval_info.json").write_text('{"per_task": [{}]}')
    with pytest.raises(ValueError, match=r"b/eval_info\.json is damaged .*per_task\[0\] has no task_group"):
        compare([a, other])
