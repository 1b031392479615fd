"""The predictions of the store as one wide table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oof import files
from oof.errors import PredictionError, examples
from oof.store import PredictionStore


def export_predictions(
    store: PredictionStore, path: Path, models: Sequence[str] = (), *, part: str = "oof"
) -> list[str]:
    """Write the predictions of some or all models as one wide table and return their names.

    OOF: id, target, fold[, group], then one column for each model, empty where it has no
    prediction. Test: id, then one column for each model. NPZ has the arrays `id`, `models` and
    `oof` (n_rows, n_models) with `target` and `fold`, or `test_id` and `test`.

    Args:
        path: `.csv`, `.parquet`, `.feather` or `.npz`.
        models: names; () for all that have this part.
        part: "oof" or "test".

    Raises:
        PredictionError: no model to write, or an unknown kind of file.
    """
    if not path.name.lower().endswith((".csv", ".parquet", ".feather", ".npz")):
        raise PredictionError(f"{path.name}: write to a name that ends in .csv, .parquet, .feather or .npz.")
    chosen = [store.load(name) for name in models or [summary.name for summary in store.list()]]
    lacking = [model.name for model in chosen if model.test is None] if part == "test" else []
    if lacking and models:
        raise PredictionError(f"{examples(lacking)} have no test predictions. Leave them out, or run dfens train.")
    chosen = [model for model in chosen if model.name not in lacking]
    if not chosen:
        raise PredictionError(f"The store holds no {part} predictions yet. Run dfens train, or dfens oof import.")
    names = [model.name for model in chosen]
    values = [model.oof if part == "oof" else model.test for model in chosen]
    if part == "oof":
        head: dict[str, Any] = {"id": store.folds.ids, "target": store.folds.target, "fold": store.folds.fold}
        if store.folds.groups is not None:
            head["group"] = store.folds.groups
    else:
        head = {"id": store.test_ids}
    taken = [name for name in names if name in head]
    if taken:
        raise PredictionError(
            f"A model named {examples(taken)} would stand in for the column of that name. Leave it out."
        )
    with files.atomic_path(path) as partial:
        if path.name.lower().endswith(".npz"):
            arrays = {name: np.asarray(column.tolist()) for name, column in head.items()}
            prefix = "" if part == "oof" else "test_"
            stacked = {f"{prefix}{name}": column for name, column in arrays.items()}
            with partial.open("wb") as file:
                np.savez_compressed(file, models=np.array(names), **{part: np.stack(values, axis=1)}, **stacked)  # type: ignore[arg-type]
        else:
            _write_table(pd.DataFrame(head | dict(zip(names, values, strict=True))), partial, path.suffix.lower())
    return names


def _write_table(table: pd.DataFrame, path: Path, kind: str) -> None:
    if kind == ".csv":
        table.to_csv(path, index=False)
    elif kind == ".parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_feather(path)
