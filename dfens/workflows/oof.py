"""List, import, export, archive and compare the predictions of the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfens.workspace.paths import Workspace
from ensemble.diversity import duplicate_members, leave_one_out, rank_correlations
from ensemble.fit import fit_blend
from ensemble.shift import adversarial_auc, fold_agreement, model_shifts, shift_weights
from oof.errors import BlendError, PredictionError, StoreError, examples
from oof.exchange.export import export_predictions
from oof.exchange.importing import (
    ColumnChoice,
    ImportReport,
    PredictionFile,
    import_predictions,
    read_fold_table,
    read_predictions,
)
from oof.exchange.table_files import read_columns
from oof.metrics import Metric, metric_by_name
from oof.progress import SILENT, Progress
from oof.store import ModelPredictions, ModelSummary, Part

# ---- list --------------------------------------------------------------------


@dataclass(frozen=True)
class StoredModel:
    """One model of the store.

    rows: training rows with a prediction. folds, test: which parts are there, as text. fold_scores: score within each
    fold, with mean and standard deviation. score: over all rows. state: complete, OOF only or partial.
    """

    model: str
    kind: str
    rows: int
    folds: str
    test: str
    fold_scores: tuple[float, ...]
    fold_mean: float | None
    fold_sd: float | None
    score: float | None
    state: str


@dataclass(frozen=True)
class StoreContents:
    """The models of the store; best is the name of the one with the best score among those with the most rows."""

    metric: str
    rows: int
    k: int
    models: tuple[StoredModel, ...]
    best: str | None


def list_models(workspace: Workspace) -> StoreContents:
    """Return each model of the store with its rows, folds and scores."""
    store = workspace.predictions
    if not store.has_folds():
        raise StoreError(
            f"Nothing is stored in {store.root} yet. Run dfens folds, or import predictions with dfens oof import "
            f"FILES."
        )
    metric = metric_by_name(workspace.config.competition.metric)
    models = tuple(_stored_model(workspace, summary, metric) for summary in store.list())
    scored = [model for model in models if model.score is not None]
    best = max(scored, key=lambda model: (model.rows, metric.gain(model.score or 0.0)), default=None)
    return StoreContents(metric.name, len(store.folds.ids), store.folds.k, models, None if best is None else best.model)


def _stored_model(workspace: Workspace, summary: ModelSummary, metric: Metric) -> StoredModel:
    folds = workspace.predictions.folds
    model = workspace.predictions.load(summary.name)
    present = ~np.isnan(model.oof)

    def score(rows: NDArray[np.bool_]) -> float | None:
        if not rows.any():
            return None
        try:
            return float(metric(folds.target[rows], model.oof[rows]))
        except PredictionError:  # one class, or no probabilities where the metric needs them
            return None

    scores = [score(present & (folds.fold == fold)) for fold in range(folds.k)]
    by_fold = [value for value in scores if value is not None]
    if summary.imported:
        covered = [fold for fold in range(folds.k) if present[folds.fold == fold].all()]
    else:
        covered = list(summary.oof_folds)
    test = "–"
    if summary.has_test:
        test = "yes" if summary.imported else f"{len(summary.test_folds)}/{summary.k}"
    return StoredModel(
        model=summary.name,
        kind=summary.kind,
        rows=summary.oof_rows,
        folds="all" if len(covered) == folds.k else ",".join(map(str, covered)) or "–",
        test=test,
        fold_scores=tuple(by_fold),
        fold_mean=float(np.mean(by_fold)) if by_fold else None,
        fold_sd=float(np.std(by_fold, ddof=1)) if len(by_fold) > 1 else None,
        score=score(present),
        state=_state(summary),
    )


def _state(summary: ModelSummary) -> str:
    if summary.complete:
        return "complete"
    return "OOF only" if summary.oof_rows == summary.rows and not summary.has_test else "partial"


# ---- import, export, archive -------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """Files to import.

    files: of OOF predictions. name: of the model, where there is one file for it. tests: files of test predictions,
    with their column of predictions where it is not that of the OOF files. folds_from: the file whose rows, target and
    folds count where there are no folds yet. replace: replace models that were trained here, too.
    """

    files: tuple[Path, ...]
    name: str | None = None
    tests: tuple[Path, ...] = ()
    test_column: str | None = None
    columns: ColumnChoice
    folds_from: Path | None = None
    replace: bool = False


@dataclass(frozen=True)
class ImportResult:
    """The imported models; rows is the number of training rows, has_config whether there is a dfens.toml."""

    report: ImportReport
    rows: int
    has_config: bool

    def as_json(self) -> dict[str, Any]:
        """One object for each model."""
        report = self.report
        return {
            "models": [
                {"model": name, "rows": report.rows[name], "of": self.rows, "test": name in report.with_test}
                for name in report.models
            ],
            "notes": report.notes,
            "warnings": report.warnings,
        }


@dataclass(frozen=True)
class Exported:
    """A table of predictions that was written; part is "oof" or "test"."""

    path: Path
    models: tuple[str, ...]
    part: str


@dataclass(frozen=True)
class Archived:
    """Where models were moved, by name."""

    moved: Mapping[str, Path]

    def as_json(self) -> Mapping[str, Path]:
        """The paths at the top level."""
        return self.moved


def import_models(workspace: Workspace, request: ImportRequest, progress: Progress = SILENT) -> ImportResult:
    """Import predictions made elsewhere, joined by id."""
    store = workspace.predictions
    known = store.folds.ids if store.has_folds() else None
    files = [workspace.resolve(file) for file in request.files]
    tables = []
    with progress.task("reading", total=len(files), unit="files") as task:
        for file in files:
            tables.append(read_predictions(file, request.columns, name=request.name, known_ids=known))
            task.advance()
    tests = [_read_test(workspace, workspace.resolve(file), request) for file in request.tests]
    source = None
    if request.folds_from is not None:
        path = workspace.resolve(request.folds_from)
        source = next((table for table in tables if table.path == path), None)
        source = source or read_fold_table(path, request.columns)
    has_config = workspace.config_path.exists()
    folds = {"k": workspace.config.folds.k, "seed": workspace.config.folds.seed} if has_config else {}
    report = import_predictions(store, tables, tests, folds_from=source, replace=request.replace, **folds)
    return ImportResult(report, len(store.folds.ids), has_config)


def _read_test(workspace: Workspace, file: Path, request: ImportRequest) -> PredictionFile:
    """Read test predictions; their columns may have other names than those of the OOF file."""
    store, columns = workspace.predictions, request.columns
    names = read_columns(file).names
    wanted = (request.test_column,) if request.test_column else columns.predictions
    choice = ColumnChoice(
        id=columns.id if columns.id in names else None,
        predictions=tuple(column for column in wanted if column in names),
    )
    known = store.test_ids if store.test_ids_path.exists() else None
    return read_predictions(file, choice, name=request.name, known_ids=known, for_test=True)


def export_models(
    workspace: Workspace, out: Path, models: Sequence[str] = (), *, test: bool = False, force: bool = False
) -> Exported:
    """Write predictions of some or all models as one wide table."""
    path = workspace.resolve_output(out, force=force)
    part: Part = "test" if test else "oof"
    return Exported(path, tuple(export_predictions(workspace.predictions, path, models, part=part, force=force)), part)


def archive_models(workspace: Workspace, names: Sequence[str]) -> Archived:
    """Move models of the store to its archive."""
    store = workspace.predictions
    known = [summary.name for summary in store.list()] if store.has_folds() else []
    unknown = [name for name in names if name not in known]
    if unknown:
        raise StoreError(f"The store has no model {examples(unknown)}; it has {examples(known, 10) or 'none'}.")
    return Archived({name: store.archive(name) for name in dict.fromkeys(names)})


# ---- diversity and shift -----------------------------------------------------


@dataclass(frozen=True)
class Duplicate:
    """A model that only repeats a better one."""

    model: str
    of: str
    correlation: float


@dataclass(frozen=True)
class MemberGain:
    """What a model adds to the nested score of the blend of all, with its 95 % interval."""

    model: str
    adds: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, eq=False)
class Diversity:
    """How models differ; rank_correlations: (n_models, n_models)."""

    models: tuple[str, ...]
    rank_correlations: NDArray[np.float64]
    duplicates: tuple[Duplicate, ...]
    leave_one_out: tuple[MemberGain, ...]


@dataclass(frozen=True)
class ModelShiftRow:
    """How one model's test predictions differ from its OOF predictions; looks_broken says what is odd, if anything."""

    model: str
    test_above_oof: float
    distance: float
    out_of_range: float
    oof_agreement: float
    test_agreement: float
    looks_broken: str


