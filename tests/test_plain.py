"""Json and yaml that are damaged, hostile or ambiguous end in one clear error, wherever they are read."""

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from video2act.config import PolicyConfig, load
from video2act.config.files import read_plain
from video2act.config.plain import damage_named, parse_json, parse_yaml, read_json
from video2act.config.study import StudyConfig
from video2act.files.run_folder import as_it_was_trained
from video2act.limits import Limits
from video2act.statistics import load_statistics

SOURCE = Path(__file__).parents[1] / "src" / "video2act"
OWN_TEXT = ("config/plain.py", "files/lock.py")
"""files that may call the json module's readers on a file: the readers themselves, and the name of a lock's holder"""


def test_no_file_is_read_by_the_json_module_itself():
    """It lets a file end the program with a RecursionError, and keeps the last of two values without a word."""
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        if str(file.relative_to(SOURCE)) in OWN_TEXT:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.load", "json.loads"):
                made_here = isinstance(node.args[0], ast.Call) and ast.unparse(node.args[0].func).rpartition(".")[2]
                if made_here not in ("dumps", "to_json"):
                    found.append(f"{file.name}:{node.lineno}: {ast.unparse(node)}")
    assert found == []


@pytest.mark.parametrize("form", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_may_come_in_every_form_of_unicode(form: str, tmp_path: Path):
    (tmp_path / "a.json").write_bytes('{"größe": 1}'.encode(form))
    assert read_json(tmp_path / "a.json") == {"größe": 1}


@pytest.mark.parametrize("read", [parse_json, parse_yaml])
def test_a_name_that_stands_twice_is_no_silent_choice(read: Callable[[str], Any]):
    with pytest.raises(ValueError, match=r"'seeds' stands twice in one .*keep one"):
        read('{"a": {"seeds": [1], "seeds": [2]}}')


def test_both_lines_of_an_arm_that_is_written_twice_are_named(tmp_path: Path):
    (tmp_path / "study.yaml").write_text("name: a\narms:\n  both: {preset: tiny}\n  both: {preset: small}\n")
    with pytest.raises(ValueError, match=r"study\.yaml is not valid yaml: 'both' stands twice.* line 3 and in line 4"):
        load(StudyConfig, tmp_path / "study.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a\narms: {x: [\n", "is not valid yaml: line 3: expected the node content, but found '<stream end>'"),
        ("name: a\n\tb: 2\n", r"is not valid yaml: line 2: found character '\t' that cannot start any token"),
        ("# \x07\n", "is not valid yaml: unacceptable character #x0007: special characters are not allowed"),
        ("", "is empty"),
        ("# only a remark\n", "is empty"),
    ],
)
def test_what_is_wrong_with_a_yaml_file_is_told_in_one_line(text: str, said: str, tmp_path: Path):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"study\.yaml") as told:
        load(StudyConfig, tmp_path / "study.yaml")
    assert str(told.value) == f"{tmp_path / 'study.yaml'} {said}"


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("2E3", 2000.0), ("-.5", -0.5), ("12", 12), ("0", 0), ("true", True), ("null", None), ("~", None)],
)
def test_yaml_reads_numbers_as_they_are_written(text: str, value: object):
    found = parse_yaml(f"x: {text}")["x"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["yes", "no", "on", "1:30:00", "0o17", "0x1F", "017", "2001-01-01", "1_000", "<<"])
def test_what_versions_of_yaml_read_differently_is_a_text(text: str):
    assert parse_yaml(f"x: {text}") == {"x": text}


@pytest.mark.parametrize(
    "text",
    [
        "x: !!timestamp abc",
        "x: !!int ''",
        "x: !!float ''",
        "x: !!bool zz",
        "x: !!set {a, b}",
        'x: "\\UFFFFFFFF"',
        "? {a: 1}\n: b",
        "x: &a [*a]",
        "a: 1\n---\nb: 2",
        "- " * 30_000,
    ],
)
def test_every_way_in_which_yaml_is_wrong_is_a_value_error(text: str):
    with pytest.raises(ValueError, match=r"."):
        parse_yaml(text)


