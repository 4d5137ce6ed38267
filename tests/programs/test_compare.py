"""Evaluations on disk, compared: what is said, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluations import evaluation_info, write_info
from video2act.files.run_folder import policy_fingerprint

pytest.importorskip("robostats")
from video2act.programs.compare import compare


def evaluation(folder: Path, successes: list[bool], *, first: int = 1000, **settings: Any) -> Path:
    return write_info(folder, evaluation_info({"fake:a": successes}, first=first, run=str(folder), **settings))


def test_two_evaluations_are_compared_scene_by_scene(tmp_path: Path):
    a = evaluation(tmp_path / "runs/a/eval", [True] * 9 + [False] + [True] * 10)
    b = evaluation(tmp_path / "runs/b/eval", [False] * 9 + [True] + [True] * 10)
    text = compare([a, b / "eval_info.json"], out=tmp_path / "out.json")
    assert "**a - b: +40.0 points** over 1 training seed." in text
    assert "One seed says nothing about other trainings." in text
    assert "| a - b | 0 | +40.0 |" in text
    numbers = json.loads((tmp_path / "out.json").read_text())
    scenes = numbers["pairs"][0]["scenes"]["0"]
    assert (scenes["only_first"], scenes["only_second"]) == (9, 1)
    assert scenes["p"] == pytest.approx(22 / 1024)  # two ends of ten tosses, 0 or 1 each
    assert numbers["cannot_be_told_apart"] == ["a"]
    told = "Only this one may be the best (all pairs corrected for each other, over scenes of one training each): a."
    assert told in text


def test_an_address_stays_whole_and_does_not_lengthen_the_others(tmp_path: Path):
    """Beside a served policy every other was called by its whole path, and the address lost a slash."""
    a, b = (evaluation(tmp_path / "runs" / name / "eval", [True, False]) for name in ("a", "b"))
    info = evaluation_info({"fake:a": [True, False]}, run="ws://robot:8000")
    text = compare([a, b, write_info(tmp_path / "served", info)])
    assert "| a - b | 0 | +0.0 |" in text
    assert "| a - ws://robot:8000 | 0 | +0.0 |" in text


def test_served_policies_alone_are_compared(tmp_path: Path):
    """It never ended."""
    for name in ("act", "diffusion"):
        write_info(tmp_path / name, evaluation_info({"fake:a": [True, name == "act"]}, run=f"ws://{name}:8000"))
    assert "**ws://act:8000 - ws://diffusion:8000: +50.0 points**" in compare(
        [tmp_path / "act", tmp_path / "diffusion"]
    )


def test_trainings_that_are_not_found_are_told_together(tmp_path: Path):
    lost = [write_info(tmp_path / str(n), evaluation_info({"fake:a": [n > 3, n > 4]}, run=f"x/{n}")) for n in range(6)]
    text = compare(lost)
    assert f"x/3, which was evaluated in {lost[3]}; and 2 more evaluations, are not found: their trainings are" in text
    assert text.count("not compared") == 1


def test_a_copy_of_an_evaluation_is_no_second_training_seed(tmp_path: Path):
    """Where the run folder was gone and no fingerprint was recorded, it counted as one."""
    info = evaluation_info({"fake:a": [True, False]}, run="runs/a")
    a, copy = (write_info(tmp_path / name, info) for name in ("a", "copy"))
    others = [write_info(tmp_path / n, evaluation_info({"fake:a": [False, True]}, run=f"runs/{n}")) for n in "bc"]
    with pytest.raises(
        ValueError, match=r"/a and .*/copy are of one training, runs/a; they are not two training seeds"
    ):
        compare([f"{a},{copy}", ",".join(map(str, others))])


@pytest.mark.parametrize("seed", [1000, 0])
def test_scenes_that_stand_twice_are_named(tmp_path: Path, seed: int):
    a, b = (evaluation(tmp_path / f"runs/{name}/eval", [True, False]) for name in "ab")
    info = json.loads((b / "eval_info.json").read_text())
    info["per_task"][0]["metrics"]["seeds"] = [seed, seed]
    write_info(b, info)
    with pytest.raises(ValueError, match=f"holds seed {seed} more than once; evaluate again, each seed once"):
        compare([b, a])


def test_scenes_that_repeat_are_named(tmp_path: Path):
    """LIBERO has 50 official states of a task, and 60 episodes counted as 60 independent scenes."""
    for name in ("a", "b"):
        write_info(tmp_path / name, evaluation_info({"libero:libero_goal/1": [True] * 60}, run=f"runs/{name}"))
    told = "counts scenes of libero:libero_goal/1 twice: it has 50, and 60 were evaluated; evaluate again, at most 50"
    with pytest.raises(ValueError, match=told):
        compare([tmp_path / "a", tmp_path / "b"])


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


def test_a_difference_of_simulator_renderer_or_torch_is_said(tmp_path: Path):
    """Policies in two versions of the simulator were compared without a word."""
    a, b, old = (evaluation(tmp_path / name, [True, False]) for name in ("a", "b", "old"))
    for folder, versions in (
        (a, {"mujoco": "2.3.0", "MUJOCO_GL": "egl", "torch": "2.6", "av": "14"}),
        (b, {"mujoco": "3.9.9", "MUJOCO_GL": "osmesa", "torch": "2.6", "av": "15"}),
        (old, None),
    ):
        info = json.loads((folder / "eval_info.json").read_text())
        write_info(folder, {**info, "versions": versions})
    text = compare([a, b, old])
    assert f"mujoco differs, so arms may differ by that alone. 2.3.0: {a}; 3.9.9: {b}." in text
    assert f"MUJOCO_GL differs, so arms may differ by that alone. egl: {a}; osmesa: {b}." in text
    assert text.count("so arms may differ by that alone") == 2
    assert "differs" not in compare([a, old])


def train(run: Path, **settings: Any) -> None:
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.json").write_text("{}")
    policy = {"system2": {"streams": [{"name": "motion", "is_still": settings.pop("is_still", False)}]}}
    (run / "training.json").write_text(json.dumps({"num_steps": 10, "policy": policy, **settings, "finished": True}))


def test_trainings_that_are_no_seeds_of_one_arm_are_named(tmp_path: Path):
    """Two kinds of policies, joined by a comma, counted as two training seeds without a word."""
    a, b, c, d = (evaluation(tmp_path / f"{name}/eval/x", [True, False]) for name in "abcd")
    for name, settings in (
        ("a", {"seed": 0}),
        ("b", {"seed": 1, "num_steps": 9}),
        ("c", {"seed": 0}),
        ("d", {"seed": 1}),
    ):
        train(tmp_path / name, **settings)
    text = compare([f"{a},{b}", f"{c},{d}"])
    told = f"{tmp_path}/a and {tmp_path}/b count as training seeds of one arm, but differ in more: num_steps: 10 in the"
    assert told in text
    assert f"{tmp_path}/c and {tmp_path}/d count" not in text
    told = f"{tmp_path}/a and {tmp_path}/c count as training seeds of one arm, but have the same seed (training.json)."
    assert told in compare([f"{a},{c}", f"{b},{d}"])


def test_trainings_are_paired_by_their_seeds(tmp_path: Path):
    """The first evaluation of each arm made a pair, whatever the seeds were."""
    won = {"a3": [True] * 4, "a5": [True] * 2 + [False] * 2, "b5": [True, False] * 2, "b3": [True] * 3 + [False]}
    found = {name: evaluation(tmp_path / name / "eval/x", successes) for name, successes in won.items()}
    for name in won:
        train(tmp_path / name, seed=int(name[1]))
    text = compare([f"{found['a3']},{found['a5']}", f"{found['b5']},{found['b3']}"])
    assert "| a3 - b5 | 3 | +25.0 |" in text
    assert "| a3 - b5 | 5 | +0.0 |" in text
    assert "paired in the order" not in text
    train(tmp_path / "b3", seed=4)
    text = compare([f"{found['a3']},{found['a5']}", f"{found['b5']},{found['b3']}"])
    assert "Trainings are paired in the order given and numbered from 0. Their seeds are a3: 3, 5; b5: 5, 4." in text
    assert "| a3 - b5 | 0 | +50.0 |" in text


def test_how_the_trainings_differ_is_said_in_one_line(tmp_path: Path):
    """Whether two policies differ in the seed alone, nobody could see in a comparison of them."""
    a, b, c = (evaluation(tmp_path / f"{name}/eval/x", [True, False]) for name in "abc")
    for name, settings in (("a", {}), ("b", {"is_still": True}), ("c", {"policy": {"system2": None}, "num_steps": 9})):
        train(tmp_path / name, **settings)
    text = compare([a, b, c])
    start = f"Trainings of {tmp_path}/a and {tmp_path}"
    still = "policy.system2.streams.motion.is_still: False in the first, True in the second"
    assert f"{start}/b differ in {still} (training.json)." in text
    fields = (
        "num_steps: 10 in the first, 9 in the second; policy.system2: {streams} in the first, nothing in the second"
    )
    assert f"{start}/c differ in {fields} (training.json)." in text
    train(tmp_path / "b")
    assert "Trainings of" not in compare([a, b])
    assert "Trainings of" not in compare([a, evaluation(tmp_path / "a/eval/y", [True, True])])
    (tmp_path / "b/training.json").unlink()  # a policy that was copied without it
    (tmp_path / "b/config.json").write_text('{"horizon": 8}')
    assert "differ in horizon: nothing in the first, 8 in the second (config.json)." in compare([a, b])
    assert f"How {tmp_path}/b was trained is not recorded (no training.json)." in compare([a, b])
    (tmp_path / "b/config.json").unlink()
    text = compare([a, b])
    assert "Trainings of" not in text
    assert f"{tmp_path}/b/eval/x, which was evaluated in {b}, is not found: its training is not compared." in text


def test_a_policy_that_was_trained_anew_is_not_taken_for_the_evaluated_one(tmp_path: Path):
    """Its name and its settings stood for those of a policy that was gone."""
    a, b = (evaluation(tmp_path / f"{name}/eval/x", [True, False]) for name in "ab")
    for name, rate in (("a", 1), ("b", 2)):
        train(tmp_path / name, rate=rate)
        info = json.loads((tmp_path / name / "eval/x/eval_info.json").read_text())
        info["policy_fingerprint"] = policy_fingerprint(tmp_path / name)
        write_info(tmp_path / name / "eval/x", info)
    assert "differ in rate: 1 in the first, 2 in the second" in compare([a, b])
    (tmp_path / "b/model.safetensors").write_bytes(b"other weights")
    text = compare([a, b])
    assert "differ in rate" not in text
    assert f"{tmp_path}/b holds another policy than the one evaluated in {b}" in text


def test_what_is_said_does_not_depend_on_where_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With a run that `eval` was given as a relative path, `compare` in another folder found neither the trainings nor
    that two evaluations are of one."""
    for name, rate in (("a", 1), ("b", 2)):
        train(tmp_path / "runs" / name, rate=rate)
        (tmp_path / "runs" / name / "model.safetensors").write_text(name)
        for number in (0, 1):
            info = evaluation_info({"fake:a": [True, False]}, run=f"runs/{name}")
            info |= {"policy_fingerprint": policy_fingerprint(tmp_path / "runs" / name)}
            info["run_from_here"] = f"../../runs/{name}"
            write_info(tmp_path / f"found/{name}{number}", info)
    for place in (tmp_path, tmp_path / "found"):
        monkeypatch.chdir(place)
        found = {name: tmp_path / "found" / name for name in ("a0", "a1", "b0", "b1")}
        assert "differ in rate: 1 in the first, 2 in the second" in compare([found["a0"], found["b0"]])
        assert "Of the same policy: a/a0 and a/a1." in compare([found["a0"], found["a1"], found["b0"]])
        with pytest.raises(ValueError, match=r"a0 and .*a1 are of one training, .*runs/a; they are not two"):
            compare([f"{found['a0']},{found['a1']}", f"{found['b0']},{found['b1']}"])
    (tmp_path / "runs").rename(tmp_path / "gone")
    assert "runs/b, which was evaluated in" in compare([found["a0"], found["b0"]])
    with pytest.raises(ValueError, match="are of one training, runs/a"):
        compare([f"{found['a0']},{found['a1']}", f"{found['b0']},{found['b1']}"])


