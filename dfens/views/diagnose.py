"""A diagnosis as text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dfens.views.tables import FittedTable, make_table

if TYPE_CHECKING:
    from dfens.workflows.diagnose import DiagnosisResult

_ISSUES_SHOWN = 10


def show_diagnosis(found: "DiagnosisResult") -> "Iterator[FittedTable | str]":
    """Show scores by cluster, training by fold, and label issues."""
    diagnosis = found.diagnosis
    score = f"{diagnosis.model}: AUC {diagnosis.auc:.4f}"
    if diagnosis.clusters:
        yield make_table(
            [vars(cluster) for cluster in diagnosis.clusters],
            title=f"{score}; by cluster of images, weakest first",
            decimals=4,
            optional=["auc_of_fakes", "auc_of_reals"],
        )
    else:
        yield score
    if diagnosis.training_curves:
        yield make_table(
            [vars(curve) for curve in diagnosis.training_curves],
            title="Training by fold (AUC without TTA)",
            decimals=4,
            optional=["overfits", "optimism", "last_auc"],
        )
        optimism = sum(curve.optimism for curve in diagnosis.training_curves) / len(diagnosis.training_curves)
        yield f"Choosing the best epoch on the held-out rows inflates the score by about {optimism:.4f}."
        overfitted = [str(curve.fold) for curve in diagnosis.training_curves if curve.overfits]
        if overfitted:
            yield f"Folds {', '.join(overfitted)} overfit: use fewer epochs, or more augmentation and weight decay."
    if diagnosis.label_issues:
        yield make_table(
            [vars(issue) for issue in diagnosis.label_issues[:_ISSUES_SHOWN]],
            title=f"Label issues ({len(diagnosis.label_issues)}; first {_ISSUES_SHOWN})",
            decimals=3,
        )
    if found.images is not None:
        yield f"Images: {found.images}"
    yield f"List: {found.label_issues_file}"
