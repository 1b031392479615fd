"""Plots of the report as SVG; colours are CSS variables, so that one drawing suits the light and the dark theme."""

import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from dfens.report.curves import Curve, TrainingCurves
from dfens.report.diversity import DiversityPanel
from dfens.report.ledger import SubmissionsPanel
from dfens.report.shift import ShiftPanel
from ensemble.calibration import CalibrationReport
from ensemble.summary import BlendSummary
from oof.metrics import metric_label

# Colours used by matplotlib, and the variables of style.css that replace them.
_INK, _MUTED, _LINE = "#010101", "#020202", "#030303"
_SERIES = tuple(f"#0a000{number}" for number in range(1, 7))
_VARIABLES = {_INK: "--ink", _MUTED: "--muted", _LINE: "--line"} | {
    colour: f"--series-{number}" for number, colour in enumerate(_SERIES, 1)
}
_STYLE: Any = {  # its type lists all names of settings, which differ between versions
    "svg.fonttype": "none",
    "text.parse_math": False,  # a "$" in a name must not start a formula
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.titlesize": 9,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=list(_SERIES)),
    "grid.color": _LINE,
    "grid.linewidth": 0.5,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "text.color": _INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
_PLAIN = FuncFormatter(lambda value, _: f"{value:g}")
_MOST_HISTOGRAMS = 8
_MOST_MEMBERS = 30
_LONGEST_NAME = 28


@contextmanager
def _drawing() -> Iterator[None]:
    with mpl.rc_context(_STYLE):
        yield


def _svg(figure: Figure, description: str) -> Markup:
    """Return a figure as inline SVG with a text alternative; ids are made unique by the figure's own content."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight", pad_inches=0.04)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)  # including any from names
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    used = set(re.findall(r'(?:url\(#|href="#)([\w-]+)', text))
    prefix = f"f{zlib.crc32(description.encode()):08x}-"
    text = re.sub(r' id="([\w.-]+)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(url\(#|href="#)([\w-]+)', lambda m: f"{m[1]}{prefix}{m[2]}", text)
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    width = float(size[1]) if size else 400.0
    head = f'<svg role="img" aria-label="{escape(description)}" style="max-width:{width * 1.35:.0f}px"'
    text = re.sub(r'<svg\b(?: width="[^"]*"| height="[^"]*")*', lambda _: head, text, count=1)
    for _ in range(2):  # width and height, which the page sets
        text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*pt"', r"\1", text)
    return Markup(re.sub(r"\n\s*", "\n", text))  # matplotlib escapes the text that it draws


def _short(name: str) -> str:
    name = "".join(character if character.isprintable() else "?" for character in name)
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _lines(axes: Axes, curves: Sequence[Curve], **options: Any) -> None:
    for curve in curves:
        x, y = zip(*curve.points, strict=True)
        axes.plot(x, y, label=_short(curve.name), **options)


def roc_figure(curves: Sequence[Curve]) -> Markup:
    """Draw ROC curves."""
    with _drawing():
        figure = Figure(figsize=(3.7, 3.3), layout="constrained")
        axes = figure.subplots()
        _lines(axes, curves)
        axes.plot([0, 1], [0, 1], color=_LINE, linewidth=1)
        axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.01))
        axes.legend(loc="lower right")
        return _svg(figure, f"ROC curves of {', '.join(curve.name for curve in curves)}")


def low_fpr_figure(curves: Sequence[Curve]) -> Markup:
    """Draw ROC curves with a logarithmic axis that spreads the low false positive rates."""
    with _drawing():
        figure = Figure(figsize=(3.7, 3.3), layout="constrained")
        axes = figure.subplots()
        _lines(axes, curves, drawstyle="steps-post")
        axes.set_xscale("log")
        smallest = min((x for curve in curves for x, _ in curve.points if x > 0), default=1e-3)
        axes.set(xlabel="false positive rate, logarithmic", ylabel="true positive rate")
        axes.set(xlim=(max(smallest, 1e-5), 1), ylim=(0, 1.01))
        axes.xaxis.set_major_formatter(_PLAIN)  # the default formatter writes powers of ten as formulas
        axes.xaxis.set_minor_formatter(NullFormatter())
        for rate in (1e-3, 5e-3, 1e-2):
            axes.axvline(rate, color=_MUTED, linewidth=0.6, linestyle=":")
        return _svg(figure, f"The same curves at low false positive rates: {', '.join(curve.name for curve in curves)}")


def precision_recall_figure(curves: Sequence[Curve]) -> Markup:
    """Draw precision against recall."""
    with _drawing():
        figure = Figure(figsize=(3.7, 3.3), layout="constrained")
        axes = figure.subplots()
        _lines(axes, curves)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1))
        return _svg(figure, f"Precision-recall curves of {', '.join(curve.name for curve in curves)}")


def reliability_figure(curves: Sequence[Curve], description: str = "") -> Markup:
    """Draw the frequency of positives against the predicted probability."""
    with _drawing():
        figure = Figure(figsize=(3.7, 3.3), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=_LINE, linewidth=1)
        _lines(axes, curves, marker="o", markersize=2.5)
        axes.set(xlabel="predicted probability", ylabel="share of positives", xlim=(0, 1), ylim=(0, 1))
        axes.legend(loc="upper left")
        return _svg(figure, description or f"Reliability curves of {', '.join(curve.name for curve in curves)}")


def training_figure(training: TrainingCurves) -> Markup:
    """Draw training loss and validation AUC by epoch, one line per fold."""
    with _drawing():
        figure = Figure(figsize=(7.4, 2.4), layout="constrained")
        loss, auc = figure.subplots(1, 2)
        for axes, curves, label in ((loss, training.loss, "training loss"), (auc, training.auc, "validation AUC")):
            _lines(axes, curves, linewidth=1.1)
            axes.set(xlabel="epoch", ylabel=label)
        auc.legend(fontsize=7, ncols=2)
        return _svg(figure, f"Training loss and validation AUC by epoch of {training.model}, one line per fold")


def correlation_figure(panel: DiversityPanel) -> Markup:
    """Draw rank correlations as a heat map, models in clustered order; values are written for up to 12 models."""
    values = np.array(panel.correlations)
    count = len(panel.names)
    with _drawing():
        side = min(7.0, 2.2 + 0.32 * count)
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        low = float(np.nanmin(values)) if np.isfinite(values).any() else 0.0
        image = axes.imshow(values, cmap="cividis", vmin=min(low, 0.9), vmax=1)
        names = [_short(name) for name in panel.names]
        size = 8 if count <= 20 else 5
        axes.set_xticks(range(count), names, rotation=90, fontsize=size)
        axes.set_yticks(range(count), names, fontsize=size)
        axes.grid(visible=False)
        if count <= 12:
            middle = (min(low, 0.9) + 1) / 2
            for a in range(count):
                for b in range(count):
                    colour = "black" if values[a, b] > middle else "white"
                    text = f"{values[a, b]:.2f}".replace("-", "−").replace("0.", ".", 1)
                    text = text if np.isfinite(values[a, b]) else "–"
                    axes.text(b, a, text, ha="center", va="center", fontsize=7, color=colour)
        figure.colorbar(image, ax=axes, fraction=0.046, label="rank correlation")
        return _svg(figure, f"Rank correlations of {count} models, in clustered order")


def members_figure(panel: DiversityPanel) -> Markup:
    """Draw what each member adds, with its interval."""
    members = panel.members[::-1]
    with _drawing():
        figure = Figure(figsize=(4.6, 0.9 + 0.22 * len(members)), layout="constrained")
        axes = figure.subplots()
        gains = np.array([item.gain for item in members])
        spread = np.array([[item.gain - item.low for item in members], [item.high - item.gain for item in members]])
        axes.errorbar(gains, range(len(members)), xerr=spread, fmt="o", color=_SERIES[0], markersize=4, linewidth=1)
        axes.axvline(0, color=_MUTED, linewidth=0.8)
        axes.set_yticks(range(len(members)), [f"{_short(item.name)} ({100 * item.weight:.0f} %)" for item in members])
        axes.set_xlabel("AUC lost without the member")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        return _svg(figure, "AUC that the blend loses without each member, with 95 % intervals")


def weights_figure(summary: BlendSummary) -> Markup:
    """Draw the weight of each member, and its weights in the fits without each fold."""
    members = sorted(summary.members, key=lambda member: -member.weight)[:_MOST_MEMBERS][::-1]
    with _drawing():
        figure = Figure(figsize=(4.6, 0.9 + 0.22 * len(members)), layout="constrained")
        axes = figure.subplots()
        for place, member in enumerate(members):
            axes.plot(member.fold_weights, [place] * len(member.fold_weights), "|", color=_SERIES[1], markersize=8)
        axes.plot([member.weight for member in members], range(len(members)), "o", color=_SERIES[0], markersize=4)
        axes.axvline(0, color=_MUTED, linewidth=0.8)
        axes.set_yticks(range(len(members)), [_short(member.name) for member in members])
        axes.set_xlabel("weight in the blend; ticks: without each fold")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return _svg(figure, f"Weights of {len(members)} members, and their spread over the folds")


def calibration_figure(report: CalibrationReport) -> Markup:
    """Draw the reliability of the blend before and after calibration."""
    curves = [
        Curve(name, tuple((item.mean_prediction, item.positive_share) for item in bins))
        for name, bins in (("before", report.before), (f"after ({report.method})", report.after))
    ]
    return reliability_figure(curves, "Reliability of the blend before and after calibration")


def growth_figure(panel: DiversityPanel, metric: str) -> Markup:
    """Draw the nested score against the number of members."""
    with _drawing():
        figure = Figure(figsize=(3.7, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(*zip(*panel.growth, strict=True), marker="o", markersize=4)
        axes.set(xlabel="members, by falling weight", ylabel=f"nested {metric_label(metric)}")
        axes.set_xticks([size for size, _ in panel.growth])
        return _svg(figure, "Nested score of the blend by the number of members")


def shift_figure(panel: ShiftPanel) -> Markup:
    """Draw the distribution of OOF and test predictions of the models that moved most."""
    shown = sorted(panel.models, key=lambda row: -row.distance)[:_MOST_HISTOGRAMS]
    with _drawing():
        columns = min(4, len(shown))
        lines = -(-len(shown) // columns)
        figure = Figure(figsize=(1.9 * columns + 0.4, 1.6 * lines + 0.3), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes in grid.flat[len(shown) :]:
            axes.set_visible(False)
        for axes, row in zip(grid.flat, shown, strict=False):
            edges = np.linspace(row.low, row.high, len(row.oof) + 1)
            axes.stairs(row.oof, edges, color=_SERIES[0], label="OOF")
            axes.stairs(row.test, edges, color=_SERIES[1], label="test")
            axes.set_title(_short(row.name), fontsize=8)
            axes.set_yticks([])
            axes.xaxis.set_major_locator(MaxNLocator(2))
        grid.flat[0].legend(fontsize=7)
        return _svg(figure, f"Distributions of OOF and test predictions of {', '.join(row.name for row in shown)}")


def groups_figure(panel: ShiftPanel) -> Markup:
    """Draw the AUC within each group, the weakest on top."""
    rows = panel.groups[::-1]
    with _drawing():
        figure = Figure(figsize=(4.6, 0.8 + 0.2 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.plot([row.auc for row in rows], range(len(rows)), "o", color=_SERIES[0], markersize=4)
        axes.set_yticks(range(len(rows)), [f"{_short(row.group)} ({row.rows:,})" for row in rows], fontsize=7)
        axes.set_xlabel(f"AUC of {_short(panel.scored)} within the {panel.groups_of[:-1]} (rows)")
        return _svg(figure, f"AUC within each of {len(rows)} {panel.groups_of}, the weakest first")


def submissions_figure(panel: SubmissionsPanel) -> Markup | None:
    """Draw public scores in the order of submission, and CV against public score with the fit."""
    scored = [(place, row) for place, row in enumerate(panel.rows, 1) if row.public is not None]
    if not scored:
        return None
    with _drawing():
        figure = Figure(figsize=(7.4, 2.8), layout="constrained")
        timeline, track = figure.subplots(1, 2)
        places, public = [place for place, _ in scored], [row.public for _, row in scored]
        timeline.plot(places, public, marker="o", markersize=4, label="public score")
        cv = [(place, row.cv) for place, row in scored if row.cv is not None]
        if cv:
            timeline.plot(*zip(*cv, strict=True), marker=".", linestyle=":", label="CV")
        for name, score in panel.medals:
            timeline.axhline(score, color=_MUTED, linewidth=0.7, linestyle="--")
            timeline.annotate(
                f"{name} {score:.4f}", (1, score), (3, 0), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="left", va="center", fontsize=7, color=_MUTED,
            )  # fmt: skip
        timeline.set(xlabel="submission")
        timeline.xaxis.set_major_formatter(_PLAIN)
        timeline.xaxis.set_major_locator(MaxNLocator(integer=True))
        timeline.legend()
        both = [(row.cv, row.public, row.name if row.remark else "") for _, row in scored if row.cv is not None]
        for off, colour, label in ((False, _SERIES[0], "submissions"), (True, _SERIES[3], "off the line")):
            points = [(x, y) for x, y, name in both if bool(name) == off]
            if points:
                track.scatter(*zip(*points, strict=True), color=colour, s=18, label=label, zorder=3)
        for x, y, name in both:
            if name:
                track.annotate(_short(name), (x, y), (4, 4), textcoords="offset points", fontsize=7, color=_SERIES[3])
        if panel.fit and both:
            slope, intercept, spread = panel.fit
            ends = np.array([min(x for x, _, _ in both), max(x for x, _, _ in both)], dtype=np.float64)
            line = intercept + slope * ends
            track.plot(ends, line, color=_MUTED, linewidth=1, label="fit")
            band = {"color": _MUTED, "alpha": 0.15, "linewidth": 0, "label": "fit ± 2 standard deviations"}
            track.fill_between(ends, line - 2 * spread, line + 2 * spread, **band)
            track.legend(loc="upper left")
        track.set(xlabel="CV", ylabel="public score")
        return _svg(figure, f"Public scores of {len(scored)} submissions in order, and against their CV")