def test_environments_in_another_order_are_said_to_be(tmp_path: Path):
    a, b = (
        write_info(tmp_path / name, evaluation_info({env: [True] for env in envs}))
        for name, envs in (("a", ("x:1", "x:2")), ("b", ("x:2", "x:1")))
    )
    with pytest.raises(ValueError, match="evaluate all in the same environments, in the same order"):
        compare([a, b])
    c = write_info(tmp_path / "c", evaluation_info({"x:1": [True], "x:2": [False]}))
    assert "The 2 tasks count together, each scene alike: x:1, x:2." in compare([a, c])


def test_of_many_differences_the_first_are_named(tmp_path: Path):
    a, b = (evaluation(tmp_path / f"{name}/eval/x", [True, False]) for name in "ab")
    train(tmp_path / "a", **{f"option{n}": 0 for n in range(6)})
    train(tmp_path / "b", **{f"option{n}": 1 for n in range(6)})
    text = compare([a, b])
    assert "option3: 0 in the first, 1 in the second; and 2 more fields (training.json)." in text
    assert "option4" not in text


def test_of_a_study_the_trainings_lie_beside_the_evaluations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, steps in (("a", 1), ("b", 2)):
        folder = evaluation(tmp_path / "study/evaluations" / name, [True, False])
        info = json.loads((folder / "eval_info.json").read_text())
        info["settings"]["run"] = f"policies/{name}"
        write_info(folder, info)
        train(tmp_path / "study/policies" / name, num_steps=steps)
    monkeypatch.chdir(tmp_path / "study/evaluations")
    assert "policies/b differ in num_steps: 1 in the first, 2 in the second" in compare(["a", "b"])


