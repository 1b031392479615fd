"""A leak audit as a table: each property of the files with its AUC, its interval as a bar, and a verdict."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from dfens.terminal import printable

if TYPE_CHECKING:
    from trainers.data.leak_scores import PropertyScore
    from trainers.data.leaks import LeakAudit

_STYLES = {"separates": "bold red", "hints": "yellow", "clean": "dim"}
_VERDICTS = {"separates": "separates the classes", "hints": "hints at the class", "clean": "–"}
_BAR = 24  # characters from AUC 0.5 to 1
_VALUE = 24  # characters of a typical value


class LeakTable:
    """The table of all properties, or only of those that separate the classes."""

    def __init__(self, audit: "LeakAudit", *, with_clean: bool) -> None:
        self.audit = audit
        self.scores = audit.scores if with_clean else audit.leaks
        self.with_clean = with_clean

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        if self.scores:
            shapes = [(True, True), (False, True), (False, False)]  # with the bar, with typical values
            tables = (self._table(with_bar=bar, with_values=values) for bar, values in shapes)
            wide = options.update(max_width=10_000)
            fitting = (table for table in tables if console.measure(table, options=wide).maximum <= options.max_width)
            yield next(fitting, self._table(with_bar=False, with_values=False))
        yield Text(self._summary() + "\n", style="" if self.audit.leaks else "green")

    def _table(self, *, with_bar: bool, with_values: bool) -> Table:
        audit = self.audit
        table = Table(
            title=Text(
                f"Leaks: how well a property of the files alone separates {audit.real} real from {audit.fake} fake"
            ),
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
        )
        table.add_column("property", no_wrap=True)
        if with_values:
            table.add_column("real", no_wrap=True)
            table.add_column("fake", no_wrap=True)
        table.add_column("AUC", justify="right", no_wrap=True)
        table.add_column("interval", no_wrap=True)
        if with_bar:
            table.add_column("0.5" + "1.0".rjust(_BAR - 3), no_wrap=True)
        table.add_column("verdict", no_wrap=True)
        for score in self.scores:
            cells = [score.name]
            cells += [_shortened(score.real), _shortened(score.fake)] if with_values else []
            cells += [f"{score.auc:.3f}", f"{score.low:.3f} to {score.high:.3f}"]
            cells += [_bar(score)] if with_bar else []
            cells += [_VERDICTS[score.verdict]]
            table.add_row(*(Text(printable(cell)) for cell in cells), style=_STYLES[score.verdict])
        return table

    def _summary(self) -> str:
        audit = self.audit
        read = audit.real + audit.fake
        of = "" if read + audit.unreadable == audit.all_rows else f" of {audit.all_rows}"
        parts = [
            f"{len(audit.leaks)} of {len(audit.scores)} properties of {read}{of} {audit.media} separate the classes"
        ]
        parts += [f"{len(audit.constant)} are the same for all files, or known for too few"] if audit.constant else []
        level = f"All intervals hold simultaneously with a probability of {audit.confidence_level:.0%}."
        if any(score.low <= 0.5 for score in audit.leaks):
            level += (
                " An interval of few files may include 0.5 although their ranks separate the classes beyond chance."
            )
        more = "" if self.with_clean else " dfens check --leaks audits all files and shows every property."
        return f"{'; '.join(parts)}. {level}{more}"


def _shortened(value: str) -> str:
    """Return a typical value with its share, shortened if it is long."""
    name, separator, share = value.rpartition(" (")
    room = _VALUE - len(separator + share)
    return value if len(value) <= _VALUE else f"{name[: room - 1]}…{separator}{share}"


def _bar(score: "PropertyScore") -> str:
    """Return the interval as a line from AUC 0.5 to 1, with the AUC as a point."""
    low, at, high = (round((max(0.5, value) - 0.5) * 2 * (_BAR - 1)) for value in (score.low, score.auc, score.high))
    return "".join("●" if place == at else "━" if low <= place <= high else "·" for place in range(_BAR))