@dataclass(frozen=True)
class AdversarialScore:
    """AUC with which all models together separate test rows from OOF rows, and its 95 % interval; 0.5 is not at all."""

    auc: float
    low: float
    high: float
    effective_rows: float


@dataclass(frozen=True)
class Shift:
    """Test predictions compared with OOF predictions; together is None where there are too few rows."""

    models: tuple[ModelShiftRow, ...]
    together: AdversarialScore | None


def measure_diversity(
    workspace: Workspace, models: Sequence[str] = (), *, without_each: bool = False, progress: Progress = SILENT
) -> Diversity:
    """Compare models by rank; with `without_each`, also blend without each of them."""
    store = workspace.predictions
    names = _chosen(workspace, models)
    oof = np.stack([store.load(name).oof for name in names], axis=1)  # (n_rows, n_models)
    duplicates = tuple(
        Duplicate(names[item.member], names[item.of], item.correlation)
        for item in duplicate_members(store.folds.target, oof)
    )
    gains = _member_gains(workspace, names, oof, progress) if without_each else ()
    return Diversity(tuple(names), rank_correlations(oof), duplicates, gains)


def _member_gains(
    workspace: Workspace, names: Sequence[str], oof: NDArray[np.float32], progress: Progress
) -> tuple[MemberGain, ...]:
    """Return what each model that covers all rows adds, the least useful first."""
    whole = np.flatnonzero(~np.isnan(oof).any(axis=0))
    if len(whole) < 2:
        raise BlendError("Leaving out a model needs at least 2 models that cover all rows. Run dfens oof list.")
    folds = workspace.predictions.folds

    def blend(columns: Sequence[int]) -> NDArray[np.float64]:
        return fit_blend(oof[:, whole[list(columns)]], folds.target, folds=folds.fold).nested_oof

    gains = leave_one_out(folds.target, blend, len(whole), groups=folds.groups, progress=progress)
    return tuple(
        MemberGain(names[whole[item.member]], item.gain.gain, item.gain.low, item.gain.high, item.gain.p_value)
        for item in gains
    )


