"""Comparisons as tables for people."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dfens.views.tables import FittedTable, make_table

if TYPE_CHECKING:
    from dfens.report.clips import ModalityScore
    from dfens.workflows.ablate import AblationResult
    from dfens.workflows.compare import ComparisonResult
    from oof.analysis.compare import Comparison
    from trainers.analysis.robustness import CurvePoint


def show_comparison(found: "ComparisonResult") -> "Iterator[FittedTable | str]":
    """Show scores, paired differences, robustness curves, and the paths of the plots."""
    yield from comparison_tables(found.comparison)
    if found.curves:
        yield curve_table(found.curves)
    if found.modalities:
        yield modality_table(found.modalities)
    yield from (f"Note: {note}" for note in found.comparison.notes)
    yield from (f"Plot: {path}" for path in found.pictures)


def show_ablation(found: "AblationResult") -> "Iterator[FittedTable | str]":
    """Show the scores of the variants and their paired differences."""
    yield from comparison_tables(found.comparison)
    yield from (f"Note: {note}" for note in found.comparison.notes)
    yield f"Plot: {found.picture}"


def comparison_tables(comparison: "Comparison") -> "tuple[FittedTable, FittedTable]":
    """Return tables of scores with their intervals, and of differences to the first model."""
    scores = [
        {"model": model.name, comparison.metric: model.score, "low": model.low, "high": model.high}
        | {f"fold_{fold}": score for fold, score in enumerate(model.by_fold)}
        for model in comparison.scores
    ]
    gains = [
        {
            "model": gain.name,
            "against": gain.reference,
            "gain": gain.gain,
            "low": gain.low,
            "high": gain.high,
            "p": f"{gain.p_value:.2g}",
            "p_adjusted": f"{gain.p_adjusted:.2g}",
            "folds_better": f"{gain.folds_better} of {gain.folds}",
            "verdict": gain.verdict,
        }
        for gain in comparison.gains
    ]
    folds = [name for name in scores[0] if name.startswith("fold_")]
    return (
        make_table(scores, title=f"{comparison.metric} on {comparison.rows} held-out rows", decimals=4, optional=folds),
        make_table(
            gains,
            title="Paired differences (95 % intervals)",
            decimals=4,
            optional=["folds_better", "p_adjusted", "against", "p"],
        ),
    )


def modality_table(scores: "Sequence[ModalityScore]") -> FittedTable:
    """Return a table of the AUC of each model on all clips, and on clips with and without sound."""
    rows = [
        {
            "model": score.model,
            "reads": " + ".join(score.modalities),
            "auc": score.auc,
            "with_sound": score.auc_with_sound,
            "without_sound": score.auc_without_sound,
            "clips_without": score.clips_without_sound,
        }
        for score in scores
    ]
    return make_table(rows, title="OOF AUC by modality", decimals=4)


def curve_table(points: "Sequence[CurvePoint]") -> FittedTable:
    """Return a table of the AUC of each model (columns) for each corruption and severity (rows)."""
    rows: dict[tuple[str, float], dict[str, object]] = {}
    for point in points:
        start: dict[str, object] = {"corruption": point.corruption, "severity": f"{point.severity:g}"}
        row = rows.setdefault((point.corruption, point.severity), start)
        row[point.model] = point.auc
    return make_table(
        list(rows.values()), title="AUC on corrupted held-out rows, without test-time augmentation", decimals=4
    )
