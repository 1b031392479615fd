"""Compare models on the rows that all of them predict out of fold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from dfens.report.clips import ModalityScore
from dfens.workflows.jobs import make_job
from dfens.workflows.selection import chosen_models
from dfens.workflows.stored_results import save_modalities
from dfens.workspace.paths import Workspace
from oof.analysis.compare import Comparison, compare_models
from oof.cpus import cpu_count
from oof.errors import ConfigError
from oof.metrics import roc_auc
from oof.progress import SILENT, Progress
from trainers.analysis.plots import plot_curves, plot_gains
from trainers.analysis.robustness import CurvePoint, robustness_curves
from trainers.features.clips import has_sound
from trainers.kinds.registry import kind_of
from trainers.media.image import is_clip


@dataclass(frozen=True)
class ComparisonResult:
    """Models compared with the first one, robustness curves and modalities if requested, and the paths of the plots."""

    comparison: Comparison
    curves: tuple[CurvePoint, ...]
    pictures: tuple[Path, ...]
    modalities: tuple[ModalityScore, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the comparison at the top level."""
        return self.comparison.as_json() | {
            "curves": self.curves,
            "pictures": self.pictures,
            "modalities": self.modalities,
        }


def compare(
    workspace: Workspace,
    names: Sequence[str],
    *,
    metric: str | None = None,
    robustness: bool = False,
    modalities: bool = False,
    rows: int = 500,
    progress: Progress = SILENT,
) -> ComparisonResult:
    """Compare models with the first one named; with `robustness`, also on corrupted images of `rows` held-out rows."""
    config, store = workspace.config, workspace.predictions
    comparison = compare_models(store, names, metric=metric or config.competition.metric)
    pictures = [plot_gains(workspace.compare_plot(names, "gains"), comparison)]
    points: list[CurvePoint] = []
    if robustness:
        unknown = [name for name in names if name not in config.models]
        if unknown:
            raise ConfigError(
                f"--robustness predicts corrupted images, but dfens.toml has no [models.{unknown[0]}]. Compare it "
                f"without --robustness, or add its section."
            )
        job = make_job(workspace, {name: config.models[name] for name in names}, threads=cpu_count())
        points = robustness_curves(job, rows=rows, progress=progress)
        pictures.append(plot_curves(workspace.compare_plot(names, "robustness"), points))
    scores = modality_scores(workspace, names) if modalities else ()
    if scores:
        save_modalities(workspace, names, scores)
    return ComparisonResult(comparison, tuple(points), tuple(pictures), scores)


def modality_scores(workspace: Workspace, names: Sequence[str]) -> tuple[ModalityScore, ...]:
    """Score models on clips and the mean of their ranks, and all of them on the clips that lack sound.

    Only the rows that all of them predict are scored, as in the comparison.

    Raises:
        ConfigError: if a model is not in dfens.toml, or none reads clips.
    """
    config, store = workspace.config, workspace.predictions
    models = chosen_models(config.models, names)
    kinds = {name: kind_of(settings) for name, settings in models.items()}
    extraction = next((found for name, kind in kinds.items() if (found := kind.extraction(models[name]))), None)
    train = workspace.competition().train
    if extraction is None or not is_clip(train["path"].iloc[0]):
        raise ConfigError("--modalities compares models on clips, but these read images.")
    if extraction.faces:
        extraction = replace(extraction, faces=str(workspace.resolve(extraction.faces)))
    path_of = dict(zip(train["id"], train["path"], strict=True))
    paths = [path_of[id_] for id_ in store.folds.ids]
    with_sound = has_sound(paths, extraction, workspace.trainers_dir, workspace.root)
    oof = {name: store.load(name).oof for name in names}
    rows = np.isfinite(list(oof.values())).all(axis=0)  # a model with some folds only must not get easier clips
    target, with_sound = store.folds.target[rows], with_sound[rows]
    predictions: dict[str, NDArray[np.floating[Any]]] = {name: values[rows] for name, values in oof.items()}
    read = {name: kind.modalities(models[name]) for name, kind in kinds.items()}
    if len(names) > 1:
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        label = f"mean of {listed}" if len(names) < 4 else f"mean of {len(names)} models"
        predictions[label] = np.mean([rankdata(values) for values in predictions.values()], axis=0)
        read[label] = tuple(sorted({modality for found in read.values() for modality in found}))
    return tuple(
        ModalityScore(
            name,
            read[name],
            _auc(target, values, np.ones(len(target), bool)),
            _auc(target, values, with_sound),
            _auc(target, values, ~with_sound),
            int((~with_sound).sum()),
        )
        for name, values in predictions.items()
    )


def _auc(target: NDArray[np.int8], values: NDArray[np.floating[Any]], rows: NDArray[np.bool_]) -> float | None:
    return roc_auc(target[rows], values[rows]) if len(np.unique(target[rows])) == 2 else None
