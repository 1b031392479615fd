"""Tables for people, made from data frames."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from rich.table import Table


def make_table(
    frame: pd.DataFrame, *, title: str = "", decimals: int = 5, percent: Sequence[str] = (), bold: int | None = None
) -> "Table":
    """A rich table of a data frame: numbers to the right, NaN and None as a dash.

    Args:
        frame: one row of the table for each row; column names become headings, `_` a space.
        title: above the table.
        decimals: of floats.
        percent: columns of shares to show in per cent.
        bold: position of a row to stress.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    heading = Text(title, no_wrap=True, overflow="ignore") if title else None  # may be wider than the table
    table = Table(title=heading, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name in frame.columns:
        right = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(str(name).replace("_", " "), justify="right" if right else "left", overflow="fold")
    for position, row in enumerate(frame.itertuples(index=False)):
        cells = [Text(_cell(value, decimals, name in percent)) for name, value in zip(frame.columns, row, strict=True)]
        table.add_row(*cells, style="bold" if position == bold else None)
    return table


def _cell(value: Any, decimals: int, percent: bool) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return "–"
    if percent:
        return f"{100 * value:.1f} %"
    if isinstance(value, float):
        return f"{value:.{decimals}f}"
    return str(value)
