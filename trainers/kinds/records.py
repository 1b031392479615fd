"""Read what is recorded of a model (settings.json) and of its trainings (history.json), with the types checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oof.errors import StoreError
from oof.files import read_json_if_any
from oof.typed import typed


@dataclass(frozen=True)
class _Record:
    """Types of the keys of settings.json (docs/formats.md)."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    folds: str = ""
    data: str = ""
    columns: str = ""
    pseudo_labels: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class _History:
    """Types of the keys of history.json that are read again (docs/formats.md); no kind of model has all of them."""

    epoch: int = 0
    epochs: int = 0
    optimistic: bool = False
    loss: tuple[float, ...] | None = None
    auc: tuple[float, ...] | None = None
    seconds: float | None = None
    images_per_s: float | None = None
    parameters: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    folds: str = ""
    data: Mapping[str, Any] | None = None
    pseudo_labels: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        losses, aucs = (None if values is None else len(values) for values in (self.loss, self.auc))
        without_held_out_rows = losses is not None and aucs == 0  # a refit
        if losses != aucs and not without_held_out_rows:
            raise ValueError(f"{losses} values of loss, {aucs} of auc")


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the content of a settings.json; None if there is none.

    Raises:
        StoreError: if the file is damaged, or a value in it has another type.
    """
    return _read(path, _Record)


def read_history(path: Path) -> dict[str, Any] | None:
    """Return the content of a history.json; None if there is none; raises as `read_record`."""
    return _read(path, _History)


def _read(path: Path, kind: type[_Record] | type[_History]) -> dict[str, Any] | None:
    found = read_json_if_any(path)
    if found is None:
        return None
    try:
        typed(kind, found)
    except TypeError as err:
        raise StoreError(
            f"{path} is damaged ({err}): it was edited by hand. Restore it, or move it away and run dfens status."
        ) from err
    return found