def test_arms_are_called_by_their_runs_not_by_the_time_of_their_evaluation(tmp_path: Path, monkeypatch: Any):
    """`2026-11-29_09-33-46 - 2026-11-29_09-56-31`: which policy is which, nobody could see."""
    monkeypatch.chdir(tmp_path)
    for place, run in (("e/09-33", "runs/push"), ("e/09-56", "runs/alone"), ("e/10-12", "runs/push")):
        write_info(tmp_path / place, evaluation_info({"fake:a": [True, False]}, run=run))
    assert "**push - alone: +0.0 points**" in compare(["e/09-33", "e/09-56"])
    text = compare(["e/09-33", "e/09-56", "e/10-12"])
    for names in ("push/09-33 - alone", "push/09-33 - push/10-12", "alone - push/10-12"):
        assert f"| {names} |" in text
    write_info(tmp_path / "served", evaluation_info({"fake:a": [True, False]}, run="ws://robot:8000"))
    write_info(tmp_path / "in_memory", evaluation_info({"fake:a": [True, False]}, run=None))
    assert "robot:8000 - " in (text := compare(["served", "in_memory"]))
    assert "in_memory:" in text


def test_a_folder_with_one_evaluation_stands_for_it(tmp_path: Path):
    """The documented `a0/eval,a1/eval` did not work with the folders that `eval` makes."""
    for name in ("a0", "a1", "b0", "b1"):
        evaluation(tmp_path / name / "eval/2026-11-29_09-33-46", [name[0] == "a", False])
        train(tmp_path / name)
    arms = [",".join(f"{tmp_path}/{name}{n}/eval" for n in range(2)) for name in "ab"]
    assert "**a0 - b0: +50.0 points** over 2 training seeds" in compare(arms)
    assert "**a0 - b0: +50.0 points** over 1 training seed" in compare([tmp_path / "a0", tmp_path / "b0"])
    with pytest.raises(ValueError, match="named twice"):
        compare([tmp_path / "a0/eval", tmp_path / "a0/eval/2026-11-29_09-33-46"])


