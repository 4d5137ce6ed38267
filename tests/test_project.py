"""What others see of the project: versions, continuous integration, forms."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_versions_agree():
    folders = (".", "video2act_runtime", "video2act_released", "lerobot_policy_video2act")
    texts = [(ROOT / folder / "pyproject.toml").read_text() for folder in folders]
    versions = {tomllib.loads(text)["project"]["version"] for text in texts}
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert versions == {citation["version"]} == {PROJECT["version"]}
    released = PROJECT["version"].partition(".dev")[0]  # of a version that is not released the next one
    assert f"## {released}" in (ROOT / "CHANGELOG.md").read_text()


def test_continuous_integration_calls_the_make_targets():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = set()
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        for job in yaml.safe_load(file.read_text())["jobs"].values():
            called |= {words[1] for step in job["steps"] if (words := str(step.get("run", "")).split())}
    assert {"lint", "test", "docs", "wheel", "test-slow"} == called
    assert called <= targets


def test_every_tested_python_is_declared():
    tests = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["tests"]
    declared = {name.rpartition(" ")[2] for name in PROJECT["classifiers"] if "Python ::" in name}
    assert set(tests["strategy"]["matrix"]["python"]) == declared


@pytest.mark.parametrize(
    "path", [*sorted((ROOT / ".github").rglob("*.yml")), ROOT / ".pre-commit-config.yaml"], ids=lambda path: path.name
)
def test_forms_and_workflows_are_yaml(path: Path):
    assert yaml.safe_load(path.read_text())


def test_what_the_tools_of_the_site_need_is_pinned():
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    for name in ("docs", "dev", "sim", "serve", "engine"):
        for requirement in PROJECT["optional-dependencies"][name]:
            distribution = re.split(r"[\[<>=]", requirement)[0].lower()
            assert {distribution, distribution.replace("-", "_")} & pinned, distribution
