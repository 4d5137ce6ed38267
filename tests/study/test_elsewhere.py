"""A study that several machines share by arms and seeds: what one made counts on another, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("robostats")
from small_study import STUDY, player, write_study
from video2act.config.study import StudyOptions
from video2act.programs.study import study
from video2act.study import worker


@pytest.fixture(autouse=True)
def _played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(worker, "COMMAND", player(tmp_path))


def run(place: Path, *, changes: dict[str, Any] | None = None, **options: Any) -> str:
    """On a machine of its own, with its own copy of the yaml file; returns the table."""
    place.mkdir(exist_ok=True)
    plan = write_study(place, **(changes or {}))
    table = study(StudyOptions(study=plan, out=place / "out", workers=1, **options))
    assert isinstance(table, Path)
    return table.read_text()


def results(place: Path) -> dict[str, Any]:
    return json.loads((place / "out/results.json").read_text())


def played(place: Path) -> list[str]:
    path = place / "out/played.txt"
    return [line.split(" --out ")[1].split()[0] for line in path.read_text().splitlines()] if path.is_file() else []


def changed_file(place: Path, **changes: Any) -> Path:
    """A copy of a machine's results with some content changed."""
    path = place / "changed.json"
    path.write_text(json.dumps({**results(place), **changes}))
    return path


def test_what_another_machine_made_is_not_run_again_and_counts(tmp_path: Path):
    here, there, alone = tmp_path / "here", tmp_path / "there", tmp_path / "alone"
    run(there, seeds=(0,))
    text = run(here, results=(there / "out/results.json",))
    assert [out for out in played(here) if "seed0" in out] == []
    assert [out for out in played(here) if out.startswith("evaluations/")] == [
        f"evaluations/{arm}_seed1" for arm in ("good", "bad", "alone")
    ]
    run(alone)
    same = ("primary", "secondary", "arms", "scenes", "commands")
    assert {name: results(here)[name] for name in same} == {name: results(alone)[name] for name in same}
    assert f"From {there}/out/results.json: good (seeds 0); bad (seeds 0); alone (seeds 0)." in text
    assert "Nothing: every arm and seed is done." in text
    assert "## Primary contrast, named before the run" in text, "the other machine named it before its run"
    assert text.count("CPU-hours: ") == 2, "of each machine"


def test_results_of_several_machines_are_joined_without_a_run(tmp_path: Path):
    """And what was joined can be joined again."""
    for seed in (0, 1):
        run(tmp_path / str(seed), seeds=(seed,))
    files = tuple(tmp_path / name / "out/results.json" for name in "01")
    text = run(tmp_path / "both", results=files, report_only=True)
    assert played(tmp_path / "both") == []
    assert "**good - the frozen clip: +60.0 points** over 2 training seeds" in text
    text = run(tmp_path / "again", results=(tmp_path / "both/out/results.json",), report_only=True)
    first, again = results(tmp_path / "both"), results(tmp_path / "again")
    assert first["scenes"] == again["scenes"]
    assert [each["seeds"]["good"] for each in again["elsewhere"] if each["seeds"]] == [[0], [1]]
    assert text.count("CPU-hours: ") == 2


def test_an_unfinished_arm_goes_on_on_another_machine(tmp_path: Path):
    run(tmp_path / "there", seeds=(0,), arms=("good",))
    run(tmp_path / "here", results=(tmp_path / "there/out/results.json",), arms=("good", "bad"))
    made = [out for out in played(tmp_path / "here") if out.startswith("policies/")]
    assert made == ["policies/bad_seed0", "policies/good_seed1", "policies/bad_seed1"]


