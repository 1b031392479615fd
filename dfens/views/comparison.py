"""Comparisons as tables for people."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from dfens.views.tables import make_table

if TYPE_CHECKING:
    from rich.table import Table

    from oof.analysis.compare import Comparison
    from trainers.analysis.robustness import CurvePoint


def comparison_tables(comparison: "Comparison") -> "list[Table]":
    """Scores with their intervals, and differences to the first model."""
    scores = pd.DataFrame(
        [
            {"model": model.name, comparison.metric: model.score, "low": model.low, "high": model.high}
            | {f"fold_{fold}": score for fold, score in enumerate(model.by_fold)}
            for model in comparison.scores
        ]
    )
    gains = pd.DataFrame(
        [
            {
                "model": gain.name,
                "against": gain.reference,
                "gain": gain.gain,
                "low": gain.low,
                "high": gain.high,
                "p": gain.p_value,
                "p_adjusted": gain.p_adjusted,
                "folds_better": f"{gain.folds_better} of {gain.folds}",
                "verdict": gain.verdict,
            }
            for gain in comparison.gains
        ]
    )
    return [
        make_table(scores, title=f"{comparison.metric} on {comparison.rows} held-out rows", decimals=4),
        make_table(gains, title="Paired differences (95 % intervals)", decimals=4),
    ]


def curve_table(points: "Sequence[CurvePoint]") -> "Table":
    """AUC of each model (columns) under each level of harm (rows)."""
    rows: dict[tuple[str, float], dict[str, object]] = {}
    for point in points:
        row = rows.setdefault((point.harm, point.level), {"harm": point.harm, "level": f"{point.level:g}"})
        row[point.model] = point.auc
    return make_table(pd.DataFrame(list(rows.values())), title="AUC of harmed held-out images, plain view", decimals=4)
