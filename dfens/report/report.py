"""The report of a workspace as one value: head, checks and panels."""

from dataclasses import asdict, dataclass
from typing import Any

from dfens.report.checks import Check, all_checks
from dfens.report.clips import ClipsPanel
from dfens.report.curves import CurvesPanel, curves_panel
from dfens.report.diversity import DiversityPanel, diversity_panel
from dfens.report.images import FindViews, ImagesPanel, images_panel
from dfens.report.inputs import ReportInputs
from dfens.report.ledger import SubmissionsPanel, submissions_panel
from dfens.report.models import ModelsPanel, models_panel
from dfens.report.shift import ShiftPanel, shift_panel
from ensemble.summary import BlendSummary
from oof.progress import SILENT, Progress
from oof.sealed import Look

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Head:
    """The head of the page.

    blend: the newest, which dfens submit sends. score, nested_score (with its 95 % interval): by `metric`, of the rows
    that `score_of` and `nested_score_of` state. None without a blend, or if it optimised another metric that its
    predictions are not suitable for. better: an earlier blend with a better nested score, and that score.
    sealed_rows: number of sealed rows. looks: recorded looks at them, oldest first. looked: phrase that states how
    often they were looked at.
    """

    competition: str
    metric: str
    made: str
    rows: int
    positives: int
    k: int
    test_rows: int
    models: int
    blend: str
    score: float | None
    nested_score: float | None
    nested_interval: tuple[float, float] | None
    best_public: float | None
    left_today: int | None
    next_command: str
    sealed_rows: int = 0
    looks: tuple[Look, ...] = ()
    looked: str = ""
    better: tuple[str, float] | None = None
    score_of: str = ""
    nested_score_of: str = ""


@dataclass(frozen=True)
class Report:
    """Everything that a report page shows; a panel is None if there is nothing to show. blend: the newest one."""

    head: Head
    checks: tuple[Check, ...]
    models: ModelsPanel
    blend: BlendSummary | None
    curves: CurvesPanel | None
    diversity: DiversityPanel | None
    shift: ShiftPanel | None
    images: ImagesPanel | None
    submissions: SubmissionsPanel | None
    clips: ClipsPanel | None
    version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return the facts of the page as JSON values, without the pictures themselves."""
        value = asdict(self)
        for grid in (value["images"] or {}).get("grids", ()):
            for picture in grid["pictures"]:
                for key in ("small", "large", "spectrogram", "envelope"):
                    del picture[key]
        return value


def build_report(
    inputs: ReportInputs,
    *,
    find_views: FindViews,
    clips: ClipsPanel | None = None,
    progress: Progress = SILENT,
) -> Report:
    """Compute every panel.

    Args:
        inputs: contents of the stores.
        find_views: ids -> function that reads the file of a row, for the files that exist.
        clips: panel of clips, which the caller reads from stored results.
    """
    with progress.task("report", total=6, unit="panel") as task:
        models = models_panel(inputs)
        task.advance()
        curves = curves_panel(inputs, models)
        task.advance()
        diversity = diversity_panel(inputs)
        task.advance()
        shift = shift_panel(inputs)
        task.advance()
        ledger = submissions_panel(inputs)
        checks = all_checks(inputs, models, shift, ledger, clips)
        task.advance()
        images = images_panel(inputs, find_views)
        task.advance()
    blend = inputs.newest_blend
    return Report(
        _head(inputs, ledger), checks, models, blend.summary if blend else None, curves, diversity, shift, images,
        ledger, clips,
    )  # fmt: skip


def _head(inputs: ReportInputs, ledger: SubmissionsPanel | None) -> Head:
    blend = inputs.newest_blend
    score, nested_score = inputs.blend_scores.get(blend.name, (None, None)) if blend else (None, None)
    # that of another metric is not an interval of this one
    interval = blend.facts.get("nested_interval") if blend and blend.facts["metric"] == inputs.metric.name else None
    return Head(
        inputs.competition,
        inputs.metric.name,
        f"{inputs.made:%Y-%m-%d %H:%M} UTC",
        len(inputs.ids),
        int(inputs.target.sum()),
        inputs.k,
        inputs.n_test,
        len(inputs.models),
        blend.name if blend else "",
        score,
        nested_score,
        (float(interval[0]), float(interval[1])) if interval else None,
        ledger.best_public if ledger else None,
        ledger.left_today if ledger else inputs.submissions_per_day,
        inputs.next_command,
        inputs.sealed,
        tuple(inputs.looks),
        inputs.looked,
        inputs.better_blend,
        blend.summary.score_of if blend else "",
        blend.summary.nested_score_of if blend else "",
    )
