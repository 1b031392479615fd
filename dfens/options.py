"""Options that more than one command reads."""

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

import click

from oof.errors import ConfigError

T = TypeVar("T")


def chosen_models(models: Mapping[str, T], names: Sequence[str]) -> dict[str, T]:
    """The models that `--model` names, or all.

    Raises:
        ConfigError: if there are none, or none of such a name.
    """
    if not models:
        raise ConfigError("dfens.toml names no model. Add a section [models.NAME] with a backbone.")
    unknown = [name for name in names if name not in models]
    if unknown:
        raise ConfigError(f"dfens.toml has no [models.{unknown[0]}]; it has {', '.join(models)}.")
    return {name: models[name] for name in names or models}


def fold_indices(text: str, k: int) -> tuple[int, ...]:
    """Which folds `--fold` means: `0-4`, `0,2`, `1-2,4` or `all`.

    Raises:
        UsageError: what is no such list. ConfigError: a fold that does not exist.

    >>> fold_indices("0,2-3", 5)
    (0, 2, 3)
    """
    if text.strip() == "all":
        return tuple(range(k))
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if not match or (match[2] is not None and int(match[2]) < int(match[1])):
            raise click.UsageError(f"--fold {text!r} is no list of folds. Write 0-{k - 1}, 0,2 or all.")
        found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    beyond = sorted(fold for fold in found if fold >= k)
    if beyond:
        raise ConfigError(f"--fold {text!r}: there is no fold {beyond[0]}; these folds are 0 to {k - 1}.")
    return tuple(sorted(found))
