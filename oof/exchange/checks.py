"""Check imported predictions for errors and for what deserves a warning."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oof.errors import PredictionError, examples
from oof.exchange.prediction_files import PredictionFile
from oof.folds import Folds
from oof.ids import Ids, join_positions, spelling_note
from oof.metrics.rounding import auc_rounding


def rows_in_folds(table: PredictionFile, folds: Folds, sealed: Ids, test_ids: Ids) -> NDArray[np.intp]:
    """Return the position of each of the table's rows among the training rows, shape (n,).

    Args:
        table: of OOF predictions. folds: of the training rows. sealed: ids of the rows that are sealed, (n_sealed,).
        test_ids: known ids of the rows to predict, (n_test,).

    Raises:
        PredictionError: if ids are not training rows, or targets disagree, with examples.
    """
    rows: NDArray[np.intp] = pd.Index(folds.ids).get_indexer(pd.Index(table.ids))
    unknown = table.ids[rows < 0]
    kept_apart = unknown[pd.Index(unknown).isin(sealed)]
    if len(kept_apart):
        raise PredictionError(
            f"{table.path}: {len(kept_apart)} of {len(table.ids)} rows are sealed: {examples(list(kept_apart))}. "
            f"Out-of-fold predictions of these rows come from models that were trained on other sealed rows, so a "
            f"score on them would be biased. Leave these rows out of the file; predictions by models that were "
            f"trained without any sealed row are imported with --sealed FILE."
        )
    of_test = unknown[pd.Index(unknown).isin(test_ids)]
    if len(of_test):
        raise PredictionError(
            f"{table.path}: {len(of_test)} of {len(table.ids)} rows are rows to predict (test ids): "
            f"{examples(list(of_test))}. Expected training rows only. Save training rows and test rows in two files, "
            f"then run dfens oof import NAME --oof FILE --test FILE."
        )
    if len(unknown):
        raise PredictionError(
            f"{table.path}: {len(unknown)} of {len(table.ids)} ids in column '{table.roles.id}' are not training rows: "
            f"{examples(list(unknown))}. Training ids look like {examples(list(folds.ids), 3)}. "
            f"{spelling_note(unknown, folds.ids)}Check that the file belongs to this competition, name the id column "
            f"with --id-column, or (if there are no folds yet) the file with all rows with --folds-from."
        )
    if table.target is None:
        return rows
    wrong = np.flatnonzero((table.target != folds.target[rows]) & ~np.isnan(table.target))
    if len(wrong):
        shown = [f"'{table.ids[i]}' ({table.target[i]:g}, not {folds.target[rows[i]]})" for i in wrong[:5]]
        raise PredictionError(
            f"{table.path}: the target disagrees with that of the folds for {len(wrong)} of {len(table.ids)} ids: "
            f"{', '.join(shown)}. One of the files has other labels or shuffled rows; or column '{table.roles.target}' "
            f"is not the target (name it with --target-column, or give --target-column none)."
        )
    return rows


def check_values(
    name: str, table: PredictionFile, target: NDArray[np.int8], fold: NDArray[np.int16]
) -> tuple[list[str], list[str]]:
    """Return notes and warnings on one model's predictions; target and fold (n,) are those of the table's rows.

    Raises:
        PredictionError: if values are infinite, also as float32, or there is none at all.
    """
    notes: list[str] = []
    warnings: list[str] = []
    values = table.predictions[name]
    present = ~np.isnan(values)
    if not present.any():
        raise PredictionError(
            f"{table.path}: model '{name}' has no predictions: all {len(values)} values are empty or NaN."
        )
    if np.isinf(values).any():
        row = int(np.flatnonzero(np.isinf(values))[0])
        raise PredictionError(
            f"{table.path}: model '{name}' predicts {values[row]} for id '{table.ids[row]}'. Clip infinite logits to "
            f"finite numbers and import again."
        )
    with np.errstate(over="ignore"):
        narrow = values[present].astype(np.float32)
    if np.isinf(narrow).any():
        raise PredictionError(f"{table.path}: model '{name}' has values beyond float32. Scale them and import again.")
    if not present.all():
        notes.append(
            f"{name}: {int((~present).sum())} of {len(values)} predictions are empty or NaN and are treated as missing."
        )
    values, fold = values[present], fold[present]
    distinct = len(np.unique(values))
    if distinct == 1:
        warnings.append(f"{name}: all predictions are {values[0]:g}, so they contain no information.")
        return notes, warnings
    if distinct == 2:
        warnings.append(f"{name}: only two different values; probabilities would rank better than hard labels.")
    # arrays are often created as zeros, of which only the trained folds are filled
    unfilled = [index for index in np.unique(fold).tolist() if np.ptp(values[fold == index]) == 0]
    if unfilled and distinct > 2:
        warnings.append(
            f"{name}: all predictions of fold {examples(list(map(str, unfilled)))} are equal. If these folds have not "
            f"been predicted, leave their rows out of the file, or their values empty."
        )
    y = target[present]
    if not 0 < y.sum() < len(y):
        return notes, warnings
    auc, stored = rounding = auc_rounding(y, values)
    if auc < 0.45:
        warnings.append(f"{name}: AUC {auc:.4f}; predictions are inverted, or rows and ids do not match.")
    if auc > 0.9999:
        warnings.append(f"{name}: AUC {auc:.6f} is implausibly high; were these rows in its training set?")
    if rounding.is_noteworthy:
        warnings.append(
            f"{name}: predictions are stored as float32, which makes close ones equal (AUC {auc:.6f} becomes "
            f"{stored:.6f}). Import logits instead of probabilities near 1."
        )
    return notes, warnings


def hard_test_labels(name: str, oof: NDArray[np.float64], test: NDArray[np.float64] | None) -> list[str]:
    """Return a warning if test predictions are hard labels, and OOF predictions are not."""
    if test is None or len(np.unique(test)) > 2 or len(np.unique(oof)) <= 2 or len(test) <= 2:
        return []
    return [f"{name}: test predictions have only two different values or one. Save probabilities, as for the OOF rows."]


def match_tests(
    models: Mapping[str, PredictionFile],
    tests: Sequence[PredictionFile],
    test_ids: Ids,
    part: str = "test",
) -> dict[str, NDArray[np.float64]]:
    """Return test predictions (or those of another part, such as "sealed") by model, in the order of the test ids.

    They are matched to models by name; a single file of test predictions is matched to a single model.

    Raises:
        PredictionError: if two files hold test predictions of one model, a model is unknown, a value is
            missing or infinite, or the ids are not the test ids.
    """
    found: dict[str, PredictionFile] = {}
    for table in tests:
        for name in table.predictions:
            if name in found:
                raise PredictionError(
                    f"{found[name].path} and {table.path} both contain {part} predictions of '{name}'. Give one file "
                    f"per model: average the files of fold models first, or name them after different models."
                )
            found[name] = table
    if len(found) == 1 and len(models) == 1:
        own, model = next(iter(found)), next(iter(models))
        pairs = {model: (found[own], own)}
    else:
        strange = sorted(found.keys() - models.keys())
        if len(models) == 1 and len(tests) == 1 and len(found) > 1 and len(strange) == len(found):
            names, model = tests[0].roles.predictions, next(iter(models))
            raise PredictionError(
                f"{tests[0].path} has {len(names)} columns of {part} predictions for one model, '{model}': "
                f"{examples(names)}. Choose one with --test-column, or average them first if they are from fold models."
            )
        if strange:
            raise PredictionError(
                f"{part.capitalize()} predictions of {examples(strange)} belong to no model of this import (its "
                f"models: {examples(sorted(models), 10)}). Name files or columns like the models, or import one by one "
                f"with dfens oof import NAME --oof FILE --{part} FILE."
            )
        pairs = {name: (table, name) for name, table in found.items()}
    out = {}
    for model, (table, own) in pairs.items():
        values, oof = table.predictions[own], models[model]
        if np.array_equal(values, oof.predictions[model]) and np.array_equal(table.ids, oof.ids):
            raise PredictionError(
                f"{table.path}: the {part} predictions of '{model}' are the OOF predictions of {oof.path}: ids and "
                f"values are the same. Give the file of {part} predictions with --{part}."
            )
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise PredictionError(
                f"{table.path}: the {part} prediction of '{model}' for id '{table.ids[row]}' is {values[row]}; "
                f"every {part} row needs a finite value."
            )
        out[model] = values[join_positions(test_ids, table.ids, str(table.path))]
    return out
