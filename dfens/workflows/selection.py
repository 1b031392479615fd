"""The selection of models and folds for a command."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from oof.errors import ConfigError

T = TypeVar("T")
FoldRanges = tuple[tuple[int, int], ...]  # first and last fold of each range; empty for all folds


def chosen_models(models: Mapping[str, T], names: Sequence[str]) -> dict[str, T]:
    """Return the models named by `--model`, or all.

    Raises:
        ConfigError: if there are none, or a name is unknown.
    """
    if not models:
        raise ConfigError("dfens.toml has no models. Add a section [models.NAME] with a backbone.")
    unknown = [name for name in names if name not in models]
    if unknown:
        raise ConfigError(f"dfens.toml has no [models.{unknown[0]}]; it has {', '.join(models)}.")
    return {name: models[name] for name in names or models}


def fold_indices(ranges: FoldRanges, k: int) -> tuple[int, ...]:
    """Return the folds of some ranges, in order, each once.

    Raises:
        ConfigError: if a fold does not exist.

    >>> fold_indices(((0, 0), (2, 3)), 5)
    (0, 2, 3)
    """
    for first, last in ranges:
        if last >= k:
            given = f"{first}" if first == last else f"{first}-{last}"
            raise ConfigError(f"--fold {given}: there is no fold {max(first, k)}; the folds are 0 to {k - 1}.")
    found = {fold for first, last in ranges for fold in range(first, last + 1)}
    return tuple(sorted(found)) if ranges else tuple(range(k))


def fold_text(folds: Iterable[int]) -> str:
    """Return folds as `--fold` takes them.

    >>> fold_text([0, 1, 2, 4])
    '0-2,4'
    """
    ranges: list[list[int]] = []
    for fold in sorted(folds):
        if ranges and fold == ranges[-1][-1] + 1:
            ranges[-1].append(fold)
        else:
            ranges.append([fold])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in ranges)
