"""The record of a model's settings (settings.json), so that no name is used for two different settings."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from oof.errors import TrainingError
from oof.files import archive, file_lock, write_json
from oof.ids import text_fingerprint
from oof.predictions import train_command
from oof.progress import Progress
from oof.store import PredictionStore
from trainers.kinds.base import ModelContext, ModelSettings, settings_record
from trainers.kinds.images import originals
from trainers.kinds.pseudo_labels import pseudo_record
from trainers.kinds.records import read_record, setting_changes
from trainers.kinds.repeats import RepeatSettings, repeats_of
from trainers.runtime.locks import nobody_works_in
from trainers.runtime.provenance import files_fingerprint

FORMAT_VERSION = 1
RECORD = "settings.json"


def check_settings_unchanged(
    context: ModelContext[Any], store: PredictionStore, *, force: bool, progress: Progress
) -> None:
    """Record the settings of a model, or refuse to mix different settings, folds or images under one name.

    Settings of prediction may change: the predictions are moved to the archive and recomputed with the stored weights.
    Seeds and a refit may be added or removed; trainings that are no longer part of the model are kept.

    Raises:
        TrainingError: for other changes, unless `force`, which moves the old model to the archive; with `force`, if
            another process is training it.
        StoreError: if another process has replaced the folds.
    """
    folder = context.folder
    path, record = folder / RECORD, _record(context, store)
    with file_lock(folder.parent / ".lock", progress):
        store.check_folds_unchanged()  # a record with replaced folds would be refused by the next run
        is_new = True
        before = _read_record(context, record) or _from_store(context, store, record)
        if before is not None:
            changed = _changes(before, record, context.settings)
            if changed:
                _move_old(context, store, changed, force=force, progress=progress)
            elif "data" not in before or before.get("settings") != record["settings"]:
                _adapt(context, store, before.get("settings", {}), progress)
            else:
                is_new = not path.exists()
        if is_new:
            write_json(path, record)
    save_model(context, store)


def is_unchanged(context: ModelContext[Any], store: PredictionStore) -> bool:
    """Return whether a model was trained with the settings, those of prediction included, folds and data of now."""
    if not is_recorded(context.folder, context.settings):
        return False
    record = _record(context, store)
    return not _changes(_read_record(context, record) or {}, record, context.settings)


def _record(context: ModelContext[Any], store: PredictionStore) -> dict[str, Any]:
    """Return everything that the trainings of a model depend on, as JSON values."""
    record: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "settings": settings_record(context.settings),
        "folds": store.folds.fingerprint,
        **data_fingerprints(context),
    }
    if context.pseudo is not None:
        record["pseudo_labels"] = pseudo_record(*context.pseudo, store.test_ids)
    return record


def data_fingerprints(context: ModelContext[Any]) -> dict[str, str]:
    """Return the fingerprints of the files of the training rows, and of the columns that a model reads, if any."""
    found = {"data": files_fingerprint(context.train["path"].tolist())["fingerprint"]}
    if columns := _columns_fingerprint(context):
        found["columns"] = columns
    return found


def _read_record(context: ModelContext[Any], now: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the stored record of a model, as the version of now would have written it; None if there is none."""
    before = read_record(context.folder / RECORD)
    if before and "columns" in now and before.get("columns") == _columns_fingerprint(context, as_written=True):
        before["columns"] = now["columns"]  # an earlier version recorded the spelling of the originals
    return before


