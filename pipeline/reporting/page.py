"""Parts of the page: escaped text, sections, figures, tables; and its style sheet.

The page has one column, and is light or dark as the reader's screen is.
"""

import html
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import TypeAlias
from urllib.parse import quote

from pipeline.harmless_text import harmless

CSS = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5d6570; --paper: #fbfbf9; --card: #ffffff; --line: #e1e3e6; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6e9; --soft: #9aa3ad; --paper: #14171a; --card: #1c2024; --line: #30353b; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 5rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 2.1rem; line-height: 1.15; margin: 0; letter-spacing: -0.02em; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 3rem 0 1rem; padding-bottom: .35rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; font-weight: 600; margin: 1.8rem 0 0; }
header p { margin: .4rem 0 1.4rem; color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .6rem; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .7rem .75rem; }
.tile b { display: block; font-size: 1.55rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { display: block; font-size: .85rem; line-height: 1.3; }
.tile small { color: var(--soft); font-size: .78rem; }
figure { margin: 1rem 0 1.6rem; }
figure svg { display: block; width: 100%; height: auto; }
figcaption, .note { color: var(--soft); font-size: .88rem; line-height: 1.45; margin: .5rem 0 0; max-width: 48rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 0 2rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 500; vertical-align: bottom; }
th, td { padding: .38rem .8rem .38rem 0; border-bottom: 1px solid var(--line); }
th:last-child, td:last-child { padding-right: 0; }
.text { text-align: left; overflow-wrap: anywhere; min-width: 5rem; }
.text:first-child { min-width: 8.5rem; position: sticky; left: 0; background: var(--paper); }
.figure { text-align: right; white-space: nowrap; }
.narrow { max-width: 44rem; }
.column { max-width: 30rem; }
@media (min-width: 40.01rem) { .on-phones { display: none; } }
@media (max-width: 40rem) {
  body { padding: 1.5rem 1rem 3rem; }
  .wide { overflow-x: auto; }
  .wide svg { width: 40rem; }
  .on-screens { display: none; }
}
a { color: inherit; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .9rem 1rem; overflow-x: auto;
  white-space: pre-wrap; overflow-wrap: anywhere;
  font: .85rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
details summary { cursor: pointer; }
"""


WIDEST_ON_PHONES = 400
"""Points; a wider figure would have letters too small to read on a phone."""


def escape(text: str) -> str:
    """Return text for the page, with markup, direction marks and control characters escaped."""
    return html.escape(harmless(text))


def whole_html(title: str, body: str) -> str:
    """Return a page with its style sheet; `title` is text, `body` HTML."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>{CSS}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """Return a section of the page; `parts` are HTML."""
    body = "\n".join(parts)
    return f"<section><h2>{escape(title)}</h2>\n{body}</section>"


def figure_with_caption(svg: str, caption: str, link: str = "") -> str:
    """Return a figure; `caption` is text, `link` HTML after it.

    On a phone a wide figure is scrolled, not made small.
    """
    kind = "small"
    if svg_width(svg) > WIDEST_ON_PHONES:
        kind = "wide"
    words = f"{escape(caption)} {link}".rstrip()
    return f"<figure><div class={kind}>{svg}</div><figcaption>{words}</figcaption></figure>"


def figure_in_two_layouts(svg: str, narrow_svg: str, caption: str, link: str = "") -> str:
    """Return a wide figure that on a phone is another drawing: narrow, with the legend below."""
    words = f"{escape(caption)} {link}".rstrip()
    return (
        f"<figure><div class=on-screens>{svg}</div><div class=on-phones>{narrow_svg}</div>"
        f"<figcaption>{words}</figcaption></figure>"
    )


def link_to_file(path: PurePath, text: str) -> str:
    """Return a link to a file, by its path from the page's folder."""
    return f'<a href="{html.escape(quote(path.as_posix()))}">{escape(text)}</a>'


def svg_width(svg: str) -> float:
    """Return the width of an SVG element that matplotlib has written, in points."""
    match = re.match(r'<svg [^>]*?width="([\d.]+)pt"', svg)
    assert match is not None, "matplotlib writes the width"
    return float(match[1])


def note_below(text: str) -> str:
    """Return a paragraph in the style of a caption; `text` is HTML."""
    return f"<p class=note>{text}</p>"


Cell: TypeAlias = str | int | float
"""A field of a table, shown as Python writes it."""


def html_table(head: Sequence[str], rows: Iterable[Sequence[Cell]], text_columns: int = 1) -> str:
    """Return a table whose first columns hold text; the others hold figures, aligned right."""
    body = "".join(f"<tr>{_cells('td', row, text_columns)}</tr>" for row in rows)
    return (
        f"<div class=scroll><table><thead><tr>{_cells('th', head, text_columns)}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _cells(tag: str, values: Sequence[Cell], text_columns: int) -> str:
    kinds = ["text"] * text_columns + ["figure"] * (len(values) - text_columns)
    return "".join(
        f'<{tag} class="{kind}">{escape(str(value))}</{tag}>'
        for kind, value in zip(kinds, values, strict=True)
    )
