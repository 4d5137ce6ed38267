"""The page of errors is built from the source, so it cannot miss a message. Its remedies are checked here."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import error_messages  # noqa: E402  # type: ignore[import-not-found]

TROUBLES = (ROOT / "docs" / "troubleshooting.md").read_text()


def quoted_symptoms() -> Iterator[str]:
    """What stands in backticks, and nothing else, in the first column of the tables of symptoms."""
    text = re.sub(r"### Incidents.*?(?=\n## )", "", TROUBLES, flags=re.DOTALL)
    text = text[: text.index("## Exceptions by name")]
    for cell in re.findall(r"^\| ((?:`[^`]+`(?:, )?)+) \|", text, re.MULTILINE):
        yield from re.findall(r"`([^`]+)`", cell)


def test_every_module_with_errors_belongs_to_a_group_with_remedies():
    messages = error_messages.messages()
    groups = error_messages.groups(TROUBLES, list(messages))
    missing = set(messages) - {module for modules in groups.values() for module in modules}
    assert not missing, f"docs/troubleshooting.md has no group for {sorted(missing)}"
    assert all(groups.values()), f"a group names no module with errors: {groups}"
    for mark in groups:
        section = TROUBLES[: TROUBLES.index(mark)].rpartition("\n## ")[2]
        assert section.count("\n|") >= 3, f"no remedies before {mark}"


def test_every_message_is_on_the_page():
    page = error_messages.expand(TROUBLES)
    messages = [text for texts in error_messages.messages().values() for text in texts]
    assert len(messages) > 600
    assert not [text for text in messages if text not in page]


def test_every_raise_has_a_text():
    """An error that the page cannot show: a new way to build texts, which `error_messages.py` must learn."""
    silent = []
    for file in error_messages.files(error_messages.SOURCE):
        tree = error_messages.parse(file)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Raise) or not isinstance(call := node.exc, ast.Call):
                continue
            is_ours = ast.unparse(call.func) in ("ValueError", "FileNotFoundError")
            if is_ours and not [text for part in call.args for text in error_messages.literals(part, tree)]:
                silent.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert len(silent) <= 8, silent  # they pass on a problem that a function of another file has worded


def test_every_exception_of_ours_is_explained():
    table = TROUBLES[TROUBLES.index("## Exceptions by name") :]
    missing = [name for name in error_messages.exceptions() if f"`{name}`" not in table]
    assert not missing


def test_every_kind_of_incident_is_explained():
    doc = (ROOT / "src" / "video2act" / "incidents.py").read_text()
    kinds = re.findall(r"`([a-z_0-9]+)`", doc[doc.index("kind: str") : doc.index("text: str")])
    table = TROUBLES[TROUBLES.index("### Incidents") :]
    assert len(kinds) > 8
    assert not [kind for kind in kinds if f"| `{kind}` |" not in table]


def test_what_it_quotes_is_said():
    """The symptoms in backticks are parts of one message each."""
    messages = [text for texts in error_messages.messages().values() for text in texts]
    messages.append((ROOT / "Makefile").read_text())
    for quoted in quoted_symptoms():
        parts = [part.strip(" '") for part in quoted.removeprefix("video2act: ").split("...") if part.strip(" '")]
        said = [text for text in messages if all(part in text for part in parts)]
        assert said, f"no message says {quoted!r}"


def test_messages_are_read_from_every_form(tmp_path: Path):
    (tmp_path / "file.py").write_text(
        "def f(x):\n"
        "    check(x, f'first one has {x} here')\n"
        "    problem = 'second one is long enough' if x else f'third is a text of {x:.2f}'\n"
        "    raise ValueError(problem)\n"
        "    raise AnError('fourth text that is' f' in two {x}')\n"
        "    raise KeyboardInterrupt('not this one at all')\n"
    )
    assert error_messages.messages(tmp_path)["file.py"] == [
        "first one has ... here",
        "second one is long enough",
        "third is a text of ...",
        "fourth text that is in two ...",
    ]