def measure_shift(workspace: Workspace, models: Sequence[str] = ()) -> Shift:
    """Compare test predictions with OOF predictions, for each model and for all together."""
    loaded = [workspace.predictions.load(name) for name in _chosen(workspace, models)]
    lacking = [model.name for model in loaded if model.test_by_fold is None]
    if models and lacking:
        raise PredictionError(f"Model {lacking[0]} has no test predictions. Leave it out, or run dfens train.")
    loaded = [model for model in loaded if model.test_by_fold is not None]
    if not loaded:
        raise PredictionError("No model has test predictions yet. Run dfens train, or dfens oof import --test FILE.")
    oof = np.stack([model.oof for model in loaded], axis=1)
    parts = [model.test_by_fold for model in loaded if model.test_by_fold is not None]
    alike = len({len(part) for part in parts}) == 1
    test = np.stack(parts if alike else [part.mean(axis=0, keepdims=True) for part in parts], axis=2)
    rows = []
    for model, part, shift in zip(loaded, parts, model_shifts(oof, test), strict=True):
        reasons = [*shift.reasons, *_odd_folds(model, part)]
        rows.append(
            ModelShiftRow(
                model.name,
                shift.auc,
                shift.distance,
                shift.beyond,
                shift.oof_agreement,
                shift.test_agreement,
                "; ".join(reasons),
            )
        )
    try:
        interval = adversarial_auc(oof, test)
    except BlendError:  # a handful of rows
        return Shift(tuple(rows), None)
    weights = shift_weights(oof, test)
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    return Shift(tuple(rows), AdversarialScore(interval.score, interval.low, interval.high, effective))


def _odd_folds(model: ModelPredictions, part: NDArray[np.float32]) -> list[str]:
    """Name the fold models whose test predictions disagree with those of the others."""
    if len(part) <= 2:
        return []
    agreement = fold_agreement(part)
    odd = [fold for fold, value in enumerate(agreement) if value < np.median(agreement) - 0.2]
    return [f"the model of fold {model.test_folds[fold]} disagrees with those of the others" for fold in odd]


def _chosen(workspace: Workspace, models: Sequence[str]) -> list[str]:
    store = workspace.predictions
    known = [summary.name for summary in store.list()] if store.has_folds() else []
    names = list(dict.fromkeys(models)) or known
    if not names:
        raise StoreError("The store has no models yet. Run dfens train, or dfens oof import FILES.")
    return names
