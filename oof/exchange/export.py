"""Export predictions from the store as one wide table."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from oof import files
from oof.errors import PredictionError, examples
from oof.exchange.column_roles import assign_roles
from oof.exchange.columns import Columns
from oof.exchange.prediction_files import model_names
from oof.predictions import ModelPredictions
from oof.store import Part, PredictionStore

_ENDINGS = (".csv", ".parquet", ".feather", ".npz")


def export_predictions(
    store: PredictionStore, path: Path, models: Sequence[str] = (), *, part: Part = "oof", force: bool = False
) -> list[str]:
    """Write the predictions of some or all models as one wide table and return their names.

    OOF: id, target, fold[, group], then one column per model, empty for rows without a
    prediction. Test: id, then one column per model. A column has the name of its model, or, if
    one of the names could be mistaken for something else (`label`, `cv`, `0`), all are named `oof:NAME` or
    `test:NAME`, so that `read_predictions` returns the same models. NPZ has the arrays `id`, `models` and
    `oof` (n_rows, n_models) with `target` and `fold`, or `test_id`, `models` and `test`.

    Args:
        path: `.csv`, `.parquet`, `.feather` or `.npz`.
        models: names; () for all models with this part.
        part: "oof" or "test".
        force: whether to replace an existing file.

    Raises:
        PredictionError: if there is no model to export, the ending is unknown, or the file exists.
    """
    if not path.name.lower().endswith(_ENDINGS):
        raise PredictionError(f"{path.name}: the name must end in {', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]}.")
    if not force and (path.exists() or path.is_symlink()):
        raise PredictionError(f"{path} exists already. Choose another name, or replace the file with --force.")
    chosen = _with_part(store, models, part)
    names = [model.name for model in chosen]
    values = [model.oof if part == "oof" else model.test for model in chosen]
    head = _head(store, part)
    _check_text(path, head)
    with files.atomic_path(path) as partial:
        if path.name.lower().endswith(".npz"):
            prefix = "" if part == "oof" else "test_"
            arrays = {f"{prefix}{name}": np.asarray(column.tolist()) for name, column in head.items()}
            with partial.open("wb") as file:
                np.savez_compressed(file, models=np.array(names), **{part: np.stack(values, axis=1)}, **arrays)  # type: ignore[arg-type]
        else:
            columns = _column_names(path, head, dict(zip(names, values, strict=True)), part)
            _write_table(pd.DataFrame(head | dict(zip(columns, values, strict=True))), partial, path.suffix.lower())
    return names


def _with_part(store: PredictionStore, models: Sequence[str], part: Part) -> list[ModelPredictions]:
    """Return the models that have OOF or test predictions; all named models must have them."""
    chosen = [store.load(name) for name in models] if models else store.each(store.load)
    lacking = [model.name for model in chosen if (model.test is None if part == "test" else np.isnan(model.oof).all())]
    if lacking and models:
        kind = "OOF" if part == "oof" else "test"
        raise PredictionError(f"{examples(lacking)} have no {kind} predictions. Leave them out, or run dfens train.")
    chosen = [model for model in chosen if model.name not in lacking]
    if not chosen:
        raise PredictionError(f"The store has no {part} predictions yet. Run dfens train, or dfens oof import.")
    return chosen


def _head(store: PredictionStore, part: Part) -> dict[str, NDArray[Any]]:
    """Return the columns that precede those of the models."""
    if part == "test":
        return {"id": store.test_ids}
    folds = store.folds
    head: dict[str, NDArray[Any]] = {"id": folds.ids, "target": folds.target, "fold": folds.fold}
    return head if folds.groups is None else head | {"group": folds.groups}


def _check_text(path: Path, head: Mapping[str, NDArray[Any]]) -> None:
    """Raise PredictionError for text with NUL characters, which only Parquet and Feather preserve."""
    if path.name.lower().endswith((".csv", ".npz")):
        for name, column in head.items():
            odd = [text for text in column.tolist() if isinstance(text, str) and "\0" in text]
            if odd:
                raise PredictionError(
                    f"The column '{name}' has NUL characters ({len(odd)} rows, such as {odd[0]!r}), which "
                    f"{path.suffix.lower()} files do not preserve. Export to .parquet."
                )


def _column_names(path: Path, head: Mapping[str, Any], values: Mapping[str, Any], part: Part) -> list[str]:
    """Return the names of the models, prefixed with the part if an import would not recognise them otherwise."""
    names = list(values)
    labelled = [f"{part}:{name}" for name in names]
    if head.keys() & values.keys():
        return labelled
    table = {name: pa.array(column) for name, column in (dict(head) | dict(values)).items()}
    try:
        roles = assign_roles(Columns(path, table, header_is_text=True), for_test=part == "test")
        found = (roles.id, roles.target, roles.folds, list(roles.predictions), model_names(path, roles.predictions))
    except PredictionError:
        return labelled
    expected = ("target", ("fold",)) if part == "oof" else (None, ())
    return names if found == ("id", *expected, names, names) else labelled


def _write_table(table: pd.DataFrame, path: Path, kind: str) -> None:
    if kind == ".csv":
        # a carriage return, which pandas does not quote by default, would be read as the end of the line
        texts = [table[name] for name in ("id", "group") if name in table]
        returns = any(column.str.contains("\r", regex=False).any() for column in texts)
        table.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL)
    elif kind == ".parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_feather(path)
