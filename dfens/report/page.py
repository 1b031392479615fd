"""A report as one self-contained HTML page: no network, no external files, nothing executed that comes from data."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from dfens.report import figures
from dfens.report.report import Report
from ensemble.notebook import blend_html
from oof.metrics import metric_label

_LONGEST_ID = 60
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def render_page(report: Report) -> str:
    """Return the page of a report.

    The page carries a content security policy that forbids every connection, so that it cannot send anything
    anywhere even if a browser extension or a bug tried.
    """
    environment = _environment()
    blend = Markup(blend_html(report.blend)) if report.blend else None  # Jinja escapes the text
    return environment.get_template("page.html").render(report=report, figures=_figures(report), blend=blend)


def _figures(report: Report) -> dict[str, Any]:
    """Return all plots of the page by their name in the templates; None if there is nothing to draw."""
    blend, curves, diversity, shift = report.blend, report.curves, report.diversity, report.shift
    return {
        "roc": figures.roc_figure(curves.roc) if curves else None,
        "low_fpr": figures.low_fpr_figure(curves.roc) if curves else None,
        "precision_recall": figures.precision_recall_figure(curves.precision_recall) if curves else None,
        "reliability": figures.reliability_figure(curves.reliability) if curves and curves.reliability else None,
        "training": [(item.model, figures.training_figure(item)) for item in curves.training] if curves else [],
        "weights": figures.weights_figure(blend) if blend and any(m.fold_weights for m in blend.members) else None,
        "calibration": figures.calibration_figure(blend.calibration) if blend and blend.calibration else None,
        "correlations": figures.correlation_figure(diversity) if diversity else None,
        "members": figures.members_figure(diversity) if diversity and diversity.members else None,
        "growth": (
            figures.growth_figure(diversity, report.head.metric) if diversity and len(diversity.growth) > 1 else None
        ),
        "shift": figures.shift_figure(shift) if shift and shift.models else None,
        "groups": figures.groups_figure(shift) if shift and shift.groups else None,
        "submissions": figures.submissions_figure(report.submissions) if report.submissions else None,
    }


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dfens.report"),
        autoescape=lambda name: name is None or name.endswith((".html", ".svg")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., Any]] = {
        "score": _score,
        "metric": metric_label,
        "count": lambda value: "–" if value is None or value != value else f"{value:,.0f}",
        "percent": lambda value: "–" if value is None or value != value else f"{100 * value:.1f} %",
        "signed": lambda value: "–" if value is None or value != value else f"{value:+.5f}".replace("-", "−"),
        "duration": _duration,
        "short": _short,
        "waveform": _waveform,
        "unbroken": _unbroken,
        "sort_key": lambda value: "" if value is None or value != value else repr(float(value)),
    }
    environment.filters.update(filters)
    return environment


def _score(value: float | None, digits: int = 5) -> str:
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def _duration(seconds: float) -> str:
    if seconds != seconds:
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _waveform(envelope: Sequence[float]) -> str:
    """Return an envelope as an SVG path in a box of height 20, mirrored about its middle."""
    upper = [f"{x} {10 - 9.5 * value:.1f}" for x, value in enumerate(envelope)]
    lower = [f"{x} {10 + 9.5 * value:.1f}" for x, value in enumerate(envelope)][::-1]
    return f"M{'L'.join(upper + lower)}Z"


def _unbroken(text: str) -> Markup:
    """Keep options such as --dry-run on one line; browsers break lines after their hyphens."""
    return Markup(_OPTION.sub(r'<span class="unbroken">\g<0></span>', str(escape(text))))


def _short(text: str, longest: int = _LONGEST_ID) -> Markup | str:
    """Shorten long ids in the middle; the whole text is kept in the title of the element that shows it."""
    if len(text) <= longest:
        return text
    half = (longest - 1) // 2
    return f"{text[:half]}…{text[-half:]}"
