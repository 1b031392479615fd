"""Options shared by several commands, and the parsing of their values."""

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from dfens.workflows.selection import FoldRanges
from oof.cpus import cpu_count

F = TypeVar("F", bound=Callable[..., Any])


class NumberRange(click.FloatRange):
    """A range of numbers; nan, which no comparison finds outside of a range, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{number} is not in the range {self._describe_range()}.", param, ctx)
        return number


def threads_option(what: str) -> Callable[[F], F]:
    """Return the option --threads; the default is one thread per available core."""
    return click.option(
        "--threads",
        type=click.IntRange(min=1),
        default=cpu_count,
        help=f"Number of {what}; default one per core.",
    )


def names_option(option: str, what: str) -> Callable[[F], F]:
    """Return an option for names separated by commas."""
    return click.option(option, metavar="A,B,…", callback=lambda ctx, param, value: _given_names(value), help=what)


def _given_names(text: str | None) -> tuple[str, ...]:
    names = split_names(text)
    if text is not None and not names:  # such as an unset variable of the shell; it must not mean "all"
        raise click.BadParameter("is empty. Give names separated by commas, or leave the option out.")
    return names


def split_names(text: str | None) -> tuple[str, ...]:
    """Return names separated by commas.

    >>> split_names("a, b,")
    ('a', 'b')
    """
    return tuple(filter(None, map(str.strip, (text or "").split(","))))


def parse_folds(text: str) -> FoldRanges:
    """Parse the value of `--fold` into ranges: `0-4`, `0,2`, `1-2,4` or `all`, which is ().

    Raises:
        BadParameter: if the text is not a list of folds.

    >>> parse_folds("0,2-3")
    ((0, 0), (2, 3))
    """
    if text.strip() == "all":
        return ()
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,6})(?:\s*-\s*([0-9]{1,6}))?\s*", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise click.BadParameter(f"{text!r} is not a list of folds. Write 0-4, 0,2 or all.")
        found.append((int(match[1]), int(match[2] or match[1])))
    return tuple(found)


folds_option = click.option(
    "--fold",
    "folds",
    metavar="FOLDS",
    default="all",
    show_default=True,
    callback=lambda ctx, param, value: parse_folds(value),
    help="Folds to train: 0-4, 0,2 or all.",
)
