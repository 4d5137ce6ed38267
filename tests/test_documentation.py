"""The pages of the site: complete, linked, and their commands and scripts are right. `test_readme.py` has more."""

import ast
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import video2act as v2a
from video2act import cli
from video2act.config import PolicyConfig
from video2act.envs import metaworld
from video2act.policy import Video2Act
from video2act.presets import DataSpec, tiny_system1
from video2act.statistics import Statistics

ROOT = Path(__file__).parents[1]

PAGES = sorted((ROOT / "docs").glob("*.md"))
PROSE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")] + PAGES
SITE: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def blocks(path: Path, *languages: str) -> list[str]:
    pattern = rf"^```(?:{'|'.join(languages)})\n(.*?)^```"
    return re.findall(pattern, path.read_text(), re.MULTILINE | re.DOTALL)


def named_pages(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in named_pages(part)]


def anchors(path: Path) -> set[str]:
    """As GitHub and mkdocs make them: both forms, where they differ."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    words = [re.sub(r"[^\w\s-]", "", heading.lower()).strip() for heading in headings]
    return {form for each in words for form in (each.replace(" ", "-"), re.sub(r"[\s-]+", "-", each))}


class TestTheSite:
    def test_the_navigation_names_pages(self):
        listed = named_pages(SITE["nav"])
        elsewhere = {"contributing.md", "changelog.md", "security.md"}  # scripts/docs_site.py makes them
        assert set(listed) - elsewhere <= {page.name for page in PAGES}  # docs_site.py adds a page that is not listed
        assert len(listed) == len(set(listed))

    def test_nothing_is_loaded_from_elsewhere(self):
        assert SITE["theme"]["font"] is False
        assert all((ROOT / "docs" / file).is_file() for file in SITE["extra"]["polyfills"])
        assert "offline" in SITE["plugins"]

    @pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
    def test_every_link_to_a_heading_finds_it(self, path: Path):
        for target in re.findall(r"\]\(([^)\s]*#[^)\s]+)\)", path.read_text()):
            file, _, anchor = target.partition("#")
            if "://" not in target:
                found = anchors(path.parent / file if file else path)
                assert anchor in found, f"{path.name} links to {target}; its headings are {sorted(found)}"

    @pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
    def test_every_link_leads_somewhere(self, path: Path):
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
            assert "://" in target or (path.parent / target.split("#")[0]).exists(), f"{path.name}: {target}"

    def test_the_reference_has_every_public_name(self):
        page = (ROOT / "docs" / "api.md").read_text()
        shown = set(re.findall(r"^::: video2act\.([\w.]+)$", page, re.MULTILINE))
        for name in v2a.__all__:
            module, own = v2a._PLACES[name]
            assert f"{module}.{own}" in shown, name
        for path in shown:
            module, _, name = path.rpartition(".")
            try:
                assert getattr(importlib.import_module(f"video2act.{module}".rstrip(".")), name, None) is not None
            except AssertionError:
                importlib.import_module(f"video2act.{path}")

    @pytest.mark.slow
    def test_it_is_built_strictly(self, tmp_path: Path):
        pytest.importorskip("mkdocs")
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
        subprocess.run(command, cwd=ROOT, check=True)
        html = "\n".join(page.read_text() for page in tmp_path.rglob("*.html"))
        loaded = re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"?(https?://[^\"> ]+)", html)
        assert not [address for address in loaded if "canonical" not in address]
        assert "... is a pointer of Git LFS" in (tmp_path / "troubleshooting.html").read_text()


OPTIONS = {
    node.target.id
    for file in [*sorted((ROOT / "src" / "video2act" / "config").glob("*.py")), ROOT / "src" / "video2act" / "cli.py"]
    for node in ast.walk(ast.parse(file.read_text()))
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
} | {"help", "version", "policy", "PATH", "threads"}
"""fields of the options of all programs"""
FOREIGN_OPTIONS = {"machine_rank", "settings", "ema", "rgb_latents", "soak_s"}
"""of accelerate, the converter of the released code, the benchmarks"""
FOREIGN = {
    "source",
    "cd",
    "cp",
    "git",
    "ray",
    "bash",
    "docker",
    "lerobot-train",
    "lerobot-eval",
    "pytest",
    "pre-commit",
}
"""programs of others, whose options are theirs"""


class TestCommands:
    """`video2act ...` lines: test_readme.py parses them."""

    @staticmethod
    def lines(*languages: str) -> list[tuple[str, list[str]]]:
        found = []
        for path in PROSE:
            for block in blocks(path, *languages):
                for line in block.replace("\\\n", " ").splitlines():
                    for part in line.split("&&"):
                        if words := shlex.split(part, comments=True):
                            found.append((path.name, words))
        return found

    def test_every_program_is_known(self):
        ours = {"video2act", "make", "python", "pip", "accelerate", "torchrun", "video2act-convert-released"}
        unknown = {(page, words[0]) for page, words in self.lines("sh", "bash") if words[0] not in ours | FOREIGN}
        assert not unknown, f"say in this test how these are checked: {unknown}"

    @pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
    def test_every_option_in_a_sentence_is_one_of_ours(self, path: Path):
        """`--clip-jitter`, `--policy.system2.filter-on`: the last word is a field that a program has as a flag."""
        if path.name == "interop.md":
            return  # LeRobot's options
        for span in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)):
            is_foreign = span.split()[0] in FOREIGN | {"accelerate", "pip", "python", "tensorboard"}
            for option in () if is_foreign else re.findall(r"--([a-z][\w.-]*)", span):
                name = option.rstrip(".").rpartition(".")[2].replace("-", "_").removeprefix("no_")
                assert name in OPTIONS | FOREIGN_OPTIONS, f"{path.name}: `{span}`: no program has --{option}"

    def test_every_make_target_exists(self):
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        named = {word for _, words in self.lines("sh", "bash") if words[0] == "make" for word in words[1:]}
        prose = {name for path in PROSE for name in re.findall(r"`make ([\w-]+)`", path.read_text())}
        assert {"demo", "test"} <= named | prose
        assert {word for word in named | prose if "=" not in word} <= targets

    def test_every_extra_and_folder_that_is_installed_exists(self):
        extras = set(PROJECT["optional-dependencies"])
        runtime = tomllib.loads((ROOT / "video2act_runtime" / "pyproject.toml").read_text())["project"]
        for path in PROSE:
            for folder, names in re.findall(r"pip install (?:-e )?'?(\S*?)\[([\w,]+)\]'", path.read_text()):
                known = set(runtime["optional-dependencies"]) if "runtime" in folder else extras
                assert set(names.split(",")) <= known, f"{path.name}: {names}"

    def test_every_script_exists_and_takes_its_options(self):
        scripts = [(page, words) for page, words in self.lines("sh", "bash") if words[0] == "python"]
        assert scripts
        for page, words in scripts:
            source = (ROOT / words[1]).read_text()
            for flag in re.findall(r"--([\w-]+)", " ".join(words[2:])):
                assert flag.replace("-", "_") in source or flag in source, f"{page}: {words[1]} has no --{flag}"

    def test_launched_commands_are_parsed_too(self, monkeypatch: pytest.MonkeyPatch):
        launched = [words for _, words in self.lines("sh", "bash") if "video2act.cli" in words]
        assert launched
        seen = []
        verb = cli.VERBS["train"]
        monkeypatch.setitem(cli.VERBS, "train", cli.Verb(verb.options, seen.append, verb.positional))
        for words in launched:
            cli.run(words[words.index("video2act.cli") + 1 :])
        assert len(seen) == len(launched)


SCRIPTS = [(path.name, number, text) for path in PROSE for number, text in enumerate(blocks(path, "python", "py"))]
RUN: dict[str, Callable[[str], bool]] = {
    "quickstart.md": lambda out: "success" in out,
    "robot.md": lambda out: "Rates(" in out,
}


class TestScripts:
    """Every block of Python in the pages is compiled, its imports are there, and the light ones are run."""

    @pytest.mark.parametrize(("page", "number", "text"), SCRIPTS, ids=lambda value: str(value)[:20])
    def test_it_compiles_and_imports_what_exists(self, page: str, number: int, text: str):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("video2act"):
                module = importlib.import_module(node.module or "")
                for alias in node.names:
                    assert getattr(module, alias.name, None) is not None, f"{node.module} has no {alias.name}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "v2a":
                assert node.attr in v2a.__all__

    @pytest.fixture
    def run_folder(self, short_episodes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """`runs/push`: a policy for MetaWorld with random weights; short episodes."""
        unit = Statistics(mean=(0.0,) * 4, std=(1.0,) * 4, min=(-1.0,) * 4, max=(1.0,) * 4)
        config: PolicyConfig = tiny_system1(DataSpec(4, 4, 80.0, tuple(metaworld.DEFAULT_CAMERAS)))
        Video2Act(config, {"state": unit, "action": unit}).save(tmp_path / "runs" / "push")
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize("page", RUN)
    @pytest.mark.usefixtures("run_folder")
    def test_it_runs(self, page: str, capsys: pytest.CaptureFixture[str]):
        script = next(text for name, _, text in SCRIPTS if name == page)
        for number, smaller in (("range(200)", "range(8)"), ("episodes=50", "episodes=1")):
            script = script.replace(number, smaller)
        for option in ('system2="thread", ', "max_staleness_s=oldest_s, "):  # this policy has no System 2
            script = script.replace(option, "")
        exec(compile(script, page, "exec"), {})
        assert RUN[page](capsys.readouterr().out)
