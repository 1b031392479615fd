"""Plots of comparisons as PNG: gains with their intervals, and AUC by severity of a corruption."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from oof.files import atomic_path
from trainers.augment.corruptions import PERTURBATIONS
from trainers.media.clip_changes import CLIP_CHANGES
from trainers.media.image import load_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from oof.analysis.compare import Comparison
    from trainers.analysis.robustness import CurvePoint


def plot_gains(path: Path, comparison: "Comparison") -> Path:
    """Plot each model's gain over the reference with its interval, and the gains of single folds as dots."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 0.6 * len(comparison.gains)), layout="constrained")
    axes = figure.add_subplot()
    reference = comparison.scores[0]
    for at, gain in enumerate(comparison.gains):
        colour = {"better": "tab:green", "worse": "tab:red"}.get(gain.verdict, "tab:grey")
        axes.errorbar(
            gain.gain, at, xerr=[[gain.gain - gain.low], [gain.high - gain.gain]], fmt="o", color=colour, capsize=4
        )
        axes.plot(gain.by_fold, [at + 0.2] * len(gain.by_fold), ".", color="tab:blue", alpha=0.5)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(comparison.gains)), [_safe(gain.name) for gain in comparison.gains])
    axes.set_ylim(len(comparison.gains) - 0.5, -0.5)
    axes.set_xlabel(
        f"gain in {comparison.metric} over {_safe(reference.name)} ({reference.score:.4f}); dots: single folds"
    )
    return _saved(figure, path)


def plot_curves(path: Path, points: Sequence["CurvePoint"]) -> Path:
    """Plot AUC against the severity of each corruption, one line per model with its interval; left is uncorrupted."""
    from matplotlib.figure import Figure

    corruptions = [
        corruption for corruption in dict.fromkeys(point.corruption for point in points) if corruption != "none"
    ]
    models = list(dict.fromkeys(point.model for point in points))
    figure = Figure(figsize=(3.2 * max(1, len(corruptions)), 3.4), layout="constrained")
    grid = figure.subplots(1, max(1, len(corruptions)), sharey=True, squeeze=False)[0]
    for axes, corruption in zip(grid, corruptions, strict=False):
        values = list(dict.fromkeys(point.severity for point in points if point.corruption == corruption))
        severities = ["none", *(f"{severity:g}" for severity in values)]
        for number, model in enumerate(models):
            found = {(point.corruption, point.severity): point for point in points if point.model == model}
            line = [found["none", 0.0], *(found[corruption, severity] for severity in values)]
            at = range(len(line))
            colour = f"C{number}"
            axes.plot(at, [point.auc for point in line], "o-", color=colour, label=_safe(model), markersize=4)
            axes.fill_between(
                at, [point.low for point in line], [point.high for point in line], color=colour, alpha=0.12
            )
        axes.set_xticks(range(len(severities)), severities)
        unit = PERTURBATIONS[corruption].unit if corruption in PERTURBATIONS else CLIP_CHANGES[corruption].unit
        axes.set_title(f"{corruption} ({unit})" if unit else corruption, fontsize=10)
        axes.grid(alpha=0.25)
    grid[0].set_ylabel("AUC on held-out rows")
    grid[0].legend(fontsize=8)
    return _saved(figure, path)


def _safe(text: str) -> str:
    """Return a text with dollar signs escaped, which would begin a formula."""
    return text.replace("$", r"\$")


def _saved(figure: "Figure", path: Path) -> Path:
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=120)
    return path


def contact_sheet(path: Path, pictures: Sequence[str], captions: Sequence[str], *, size: int = 128) -> Path:
    """Draw images in rows of ten, each with a caption below."""
    across = min(10, max(1, len(pictures)))
    down = -(-len(pictures) // across)
    sheet = np.full((max(1, down) * (size + 18), across * size, 3), 255, np.uint8)
    for at, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        top, left = (at // across) * (size + 18), (at % across) * size
        sheet[top : top + size, left : left + size] = load_image(picture, size)
        place = (left + 3, top + size + 13)
        cv2.putText(sheet, caption, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    with atomic_path(path) as part:
        part.write_bytes(cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes())
    return path
