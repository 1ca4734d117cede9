"""A web page of tables that sort by a click on a column's head: one file, which loads nothing."""

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --muted: #666; --line: #ddd; --ground: #fff; --best: #d9f0e3;
  --near: #eef5ea; --hover: #f5f5f5; --family: #f7f4ec; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --muted: #a0a0a0; --line: #3a3a3a; --ground: #161616;
  --best: #1d4a34; --near: #23322a; --hover: #222; --family: #2a261b; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--ground); margin: 2rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .2rem; }
p, dl { max-width: 70rem; } .muted, small { color: var(--muted); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { vertical-align: bottom; } td { white-space: nowrap; } .number { text-align: right; }
small { display: block; font-size: .8em; font-weight: normal; } td.words { white-space: normal; min-width: 16rem; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th { max-width: 10rem; }
th button:focus-visible { outline: 2px solid; outline-offset: 2px; }
th[aria-sort=ascending] button::after { content: " \\25B2"; }
th[aria-sort=descending] button::after { content: " \\25BC"; }
tbody tr:hover { background: var(--hover); } tr.family { background: var(--family); font-style: italic; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--ground); font-weight: 600; }
tr.family td:first-child { background: var(--family); }
td.best { background: var(--best); } td.near { background: var(--near); }
dt { font-weight: 600; margin-top: .6rem; } dd { margin: 0; }
"""
# Cells without a value stay last, whichever way the others are sorted.
SCRIPT = """
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const head = button.parentElement, at = head.cellIndex, body = head.closest("table").tBodies[0];
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = row => row.cells[at].dataset.value, number = head.classList.contains("number");
  const compare = (a, b) => number ? a - b : a.localeCompare(b, undefined, { numeric: true });
  body.append(...[...body.rows].sort((one, other) => {
    const a = key(one), b = key(other);
    return a === "" || b === "" ? (a === "") - (b === "") : up ? compare(a, b) : compare(b, a);
  }));
});
"""


class Head(NamedTuple):
    """The head of a column."""

    text: str
    note: str = ""  # in small print below it
    number: bool = True  # else sorted as text


class Entry(NamedTuple):
    """A cell."""

    text: str = ""
    value: float | str | None = None  # to sort by; None: the text
    note: str = ""  # in small print below it
    kind: str = ""  # best, near, or words, which may wrap


class WebTable(NamedTuple):
    """A table under a heading."""

    heading: str
    note: str
    heads: Sequence[Head]
    rows: Sequence[Sequence[Entry]]
    families: Sequence[bool]  # whether a row is set off from the others


def web_page(title: str, note: str, tables: Sequence[WebTable], legends: Mapping[str, Mapping[str, str]]) -> str:
    """The page as HTML.

    Args:
        title: of the page.
        note: below the title.
        tables: one below the other.
        legends: below the tables, by their headings: terms and what they mean.
    """
    body = "\n".join(line for table in tables for line in _table(table))
    below = "\n".join(f"<h2>{escape(heading)}</h2>\n{_terms(legend)}" for heading, legend in legends.items())
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width">\n<style>{STYLE}</style>\n</head>\n<body>\n'
        f'<h1>{escape(title)}</h1>\n<p class="muted">{escape(note)}</p>\n{body}\n{below}\n'
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _table(table: WebTable) -> Iterator[str]:
    yield f'<h2>{escape(table.heading)}</h2>\n<p class="muted">{escape(table.note)}</p>'
    yield '<div class="scroll"><table>\n<thead><tr>'
    for head in table.heads:
        number = ' class="number"' if head.number else ""
        breakable = re.sub(r"([._])", r"\1<wbr>", escape(head.text))
        yield f"<th{number}><button>{breakable}</button>{_small(head.note)}</th>"
    yield "</tr></thead>\n<tbody>"
    for row, family in zip(table.rows, table.families, strict=True):
        yield '<tr class="family">' if family else "<tr>"
        for head, entry in zip(table.heads, row, strict=True):
            kinds = " ".join(filter(None, ["number" if head.number else "", entry.kind]))
            value = entry.text if entry.value is None else str(entry.value)
            mark = f' class="{escape(kinds)}"' if kinds else ""
            yield f'<td{mark} data-value="{escape(value)}">{escape(entry.text)}{_small(entry.note)}</td>'
        yield "</tr>"
    yield "</tbody></table></div>"


def _terms(legend: Mapping[str, str]) -> str:
    lines = (f"<dt>{escape(term)}</dt><dd>{escape(words)}</dd>" for term, words in legend.items())
    return "\n".join(["<dl>", *lines, "</dl>"])


def _small(note: str) -> str:
    return f"<small>{escape(note)}</small>" if note else ""
