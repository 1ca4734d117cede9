"""The tables of all runs: one file for programs, one page for people."""

from math import floor, log10
from typing import Any

import pandas as pd

from ....measures.comparison import Cell, Column, Row, Table, tables
from ....measures.runs import Run
from ....plots import Entry, Head, WebTable, web_page

LEGEND = {
    "± and (sd …)": (
        "± is the standard error of the mean over test images; it does not include differences between seeds of "
        "training. A row '… (3 seeds)' is the mean over runs that differ in train.seed only, with their standard "
        "deviation (sd)."
    ),
    "best, [low, high] and ≈": (
        "Below a value is its difference to the best run of the column, with a 95 % interval. If the interval excludes "
        "zero, the two runs differ; if not, ≈ marks the difference. Paired: it was taken image by image, where both "
        "runs have kept the bounds of the same images; otherwise the interval comes from the two standard errors. With "
        "many runs some intervals exclude zero by chance, also because the best is the best by some luck."
    ),
    "loss": "What training minimised; not ranked between different objectives.",
    "epochs, weights, CPU s": (
        "Epochs before the evaluation; number of trained weights; CPU seconds of all processes that trained, with what "
        "else they did, such as evaluation and report."
    ),
}


def make_comparison(runs: list[Run]) -> tuple[pd.DataFrame, str]:
    """A table of all runs, and a page with a table for each data set."""
    found = tables(runs)
    frame = pd.DataFrame([_flat(table, row) for table in found for row in table.rows])
    measures = {column.label: _described(column) for table in found for column in table.columns}
    note = f"{len(runs)} runs. Click on a column's head to sort by it."
    legends = {"How to read it": LEGEND, "Measures": measures}
    return frame, web_page("Runs side by side", note, [_web_table(table) for table in found], legends)


def _flat(table: Table, row: Row) -> dict[str, Any]:
    values: dict[str, Any] = {"run": row.name, "seeds": row.seeds or 1, "data": table.data}
    values |= {key: row.settings.get(key) for key in table.settings}
    values |= {"epochs": row.epochs, "weights": row.parameters, "cpu_seconds": row.cpu_seconds}
    for column in table.columns:
        label, cell = column.label, row.cells.get(column.label)
        apart = cell.difference if cell else None
        values |= {
            label: cell.value if cell else None,
            f"{label}: {'sd' if row.seeds else 'se'}": cell.spread if cell else None,
            f"{label}: to best": apart.value if apart else None,
            f"{label}: low": apart.low if apart else None,
            f"{label}: high": apart.high if apart else None,
            f"{label}: verdict": _verdict(cell) if cell else None,
        }
    return values | {"remarks": "; ".join(row.remarks)}


def _verdict(cell: Cell) -> str | None:
    if cell.best:
        return "best"
    if cell.difference is None:
        return None
    differs = "differs" if cell.difference.differs else "does not differ"
    return f"{differs}, paired" if cell.difference.paired else differs


def _web_table(table: Table) -> WebTable:
    remarks = any(row.remarks for row in table.rows)
    heads = [Head("run", number=False), *(Head(key, number=False) for key in table.settings)]
    heads += [Head("epochs"), Head("weights"), Head("CPU\N{NO-BREAK SPACE}s")]
    heads += [Head(column.name, _below(column)) for column in table.columns]
    heads += [Head("remarks", number=False)] if remarks else []
    places = {column.label: _places(column) for column in table.columns}
    rows = [
        [
            Entry(row.name),
            *(Entry(row.settings.get(key, "")) for key in table.settings),
            *(_whole(value) for value in (row.epochs, row.parameters, row.cpu_seconds)),
            *(_entry(row.cells.get(label), digits, family=row.seeds > 0) for label, digits in places.items()),
            *([Entry("; ".join(row.remarks), kind="words")] if remarks else []),
        ]
        for row in table.rows
    ]
    sha256 = f"sha256 of images: training {table.sha256[0][:12]}…, test {table.sha256[2][:12]}…"
    return WebTable(table.data, sha256, heads, rows, [row.seeds > 0 for row in table.rows])


def _entry(cell: Cell | None, places: int, *, family: bool) -> Entry:
    if cell is None:
        return Entry()
    text = f"{cell.value:,.{places}f}"
    if cell.spread is not None:
        text += f" (sd {cell.spread:.{places}f})" if family else f" ± {cell.spread:.{places}f}"
    if cell.best:
        return Entry(text, cell.value, "best", "best")
    if (apart := cell.difference) is None:
        return Entry(text, cell.value)
    note = f"{apart.value:+.{places}f} [{apart.low:.{places}f}, {apart.high:.{places}f}]"
    note += " paired" if apart.paired else ""
    return Entry(text, cell.value, note if apart.differs else f"≈ {note}", "" if apart.differs else "near")


def _places(column: Column) -> int:
    """Decimals of a column: two digits of the smallest standard error, else four of the largest value."""
    errors = [each.standard_error for each in column.measures.values() if each.standard_error]
    largest = max(abs(each.value) for each in column.measures.values())
    if not errors and float(largest).is_integer():
        return 0
    size, digits = (min(errors), 2) if errors else (largest or 1.0, 4)
    return min(6, max(0, digits - 1 - floor(log10(size))))


def _whole(value: float | None) -> Entry:
    return Entry() if value is None else Entry(f"{value:,.0f}", value)


def _below(column: Column) -> str:
    better = f"{column.first.better} is better" if column.ranked else ""
    return ", ".join(filter(None, [column.apart, column.unit, better]))


def _described(column: Column) -> str:
    first = column.first
    kept = {key: value for key, value in first.settings.items() if not key.startswith(("objective.", "epoch", "prec"))}
    settings = "; ".join(f"{key} {str(value)[:12]}" for key, value in kept.items())
    return ". ".join(filter(None, [first.data, column.unit, settings]))
