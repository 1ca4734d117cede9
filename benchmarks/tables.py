"""Results as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float], digits: int = 2) -> list[str]:
    """Median, and smallest to largest."""
    return [f"{median(values):.{digits}f}", f"{min(values):.{digits}f} - {max(values):.{digits}f}"]


def facts(machine: Mapping[str, Any]) -> str:
    """A paragraph on the machine."""
    where = machine["card"] or f"{machine['threads']} threads ({machine['instructions']})"
    variables = (
        ", ".join(f"`{key}={value}`" for key, value in machine["variables"].items()) or "no variables of kernels set"
    )
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items() if number)
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, {where}; "
        f"{variables}; {machine['platform']}, Python {machine['python']}, {packages}; commit `{machine['commit']}`."
    )
