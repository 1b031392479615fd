"""Compare models on the rows that all of them predict out of fold."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfens.workspace.paths import Workspace
from oof.analysis.compare import Comparison, compare_models
from oof.cpus import cpu_count
from oof.errors import ConfigError
from oof.progress import SILENT, Progress
from trainers.analysis.plots import plot_curves, plot_gains
from trainers.analysis.robustness import CurvePoint, robustness_curves
from trainers.jobs.runner import TrainingJob


@dataclass(frozen=True)
class ComparisonResult:
    """Models compared with the first one, the robustness curves where asked for, and the pictures drawn."""

    comparison: Comparison
    curves: tuple[CurvePoint, ...]
    pictures: tuple[Path, ...]

    def as_json(self) -> dict[str, Any]:
        """The comparison's facts at the top level."""
        return self.comparison.as_json() | {"curves": self.curves, "pictures": self.pictures}


def compare(
    workspace: Workspace,
    names: Sequence[str],
    *,
    metric: str | None = None,
    robustness: bool = False,
    rows: int = 500,
    progress: Progress = SILENT,
) -> ComparisonResult:
    """Compare models with the first one named; with `robustness`, also on corrupted images of `rows` held-out rows."""
    config, store = workspace.config, workspace.predictions
    comparison = compare_models(store, names, metric=metric or config.competition.metric)
    folder = workspace.compare_dir(names)
    pictures = [plot_gains(folder / "gains.png", comparison)]
    points: list[CurvePoint] = []
    if robustness:
        unknown = [name for name in names if name not in config.models]
        if unknown:
            raise ConfigError(
                f"--robustness predicts corrupted images, and dfens.toml has no [models.{unknown[0]}]. Compare it "
                f"without --robustness, or add its section."
            )
        job = TrainingJob(
            workspace.competition(),
            store.root,
            {name: config.models[name] for name in names},
            workspace.trainers_dir,
            threads=cpu_count(),
            root=workspace.root,
            cache_dir=workspace.image_cache_dir(),
        )
        points = robustness_curves(job, rows=rows, progress=progress)
        pictures.append(plot_curves(folder / "robustness.png", points))
    return ComparisonResult(comparison, tuple(points), tuple(pictures))
