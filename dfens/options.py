"""Options that more than one command has, and what their values mean."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from dfens.workflows.selection import FoldRanges
from oof.cpus import cpu_count

F = TypeVar("F", bound=Callable[..., Any])


def threads_option(what: str) -> Callable[[F], F]:
    """Make the option --threads; by default one thread per core that this process may use."""
    return click.option(
        "--threads",
        type=click.IntRange(min=1),
        default=cpu_count,
        help=f"Number of {what}; default one per core.",
    )


def names_option(option: str, what: str) -> Callable[[F], F]:
    """Make an option that takes names separated by commas."""
    return click.option(option, metavar="A,B,…", callback=lambda ctx, param, value: split_names(value), help=what)


def split_names(text: str | None) -> tuple[str, ...]:
    """Return names separated by commas.

    >>> split_names("a, b,")
    ('a', 'b')
    """
    return tuple(filter(None, map(str.strip, (text or "").split(","))))


class _Folds(click.ParamType):
    """Folds as `0-4`, `0,2`, `1-2,4` or `all`; the value is a tuple of ranges, empty for all."""

    name = "folds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> FoldRanges:
        if isinstance(value, tuple):
            return value
        if value.strip() == "all":
            return ()
        found = []
        for part in value.split(","):
            match = re.fullmatch(r"\s*([0-9]{1,6})(?:\s*-\s*([0-9]{1,6}))?\s*", part)
            if not match or int(match[2] or match[1]) < int(match[1]):
                self.fail(f"{value!r} is not a list of folds. Write 0-4, 0,2 or all.", param, ctx)
            found.append((int(match[1]), int(match[2] or match[1])))
        return tuple(found)


folds_option = click.option(
    "--fold", "folds", type=_Folds(), metavar="FOLDS", default="all", show_default=True,
    help="Folds to train: 0-4, 0,2 or all.",
)  # fmt: skip