def test_commands_name_neither_an_arm_nor_a_seed_nor_a_place_of_the_machine(tmp_path: Path):
    config = Path(__file__).parents[2] / "weights/push/config.json"
    (tmp_path / "here").mkdir()
    (tmp_path / "here/mine.json").write_text(config.read_text())
    arms = {**STUDY["arms"], "own": {"options": {"config": "mine.json"}}}
    models = {"trained": {**STUDY["video_models"]["trained"], "per_seed": True}}
    run(tmp_path / "here", changes={"arms": arms, "video_models": models}, seeds=(1,))
    found = results(tmp_path / "here")["commands"]
    assert str(tmp_path) not in json.dumps(found)
    assert found["own"] == [
        "collect --out data/demos --env moving:intercept --episodes 4 --noise 0.1 --workers 1",
        "train-video --out video_models/trained_seed{seed} --data data/demos --num-steps 5 --seed {seed}",
        "train --out policy --data data/demos --video-model video_models/trained_seed{seed} --config mine.json "
        "--num-steps 10 --seed {seed}",
        "eval policy --env moving:intercept --out evaluation --seed 3000 --episodes 10 --no-expert --workers 1 "
        "--num-videos 0",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"study": "other"}, "is of the study 'other', not of 'small'"),
        ({"slice": "smoke"}, "is of the slice smoke, and the whole study is asked for"),
        ({"commands": {}}, "does not tell by which commands arm good was made"),
        ({"scenes": {"good": {"0": "01"}}}, "arm good, seed 0 has 2 scenes, not 10"),
        ({"scenes": {"good": {"0": "0120000000"}}}, "is damaged .scenes: expected digits 0 and 1"),
        ({"scenes": [1]}, "is damaged .*name a results.json that"),
        ({"compute": {"machines": 3}}, "is damaged .*name a results.json that"),
        ({"named": [{"contrast": {"arm": 3}}]}, "is damaged .*name a results.json that"),
    ],
)
def test_another_file_is_refused_before_any_work(tmp_path: Path, changes: dict[str, Any], message: str):
    run(tmp_path / "there", seeds=(0,))
    path = changed_file(tmp_path / "there", **changes)
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "here", results=(path,))
    assert not (tmp_path / "here/out").exists()


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"none\.json is no file; name a results\.json that"):
        run(tmp_path / "here", results=(tmp_path / "none.json",))


def test_an_arm_that_was_made_otherwise_is_refused(tmp_path: Path):
    run(tmp_path / "there", changes={"training": {"num_steps": 11}}, seeds=(0,))
    with pytest.raises(ValueError, match=r"made by other commands: train .* 11 .* \(then\), train .* 10 .* \(now\)"):
        run(tmp_path / "here", results=(tmp_path / "there/out/results.json",))


def test_two_files_that_disagree_are_refused(tmp_path: Path):
    run(tmp_path / "there", seeds=(0,))
    scenes = results(tmp_path / "there")["scenes"]
    other = changed_file(tmp_path / "there", scenes={**scenes, "bad": {"0": "1" * 10}})
    files = (tmp_path / "there/out/results.json", other)
    with pytest.raises(ValueError, match="both hold arm bad, seed 0, with other successes"):
        run(tmp_path / "here", results=files)
    assert "every arm" not in run(tmp_path / "here", results=(files[0], files[0]), report_only=True)


def test_what_differs_from_elsewhere_is_told(tmp_path: Path):
    """Another dataset or video model under the same name, and a seed that was made on both machines."""
    for name in ("there", "here"):
        run(tmp_path / name, seeds=(0,))
    content = results(tmp_path / "there")
    other = {**content["scenes"], "bad": {"0": "1" * 10}}
    # jobs are only played here: their outputs have no fingerprint
    path = changed_file(tmp_path / "there", scenes=other, made_from={"data/demos": "a", "video_models/trained": ""})
    for record in (tmp_path / "here/out/jobs").iterdir():
        record.write_text(record.read_text().replace('"data/demos": ""', '"data/demos": "b"'))
    text = run(tmp_path / "here", results=(path,), report_only=True)
    assert "bad, seed 0: done here, too, with other successes than in" in text
    assert f"data/demos of {path} is another than here" in text
    assert "video_models/trained of" not in text
    assert results(tmp_path / "here")["scenes"]["bad"] == content["scenes"]["bad"], "what is done here counts"
