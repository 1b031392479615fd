"""Plots of the ledger as PNG: CV against public score, scores by submission, pairs for the finals."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from oof.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from submissions.correlation import CvLbCorrelation
    from submissions.finals.select import Selection


def plot_correlation(
    path: Path,
    names: Sequence[str],
    cv: Sequence[float | None],
    public: Sequence[float | None],
    found: "CvLbCorrelation",
) -> Path:
    """Plot CV against public score with the fitted line; outliers are labelled.

    Args:
        path: path of the PNG.
        names, cv, public: name and scores of each submission, None for no score.
        found: correlation of the same submissions.
    """
    figure = _figure()
    axes = figure.add_subplot()
    both = [
        (position, x, y)
        for position, (x, y) in enumerate(zip(cv, public, strict=True))
        if x is not None and y is not None and x == x and y == y
    ]
    off = {item.position for item in found.outliers}
    for far, colour, label in ((False, "tab:blue", "submissions"), (True, "tab:red", "outliers")):
        points = [(x, y) for position, x, y in both if (position in off) == far]
        if points:
            axes.scatter(*zip(*points, strict=True), color=colour, label=label, zorder=3)
    for position, x, y in both:
        if position in off:
            axes.annotate(_safe(names[position]), (x, y), textcoords="offset points", xytext=(6, 4), fontsize=8)
    if both and found.slope == found.slope:
        ends = [min(x for _, x, _ in both), max(x for _, x, _ in both)]
        line = [found.expected_public(x) for x in ends]
        label = f"public = {found.intercept:.4f} + {found.slope:.3f} CV"
        axes.plot(ends, line, color="grey", label=label)
        axes.fill_between(
            ends,
            [y - 2 * found.spread for y in line],
            [y + 2 * found.spread for y in line],
            color="grey",
            alpha=0.15,
            linewidth=0,
        )
        axes.set_title(f"rank correlation {found.rank_correlation:.2f} over {found.count} submissions", fontsize=10)
    axes.set_xlabel("CV")
    axes.set_ylabel("public score")
    if both:
        axes.legend(fontsize=8)
    return _saved(figure, path)


def plot_history(path: Path, cv: Sequence[float | None], public: Sequence[float | None]) -> Path:
    """Plot CV and public score of each submission, oldest first."""
    figure = _figure()
    axes = figure.add_subplot()
    nan = float("nan")
    count = range(1, len(cv) + 1)
    axes.plot(count, [nan if x is None else x for x in cv], "o", label="CV", color="tab:orange")
    axes.plot(count, [nan if y is None else y for y in public], "o", label="public", color="tab:blue")
    axes.set_xlabel("submission")
    axes.set_ylabel("score")
    axes.set_xticks(list(count)[:: max(1, len(cv) // 10)])
    axes.legend(fontsize=8)
    return _saved(figure, path)


def plot_selection(path: Path, selection: "Selection", most: int = 15) -> Path:
    """Plot the expected best-of-two private score of the best pairs, with the simulation error."""
    figure = _figure()
    axes = figure.add_subplot()
    pairs = list(selection.pairs[:most])[::-1]
    labels = [_safe(f"{pair.first} + {pair.second}") for pair in pairs]
    colours = ["tab:red" if {pair.first, pair.second} == set(selection.baseline) else "tab:blue" for pair in pairs]
    rows = list(range(len(pairs)))
    expected = [pair.expected for pair in pairs]
    axes.errorbar(expected, rows, xerr=[2 * pair.error for pair in pairs], fmt="none", ecolor="grey", zorder=2)
    axes.scatter(expected, rows, color=colours, zorder=3)
    axes.set_yticks(rows, labels, fontsize=8)
    axes.set_xlabel("expected best-of-two private score (red: best public + best CV)")
    return _saved(figure, path)


def _figure() -> "Figure":
    # Figure instead of pyplot: no display, no global state, nothing to close
    from matplotlib.figure import Figure

    return Figure(figsize=(7, 4.5), layout="constrained")


def _safe(text: str) -> str:
    """Return a name with dollar signs escaped, which would begin a formula."""
    return text.replace("$", r"\$")


def _saved(figure: "Figure", path: Path) -> Path:
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=120)
    return path
