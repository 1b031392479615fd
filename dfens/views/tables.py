"""Tables from rows of named values."""

import math
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from dfens.terminal import printable

Row = Mapping[str, Any]


class FittedTable:
    """A table that leaves out optional columns, the last one first, if the terminal is too narrow.

    A line below the table lists the columns that are not shown.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        *,
        title: str,
        decimals: int,
        percent: Sequence[str],
        bold: int | None,
        optional: Sequence[str],
    ) -> None:
        self.rows, self.title, self.decimals = rows, title, decimals
        self.percent, self.bold, self.optional = percent, bold, optional
        self.columns = list(dict.fromkeys(name for row in rows for name in row))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        columns = self.columns
        left_out: list[str] = []
        table = self._table(columns)
        candidates = [name for name in self.optional if name in columns]
        while candidates and _natural_width(console, options, table) > options.max_width:
            left_out.insert(0, candidates.pop())
            columns = [name for name in columns if name not in left_out]
            table = self._table(columns)
        yield table
        if left_out:
            names = ", ".join(_heading(name) for name in left_out)
            yield Text(f"Not shown in {options.max_width} columns: {names}. Widen the terminal, or use --json.\n")

    def _table(self, columns: Sequence[str]) -> Table:
        heading = Text(printable(self.title), no_wrap=True, overflow="ignore") if self.title else None
        table = Table(
            title=heading,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            collapse_padding=True,
            pad_edge=False,
        )
        for name in columns:
            is_number = all(_is_number(row.get(name)) for row in self.rows)
            table.add_column(
                _heading(name), justify="right" if is_number else "left", overflow="fold", no_wrap=is_number
            )
        for position, row in enumerate(self.rows):
            cells = [Text(printable(_cell(row.get(name), self.decimals, name in self.percent))) for name in columns]
            table.add_row(*cells, style="bold" if position == self.bold else None)
        return table


def make_table(
    rows: Sequence[Row],
    *,
    title: str = "",
    decimals: int = 5,
    percent: Sequence[str] = (),
    bold: int | None = None,
    optional: Sequence[str] = (),
) -> FittedTable:
    """Return a table with one row per mapping: numbers are right-aligned, NaN and None shown as a dash.

    Args:
        rows: values by column name; names become headings, with `_` replaced by spaces.
        title: title above the table.
        decimals: number of decimals of floats.
        percent: columns of shares, shown as percentages.
        bold: index of the row to emphasise.
        optional: columns that may be left out on a narrow terminal, the most important first.
    """
    return FittedTable(rows, title=title, decimals=decimals, percent=percent, bold=bold, optional=optional)


def _natural_width(console: Console, options: ConsoleOptions, table: Table) -> int:
    """Return the width of the table without wrapping."""
    return console.measure(table, options=options.update(max_width=10_000)).maximum


def _heading(name: str) -> str:
    return printable(name.replace("_", " "))


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, Real) and not isinstance(value, bool))


def _cell(value: Any, decimals: int, percent: bool) -> str:
    if value is None or (isinstance(value, Real) and math.isnan(value)):
        return "–"
    if percent:
        return f"{100 * value:.1f} %"
    if isinstance(value, Real) and not isinstance(value, Integral):
        return f"{value:.{decimals}f}"
    return str(value)