def _from_store(context: ModelContext[Any], store: PredictionStore, now: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the record of a model whose folder is gone, with the settings that the store has; None if it has none.

    Without it, stored predictions of other settings would count as those of the settings of now.
    """
    settings = store.summary(context.name).details.get("settings") if context.name in store else None
    return None if settings is None else {**now, "settings": settings}


def save_model(context: ModelContext[Any], store: PredictionStore) -> None:
    """Record the model in the store, with its settings, unless it is recorded there already.

    The store may lack it although `settings.json` is unchanged: `dfens oof archive` moves predictions away at any time.
    Without the record, a model of several seeds with a refit would count as one training.
    """
    repeats, details = repeats_of(context.settings), {"settings": settings_record(context.settings)}
    if context.pseudo is not None:
        details["pseudo_labels"] = pseudo_record(*context.pseudo, store.test_ids)
    store.save_model(
        context.name,
        context.settings.kind,
        details,
        seeds=repeats.seeds,
        refit_weight=repeats.refit_weight if repeats.refit else 0.0,
    )


def _columns_fingerprint(context: ModelContext[Any], *, as_written: bool = False) -> str:
    """Return the fingerprint of the columns of the training table that a model reads, by id; "" if there are none.

    Weights are compared as numbers (1 and 1.0), and originals as the rows that they name, however they are spelled,
    unless `as_written`.
    """
    texts, rows = list[str](), context.train
    for setting in ("weight_column", "pair_column"):
        if name := getattr(context.settings, setting, ""):
            values: Any = context.column(rows, name, setting)
            with contextlib.suppress(ValueError):
                values = values.astype(float) if setting == "weight_column" else values
            if setting == "pair_column" and not as_written:  # training reads those of fakes only
                reals = originals(context, rows, name)
                assert reals is not None  # the column has a name
                values = np.where(rows["target"] == 1, reals, "")
            texts += [f"{setting}\t{id_}\t{value}" for id_, value in zip(rows["id"], values, strict=True)]
    return text_fingerprint(sorted(texts)) if texts else ""


def _move_old(
    context: ModelContext[Any], store: PredictionStore, changed: Mapping[str, str], *, force: bool, progress: Progress
) -> None:
    """Move a model with other settings to the archive; raise TrainingError unless `force`."""
    name = context.name
    if not force:
        labels: Mapping[str, Any] = {} if context.pseudo is None else {"pseudo_labels": context.pseudo[0].source}
        rename = "" if labels else "Use a new name for the new settings in dfens.toml, or run "
        raise TrainingError(
            f"Model '{name}' was trained with other settings; changed: {', '.join(changed.values())}. "
            f"{rename or 'Run '}{train_command(name, labels, '--force')}, which moves the old model to the archive."
        )
    folder = context.folder
    with nobody_works_in(folder, "train the new settings under a different name"):
        # the record of the settings last: if this process is killed in between, the next one finds the change again
        moved = [store.archive(name)] if name in store else []
        if folder.exists():
            moved.insert(0, archive(folder, folder.parent / "archive"))
    progress.note(f"{name}: the model with other settings was moved to {' and '.join(map(str, moved))}")


def _adapt(context: ModelContext[Any], store: PredictionStore, before: Mapping[str, Any], progress: Progress) -> None:
    """Keep the weights of a model; if settings of prediction changed, move its predictions to the archive."""
    name = context.name
    changed = setting_changes(before, context.settings, prediction=True)
    if changed and name in store:
        progress.note(
            f"{name}: {', '.join(changed.values())}; predicting again with the stored weights; the old predictions "
            f"were moved to {store.archive(name)}"
        )
    _note_fewer(name, before, repeats_of(context.settings), progress)


def _note_fewer(name: str, before: Mapping[str, Any], now: RepeatSettings, progress: Progress) -> None:
    """Report existing trainings that are no longer part of the model."""
    seeds = before.get("seeds", 1)
    if now.seeds < seeds:
        left_out = f"seed {now.seeds}" if now.seeds == seeds - 1 else f"seeds {now.seeds} to {seeds - 1}"
        progress.note(
            f"{name}: seeds {seeds} to {now.seeds}: the model is now the mean of the first {now.seeds}. Trainings "
            f"with {left_out} are kept, and used again with seeds = {seeds}. Blend again."
        )
    if before.get("refit") and not now.refit:
        progress.note(f"{name}: refit = false: its test predictions are those of the fold models only; blend again.")


def check_still_own(folder: Path, settings: ModelSettings) -> None:
    """Check that no other process has replaced the model since this one started.

    Raises:
        TrainingError: if the record in the folder has other settings.
    """
    record = read_record(folder / RECORD)
    if record is not None and setting_changes(record.get("settings", {}), settings):
        raise TrainingError(
            f"Model '{folder.name}' was replaced while this process trained it (dfens train --force in another one), "
            f"so this fold is not stored. Train other settings under a different name."
        )


def is_recorded(folder: Path, settings: ModelSettings) -> bool:
    """Return whether the model in a folder has these settings, those of prediction included."""
    record = read_record(folder / RECORD)
    if record is None:
        return False
    before = record.get("settings", {})
    return not any(setting_changes(before, settings, prediction=prediction) for prediction in (False, True))


def same_training(history: Mapping[str, Any], settings: ModelSettings) -> bool:
    """Return whether history.json is of a training with these settings, ignoring those of prediction."""
    return not setting_changes(history.get("settings", {}), settings)


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], settings: ModelSettings) -> dict[str, str]:
    """Return what has changed among everything that a training depends on, by key."""
    found = setting_changes(before.get("settings", {}), settings)
    if before.get("folds") != now["folds"]:
        found["folds"] = "the folds"
    if before.get("data", now["data"]) != now["data"]:
        found["data"] = "the files of the training rows"
    if before.get("columns", now.get("columns")) != now.get("columns"):
        found["columns"] = "the values of weight_column or pair_column"
    if before.get("pseudo_labels") != now.get("pseudo_labels"):
        found["pseudo_labels"] = "the pseudo-labels or their weight"
    return found