def test_a_folder_of_any_name_with_one_evaluation_stands_for_it(tmp_path: Path):
    """Only a folder called `eval` did."""
    a, b = (evaluation(tmp_path / name / "first", [True, False]) for name in ("mine", "theirs"))
    assert "**mine - theirs: +0.0 points**" in compare([a.parent, b.parent])


def test_of_several_evaluations_the_newest_is_named(tmp_path: Path):
    """The error said that the run folder holds no eval_info.json."""
    for name, when, blind in (("old", "2026-01", False), ("new", "2026-02", False), ("blind", "2026-03", True)):
        write_info(tmp_path / "a/eval" / name, evaluation_info({"fake:a": [True]}, blind=blind) | {"time": when})
    for name in ("a", "b"):
        train(tmp_path / name)
    for place in ("a", "a/eval"):
        with pytest.raises(ValueError, match="one evaluation of each is compared, but ") as refused:
            compare([tmp_path / place, tmp_path / "b"])
        said = str(refused.value)
        will = f"what `video2act eval {tmp_path}/b --env ...` will write"
        assert (
            f"but {tmp_path}/{place} has 3, {tmp_path}/b has 0; name one of each: {tmp_path}/a/eval/new, {will}" in said
        )
    with pytest.raises(
        ValueError, match=r"but .*/b has 0; name one of each: what `video2act eval .*/b --env \.\.\.` will write"
    ):
        compare([tmp_path / "b", tmp_path / "a/eval/new"])


