"""Options that more than one command has, and what their values mean."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from oof.cpus import cpu_count
from oof.errors import ConfigError

T = TypeVar("T")
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


def chosen_models(models: Mapping[str, T], names: Sequence[str]) -> dict[str, T]:
    """Return the models that `--model` names, or all.

    Raises:
        ConfigError: if there are none, or a name is unknown.
    """
    if not models:
        raise ConfigError("dfens.toml has no models. Add a section [models.NAME] with a backbone.")
    unknown = [name for name in names if name not in models]
    if unknown:
        raise ConfigError(f"dfens.toml has no [models.{unknown[0]}]; it has {', '.join(models)}.")
    return {name: models[name] for name in names or models}


def fold_indices(text: str, k: int) -> tuple[int, ...]:
    """Return the folds that `--fold` means: `0-4`, `0,2`, `1-2,4` or `all`.

    Raises:
        UsageError: if the text is not a list of folds. ConfigError: if a fold does not exist.

    >>> fold_indices("0,2-3", 5)
    (0, 2, 3)
    """
    if text.strip() == "all":
        return tuple(range(k))
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]+)(?:\s*-\s*([0-9]+))?\s*", part)
        if not match or (match[2] is not None and int(match[2]) < int(match[1])):
            raise click.UsageError(f"--fold {text!r} is not a list of folds. Write 0-{k - 1}, 0,2 or all.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last >= k:
            raise ConfigError(f"--fold {text!r}: there is no fold {max(first, k)}; the folds are 0 to {k - 1}.")
        found.update(range(first, last + 1))
    return tuple(sorted(found))
