"""The prediction store as text."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dfens.views.tables import FittedTable, make_table
from dfens.views.train import refit_note
from oof.metrics import metric_label

if TYPE_CHECKING:
    from dfens.workflows.diversity import Diversity, Shift
    from dfens.workflows.exchange import Exported, ImportResult
    from dfens.workflows.stored_models import Archived, StoreContents, StoredModel


def show_models(found: "StoreContents") -> "Iterator[FittedTable | str]":
    """List models with rows, folds and scores."""
    if not found.models:
        yield "No predictions yet. Next: dfens train, or dfens oof import FILES"
        return
    several = any(model.seeds > 1 for model in found.models)
    rows = [
        {
            "model": model.model,
            "kind": model.kind,
            "rows": f"{model.rows}/{found.rows}",
            "folds": model.folds,
            "test": model.test,
            f"{found.metric} by fold": _spread(model.fold_mean, model.fold_sd),
            f"{found.metric} over all": model.score,
            **({f"{found.metric} by seed": _by_seed(model)} if several else {}),
            "state": model.state,
        }
        for model in found.models
    ]
    names = [model.model for model in found.models]
    yield make_table(
        rows,
        title=f"Predictions of {found.rows} rows in {found.k} folds",
        bold=None if found.best is None else names.index(found.best),
        optional=["state", "test", "folds", "rows", "kind"],
    )
    optimistic = [model.model for model in found.models if model.optimistic]
    if optimistic:
        yield (
            f'A little optimistic, since the best epoch was chosen on the same rows (checkpoint = "best"): '
            f"{', '.join(optimistic)}"
        )

    if several:
        yield "By seed: mean and spread of the seeds over all rows; the other scores are of their mean, the model."
    for model in found.models:
        if model.refit_weight:
            yield refit_note(model.model, model.refit_weight)


def _spread(mean: float | None, sd: float | None) -> str | None:
    if mean is None:
        return None
    return f"{mean:.5f}" + ("" if sd is None else f" ± {sd:.5f}")


def _by_seed(model: "StoredModel") -> str | None:
    spread = _spread(model.seed_mean, model.seed_sd)
    return None if spread is None else f"{spread} ({len(model.seed_scores)} of {model.seeds})"


def import_notes(found: "ImportResult") -> Iterator[str]:
    """Show what was detected, and what is probably wrong."""
    yield from found.report.notes
    yield from (f"Warning: {warning}" for warning in found.report.warnings)


def show_import(found: "ImportResult") -> "Iterator[FittedTable | str]":
    """List imported models."""
    report = found.report
    rows = [
        {
            "model": name,
            "rows": f"{report.rows[name]}/{found.rows}",
            "test": "yes" if name in report.with_test else "–",
            "state": found.states[name],
        }
        for name in report.models
    ]
    title = "Imported 1 model" if len(rows) == 1 else f"Imported {len(rows)} models"
    yield make_table(rows, title=title)
    yield "Next: dfens oof list, then dfens blend"


def show_export(found: "Exported") -> Iterator[str]:
    """Show the path of the file."""
    part = "test" if found.part == "test" else "OOF"
    yield f"Wrote {part} predictions of {len(found.models)} model{'s' * (len(found.models) != 1)} to {found.path}"


def show_archived(found: "Archived") -> Iterator[str]:
    """Show where the models were moved."""
    yield from (f"{name} was moved to {path}" for name, path in found.moved.items())


def show_diversity(found: "Diversity") -> "Iterator[FittedTable | str]":
    """Show rank correlations, duplicates, and what each model adds."""
    numbers = [str(number + 1) for number in range(len(found.models))]
    rows = [
        {"model": f"{number} {name}"} | dict(zip(numbers, correlations, strict=True))
        for number, name, correlations in zip(numbers, found.models, found.rank_correlations.tolist(), strict=True)
    ]
    yield make_table(rows, title="Rank correlation of each pair of models", decimals=3, optional=numbers)
    for item in found.duplicates:
        yield f"{item.model} duplicates {item.of} (rank correlation {item.correlation:.5f})"
    if found.leave_one_out:
        gains = [dataclasses.asdict(gain) | {"p": f"{gain.p:.2g}"} for gain in found.leave_one_out]
        yield make_table(gains, title=f"What each model adds to the nested {metric_label(found.metric)} of the blend")


def show_shift(found: "Shift") -> "Iterator[FittedTable | str]":
    """Show how test predictions differ from OOF predictions."""
    rows = [dataclasses.asdict(row) for row in found.models]
    for row in rows:
        del row["looks_broken"]
    yield make_table(
        rows,
        title="Test predictions against OOF",
        decimals=3,
        percent=["out_of_range"],
        optional=["test_agreement", "oof_agreement", "distance", "out_of_range"],
    )
    yield from (f"{row.model} looks broken: {row.looks_broken}." for row in found.models if row.looks_broken)
    if found.together is None:
        yield "Too few rows to compare OOF and test with all models together."
    else:
        auc = found.together
        yield (
            f"All models together separate test rows from OOF rows with AUC {auc.auc:.4f} "
            f"({auc.low:.4f} to {auc.high:.4f}; 0.5 means not at all)."
        )
