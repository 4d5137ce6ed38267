"""What mkdocs cannot do by itself: pages from files beside `docs/`, and the error messages of troubleshooting.md."""

import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from error_messages import expand  # noqa: E402

PAGES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md", "security.md": "SECURITY.md"}
"""page -> the file beside `docs/` that it shows; in links, too"""


def on_config(config: Any) -> Any:
    """Pages that nobody has put into the navigation are at its end."""
    text = (ROOT / "mkdocs.yml").read_text()
    others = [page.name for page in sorted((ROOT / "docs").glob("*.md")) if f": {page.name}\n" not in text]
    if others:
        config.nav.append({"More": others})
    return config


def on_files(files: Files, config: Any) -> Files:
    for page, source in PAGES.items():
        text = (ROOT / source).read_text().replace("](docs/", "](")
        for other, name in PAGES.items():
            text = text.replace(f"]({name}", f"]({other}")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    return expand(markdown) if page.file.src_uri == "troubleshooting.md" else markdown