def test_evaluations_of_one_training_are_not_several_seeds(tmp_path: Path):
    """Two evaluations of each of two runs, joined by commas, counted as two training seeds."""
    for name in "ab":
        train(tmp_path / name)
        for time in ("new", "old"):
            evaluation(tmp_path / name / "eval" / time, [name == "a", False])
    arms = [",".join(f"{tmp_path}/{name}/eval/{time}" for time in ("new", "old")) for name in "ab"]
    with pytest.raises(ValueError, match=r"/new and .*/old are of one training, .*/a; they are not two training seeds"):
        compare(arms)


def test_what_cannot_be_compared_is_refused(tmp_path: Path):
    a = evaluation(tmp_path / "a", [True, False])
    other = evaluation(tmp_path / "b", [True, False], first=2000)
    with pytest.raises(ValueError, match="on 2 seeds from 2000, and 2 from 1000 are wanted here; evaluate all on"):
        compare([a, other])
    with pytest.raises(ValueError, match=r"was evaluated in fake:b, .*/a in fake:a"):
        compare([a, evaluation(tmp_path / "c", [True, False], env=["fake:b"])])
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; name the folder of an evaluation"):
        compare([a, tmp_path / "nowhere"])
    with pytest.raises(ValueError, match=r"compare needs two arms or more, got \S+/a$"):
        compare([a])
    with pytest.raises(
        ValueError, match=r"got \S+/a,\S+/b; a comma joins the training seeds of one arm, a space parts two"
    ):
        compare([f"{a},{other}"])
    with pytest.raises(ValueError, match="named twice"):
        compare([a, a])
    (other / "eval_info.json").write_text('{"per_task": [{}]}')
    with pytest.raises(ValueError, match=r"b/eval_info\.json is damaged .*per_task\[0\] has no task_group"):
        compare([a, other])


def test_the_headline_of_several_arms_is_corrected_as_the_table_is(tmp_path: Path):
    """Six seeds told the first two of three arms apart, uncorrected, above a table that could not."""
    shares = {"a": 16, "b": 8, "c": 4}
    arms = [
        ",".join(str(evaluation(tmp_path / f"{name}{n}/eval", [True] * won + [False] * (20 - won))) for n in range(6))
        for name, won in shares.items()
    ]
    text = compare(arms)
    assert "is better" not in text
    assert "Any of these may be the best (all pairs corrected for each other, over training seeds): a" in text
    told = (
        "None of the 3 pairs can be told apart over training seeds, all corrected for each other (Holm). No result of"
    )
    assert f"{told} so few seeds could: the smallest corrected p is 0.0938." in text
    more = [
        f"{arm},{evaluation(tmp_path / f'{name}6/eval', [True] * won + [False] * (20 - won))}"
        for arm, (name, won) in zip(arms, shares.items(), strict=True)
    ]
    text = compare(more)
    assert "**a0 - b0: +40.0 points** over 7 training seeds, sign-flip p after Holm's correction = 0.0469" in text
    assert text.count("is better.") == 3
    assert "None of the 3 pairs" not in text


def test_a_p_over_scenes_stands_in_the_table_of_scenes(tmp_path: Path):
    """Of three arms with one training each it stood, corrected, in the table over training seeds."""
    arms = [
        evaluation(tmp_path / f"{n}/eval", [True] * won + [False] * (20 - won)) for n, won in enumerate((20, 10, 4))
    ]
    text = compare(arms)
    seeds, _, scenes = text.partition("## Over scenes")
    assert "One training seed each says nothing about other trainings." in text
    assert "(Holm " in scenes
    assert all(line.count("-") for line in seeds.splitlines() if line.startswith("| 0 - 1"))
    row = next(line for line in seeds.splitlines() if line.startswith("| 0 - 1"))
    assert [cell.strip() for cell in row.split("|")][5:7] == ["-", "-"]


def test_an_empty_name_and_a_folder_for_the_numbers_are_refused(tmp_path: Path):
    a, b = (evaluation(tmp_path / name / "eval", [True, False]) for name in "ab")
    with pytest.raises(ValueError, match="an empty name in"):
        compare([f"{a},", b])
    with pytest.raises(ValueError, match="is a folder; name a file for the numbers"):
        compare([a, b], out=tmp_path)
