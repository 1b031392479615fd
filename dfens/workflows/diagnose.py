"""Diagnose one model from its out-of-fold predictions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dfens.workspace.paths import Workspace
from dfens.workspace.trainings import fold_histories
from oof.analysis.diagnose import Diagnosis, cluster_scores, find_label_issues, training_curves
from oof.errors import PredictionError
from oof.files import write_text
from oof.ids import join_positions
from oof.metrics import roc_auc
from oof.predictions import train_command
from oof.progress import SILENT, Progress
from trainers.analysis.plots import contact_sheet
from trainers.data.groups import image_clusters

_IMAGES = 40


@dataclass(frozen=True)
class DiagnosisResult:
    """A diagnosis, and the list and the images of its label issues."""

    diagnosis: Diagnosis
    label_issues_file: Path
    images: Path | None

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the diagnosis at the top level."""
        return self.diagnosis.as_json() | {"label_issues_file": self.label_issues_file, "images": self.images}


def diagnose(workspace: Workspace, name: str, *, max_issues: int = 100, progress: Progress = SILENT) -> DiagnosisResult:
    """Score a model by kind of image, and find label issues and folds that overfit; clips have no kinds and no images.

    Raises:
        PredictionError: if the model has predictions for only one class.
    """
    store, folds = workspace.predictions, workspace.predictions.folds
    model = store.load(name)
    known = ~np.isnan(model.oof)
    if len(set(folds.target[known].tolist())) < 2:
        raise PredictionError(
            f"Model '{name}' has out-of-fold predictions for only one class. Run {train_command(name, model.details)} "
            f"first."
        )
    competition = workspace.competition()
    position = join_positions(folds.ids, competition.train["id"].to_numpy(object), "the training table", extra="ignore")
    clusters = None
    if competition.media == "images":
        seed, work_dir = workspace.config.folds.seed, workspace.trainers_dir
        clusters = image_clusters(competition.train, work_dir=work_dir, progress=progress, seed=seed)[position]
    complete = [item.name for item in store.list() if item.complete and item.name != name]
    others = {model.name: model.oof for model in store.each(store.load, complete)}
    histories = fold_histories(workspace, name, range(folds.k))
    found = Diagnosis(
        name,
        float(roc_auc(folds.target[known], model.oof[known])),
        () if clusters is None else tuple(cluster_scores(folds, model.oof, clusters)),
        tuple(find_label_issues(folds, {name: model.oof, **others}, limit=max_issues)),
        tuple(training_curves({fold: history for fold, history in histories.items() if "loss" in history})),
    )
    listed = workspace.label_issues_path(name, "csv")
    table = pd.DataFrame(found.label_issues, columns=["id", "target", "label_error_score", "models_against", "models"])
    write_text(listed, table.to_csv(index=False))
    images = None
    if found.label_issues and clusters is not None:
        files = pd.Series(competition.train["path"].to_numpy(object)[position], folds.ids)
        shown = found.label_issues[:_IMAGES]
        captions = [f"{issue.target} {issue.label_error_score:.2f}" for issue in shown]
        images = contact_sheet(
            workspace.label_issues_path(name, "png"), [str(files[issue.id]) for issue in shown], captions
        )
    return DiagnosisResult(found, listed, images)
