"""One HTML page that needs nothing else: text, tables, figures and films in sections.

The page loads nothing from the network and holds no script; its own security policy forbids both. It is readable at a
width of 400 px, and follows the reader's dark mode. Figures are PNG, or SVG that uses the page's colours
(`charts.py`). Films are WebM with VP9, which every browser plays, also those without H.264.
"""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from video2act.files.atomic import write_text

POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light dark; --ink: #1d2127; --soft: #5b6370; --paper: #fbfbfa; --card: #ffffff; --line: #d9dce1;
  --c0: #1f6fb8; --c1: #c4571a; --c2: #2d8a57; --c3: #8a4fb0; --c4: #b03a5b; --c5: #6d6f2a; --bad: #c02f2f;
  --good: #2d8a57; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #a3abb7; --paper: #15181c; --card: #1d2127;
  --line: #394049; --c0: #6db3f2; --c1: #f0a06a; --c2: #6fcf97; --c3: #c79bea; --c4: #f08aa8; --c5: #c9cb7a;
  --bad: #ff8080; --good: #6fcf97; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 16px; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.4em 0 0.2em; }
h2 { font-size: 1.2rem; margin: 2em 0 0.2em; padding-top: 0.6em; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4em 0 0.2em; }
p { margin: 0.4em 0; max-width: 46em; }
nav { margin: 0.8em 0; } nav a { display: inline-block; margin-right: 1em; } a { color: var(--c0); }
.soft, figcaption, caption { color: var(--soft); font-size: 0.9rem; }
.warn { border-left: 4px solid var(--bad); padding-left: 10px; }
.scroll { overflow-x: auto; margin: 0.6em 0; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 4px; }
th, td { text-align: left; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: normal; }
th { font-weight: 600; }
.grid { display: grid; gap: 16px; margin: 0.8em 0; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 350px), 1fr)); }
figure { margin: 0; padding: 10px; background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  min-width: 0; }
figure.wide { grid-column: 1 / -1; }
.films { grid-template-columns: repeat(auto-fill, minmax(min(100%, 500px), 1fr)); }
figure img, figure video, figure svg { display: block; width: 100%; height: auto; }
figure.wide svg { max-width: 800px; }
figcaption { margin-top: 6px; }
svg text { fill: var(--ink); font: 12px system-ui, "DejaVu Sans", sans-serif; }
svg .soft { fill: var(--soft); font-size: 12px; } svg .axis { stroke: var(--line); fill: none; }
details summary { cursor: pointer; }
@media print { figure { break-inside: avoid; } }
"""


class Page:
    """Collects the parts of a page, in their order; `write` makes the file. All text is escaped.

    Args:
        title: the heading, and the name of the browser's tab.
        lead: one or two sentences below it.
    """

    def __init__(self, title: str, lead: str = ""):
        self._title = title
        self._lead = lead
        self._parts: list[str] = []
        self._figures: list[str] = []
        """those that stand side by side so far"""
        self._are_films = False
        self._sections: list[str] = []

    def section(self, title: str, text: str = "") -> None:
        """Begin a section; the top of the page links to it."""
        self._sections.append(title)
        self._add(f'<h2 id="s{len(self._sections)}">{escape(title)}</h2>')
        if text:
            self.text(text)

    def heading(self, title: str) -> None:
        """A heading within a section."""
        self._add(f"<h3>{escape(title)}</h3>")

    def text(self, text: str, *, is_warning: bool = False) -> None:
        """A paragraph; a warning is marked."""
        self._add(f'<p class="warn">{escape(text)}</p>' if is_warning else f"<p>{escape(text)}</p>")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, caption: str = "") -> None:
        """A table, which scrolls sideways where it is too wide. Raises ValueError: a row has another length."""
        for row in rows:
            if len(row) != len(columns):
                raise ValueError(
                    f"a row of the table has {len(row)} cells, but there are {len(columns)} columns: {row}"
                )
        head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
        body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
        named = f"<caption>{escape(caption)}</caption>" if caption else ""
        self._add(
            f'<div class="scroll"><table>{named}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )

    def figure(self, image: bytes | str, caption: str, *, is_wide: bool = False) -> None:
        """A picture: PNG, or SVG. Pictures and films that follow one another stand side by side where there is room.

        Args:
            caption: what it shows; also for readers who cannot see it.
            is_wide: give it the whole width.
        Raises:
            ValueError: it is neither, or the SVG is not well-formed, or holds a script or an address.
        """
        if isinstance(image, bytes) and image.startswith(b"\x89PNG"):
            shown = f'<img alt="{escape(caption)}" src="{_data("image/png", image)}">'
        elif isinstance(image, str) and image.startswith("<svg"):
            shown = image
        else:
            raise ValueError("a figure on a page is PNG, or SVG of `charts.py`; got other content")
        self._figure(shown, caption, is_wide=is_wide)

    def film(self, film: bytes, caption: str, *, is_wide: bool = False) -> None:
        """A film from `video_writer.webm`, or an mp4. Raises ValueError for anything else."""
        kind = "video/webm" if film.startswith(b"\x1a\x45\xdf\xa3") else "video/mp4" if film[4:8] == b"ftyp" else ""
        if not kind:
            raise ValueError("a film on a page is webm or mp4; got other bytes")
        source = _data(kind, film)
        shown = f'<video controls loop muted playsinline preload="auto" aria-label="{escape(caption)}" src="{source}">'
        self._figure(f"{shown}</video>", caption, is_wide=is_wide, is_film=True)

    def html(self) -> str:
        self._close_figures()
        links = "".join(f'<a href="#s{number}">{escape(name)}</a>' for number, name in enumerate(self._sections, 1))
        lead = f'<p class="soft">{escape(self._lead)}</p>' if self._lead else ""
        nav = f"<nav>{links}</nav>" if len(self._sections) > 1 else ""
        head = (
            f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><link rel="icon" href="data:,">'
            f"<title>{escape(self._title)}</title><style>{STYLE}</style>"
        )
        body = f"<header><h1>{escape(self._title)}</h1>{lead}{nav}</header><main>{''.join(self._parts)}</main>"
        return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'

    def write(self, path: Path) -> Path:
        """Write the page, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, self.html())
        return path

    def _figure(self, shown: str, caption: str, *, is_wide: bool, is_film: bool = False) -> None:
        if is_film != self._are_films:  # films stand with films: they need more room
            self._close_figures()
            self._are_films = is_film
        kind = ' class="wide"' if is_wide else ""
        self._figures.append(f"<figure{kind}>{shown}<figcaption>{escape(caption)}</figcaption></figure>")

    def _add(self, part: str) -> None:
        self._close_figures()
        self._parts.append(part)

    def _close_figures(self) -> None:
        if self._figures:
            kind = "grid films" if self._are_films else "grid"
            self._parts.append(f'<div class="{kind}">{"".join(self._figures)}</div>')
            self._figures = []


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