def test_yaml_that_would_take_minutes_is_refused_by_its_size(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("x: " + ":".join("1" * 300_000))
    with pytest.raises(ValueError, match=r"at most 131072 are read"):
        read_plain(tmp_path / "a.yaml")


def test_the_name_of_an_arm_is_a_text(tmp_path: Path):
    (tmp_path / "study.yaml").write_text("name: a\nenv: [b]\ndatasets: {}\ndata: []\narms: {1: {}}\nseeds: [0]\n")
    with pytest.raises(ValueError, match=r"study\.yaml"):
        load(StudyConfig, tmp_path / "study.yaml")
    (tmp_path / "study.yaml").write_text(
        "name: a\nenv: [b]\ndatasets: {}\ndata: []\narms: {1: {}}\nseeds: [0]\nprimary: {arm: a, than: b}\n"
    )
    with pytest.raises(ValueError, match=r"study\.yaml: arms: name 1: expected str, got 1"):
        load(StudyConfig, tmp_path / "study.yaml")


EDITED: dict[str, Callable[[dict[str, Any]], object]] = {
    "no dit": lambda config: config["system1"].pop("dit"),
    "a number for dit": lambda config: config["system1"].update(dit=3),
    "an old field of another type": lambda config: config["system1"]["dit"].update(num_image_positions="a"),
    "an old word that never was": lambda config: config.update(image_fit="foo"),
    "a list for an old word": lambda config: config.update(image_fit=[1]),
    "no streams": lambda config: config["system2"].pop("streams"),
    "numbers for streams": lambda config: config["system2"].update(streams=[1, 2]),
    "a text for streams": lambda config: config["system2"].update(streams=["resize"]),
    "an old word of a stream that never was": lambda config: config["system2"]["streams"][0].update(resize="zz"),
}


@pytest.mark.parametrize("edit", EDITED.values(), ids=EDITED)
def test_a_config_that_was_edited_by_hand_is_refused_by_its_name(
    edit: Callable[[dict[str, Any]], object], small_config: PolicyConfig, tmp_path: Path
):
    from video2act.config import to_json

    config = json.loads(to_json(small_config))
    edit(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json(: | is in the form of no version)"):
        load(PolicyConfig, tmp_path / "config.json", complete=as_it_was_trained)


@pytest.mark.parametrize(
    "change",
    [
        {"std": [-1.0, 1.0]},
        {"mean": [float("nan"), 0.0]},
        {"max": [float("inf"), 1.0]},
        {"min": [9.0, 9.0]},
        {"mean": ["a", "b"]},
        {"mean": [[1], [2]]},
        {"mean": [1.0]},
        {"mean": [10**400, 0]},
        {"names": [1, 2]},
        {"std": None},
    ],
    ids=lambda change: str(change)[:30],
)
def test_statistics_that_are_none_are_refused_by_their_name(change: dict[str, Any], tmp_path: Path):
    sound = {"mean": [0.0, 0.0], "std": [1.0, 1.0], "min": [-1.0, -1.0], "max": [1.0, 1.0]}
    (tmp_path / "stats.json").write_text(json.dumps({"state": sound | change}))
    with pytest.raises(ValueError, match=r"(?s)stats\.json does not hold statistics .*; copy the run folder again"):
        load_statistics(tmp_path / "stats.json")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"low": ["a"], "high": [1]}', '{"low": [1e400], "high": [0]}', "\xff"], ids=range(4)
)
def test_limits_that_are_none_are_refused_by_their_name(text: str, tmp_path: Path):
    (tmp_path / "limits.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"limits\.json does not hold limits"):
        Limits.load(tmp_path / "limits.json")


@pytest.mark.parametrize("error", [KeyError("a"), TypeError("b"), ValueError("c"), AttributeError("d")])
def test_a_damaged_record_is_named_with_the_remedy(error: Exception):
    with (
        pytest.raises(ValueError, match=r"record\.json is damaged \(.*[abcd].*\); remove it"),
        damage_named(Path("record.json"), "remove it"),
    ):
        raise error
