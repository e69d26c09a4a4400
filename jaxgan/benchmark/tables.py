"""The tables that the benchmarks print, in Markdown."""

from collections.abc import Iterable


def row(cells: Iterable[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def number(value: float | None) -> str:
    """Three digits or, of a large number, all before the point; a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"
