"""Read what is recorded of a model (settings.json) and of its trainings (history.json), and compare it with them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from oof.errors import StoreError
from oof.files import read_json_if_any
from oof.ids import text_fingerprint
from oof.typed import typed
from trainers.kinds.base import WEIGHTS_FILE, ModelSettings, changed_settings
from trainers.kinds.registry import kind_of


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
    fold: str = ""
    folds: str = ""
    weights: str = ""
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


def weights_fingerprint(folder: Path) -> str:
    """Return a fingerprint of the weights in a fold's folder, from the checksums of their tensors in the header.

    Loading verifies the tensors by these checksums. "" if there are no weights, none can be read, or an earlier version
    wrote them without checksums.
    """
    try:
        with safe_open(folder / WEIGHTS_FILE, "numpy") as file:
            checksums = (file.metadata() or {}).get("crc32")
    except (OSError, SafetensorError):
        return ""
    return "" if checksums is None else text_fingerprint([checksums])


def check_own_weights(folder: Path) -> None:
    """Check that the weights in a fold's folder are those of its history.json, and that both are of this fold.

    Weights of another fold have seen the rows that this one holds out. Earlier versions have not recorded either.

    Raises:
        StoreError: if files were exchanged.
    """
    record, found = read_history(folder / "history.json") or {}, weights_fingerprint(folder)
    fold, weights = record.get("fold", folder.name), record.get("weights", "")
    if fold != folder.name or (weights and found and weights != found):
        raise StoreError(
            f"{folder / (WEIGHTS_FILE if fold == folder.name else 'history.json')} belongs to another training: it was "
            f"exchanged by hand. Restore the files of this one, or remove {folder} and the predictions of the fold in "
            f"work/oof/models: dfens train then trains the fold again."
        )


def setting_changes(before: Mapping[str, Any], settings: ModelSettings, *, prediction: bool = False) -> dict[str, str]:
    """Return changed settings of training, or of prediction."""
    kind = kind_of(settings)
    return {
        key: f"{key} {then!r} to {now!r}"
        for key, (then, now) in changed_settings(before, settings).items()
        if kind.only_predicts(key, then, now) == prediction
    }
