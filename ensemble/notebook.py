"""HTML representation of a blend for notebooks and for the page of `dfens report`."""

from collections.abc import Iterator
from html import escape

from ensemble.summary import BlendSummary, MemberScore
from oof.metrics import metric_label

_NUMBER = "text-align: right; font-variant-numeric: tabular-nums"


def blend_html(summary: BlendSummary) -> str:
    """Return the HTML that shows a blend: its two scores, the verdict, its members, and the effect of calibration.

    It uses the colours of the notebook or page, so it fits light and dark themes; names are escaped.
    """
    metric = escape(metric_label(summary.metric))
    low, high = summary.nested_interval
    several = len(summary.members) > 1  # a single member equals what it would be compared with
    parts = [
        f"<p><b>Nested {metric} {summary.nested_score:.5f}</b> ({low:.5f} to {high:.5f}, 95 %), on "
        f"{summary.nested_score_of}. {summary.score:.5f} on {summary.score_of}.</p>",
        f"<p>{escape(summary.verdict)}</p>" if several else "",
        _members(summary),
        _table(("compared with", "gain", "95 %"), _comparisons(summary)) if several else "",
        _calibration(summary),
        "".join(f"<li>{escape(warning)}</li>" for warning in summary.warnings).join(("<ul>", "</ul>"))
        if summary.warnings
        else "",
    ]
    return f'<div class="dfens-blend">{"".join(parts)}</div>'


def _members(summary: BlendSummary) -> str:
    folds = any(member.fold_weights for member in summary.members)
    own = f"own {metric_label(summary.metric)}"
    heads = ("member", "weight", *(["weight without each fold"] if folds else []), own)
    rows = (
        (member.name, _percent(member.weight), *([_spread(member)] if folds else []), f"{member.score:.5f}")
        for member in sorted(summary.members, key=lambda member: -member.weight)
    )
    return _table(heads, rows)


def _spread(member: MemberScore) -> str:
    if not member.fold_weights:
        return "–"
    return f"{_percent(min(member.fold_weights))} to {_percent(max(member.fold_weights))}"


def _percent(share: float) -> str:
    return _minus(f"{100 * share:.1f} %")


def _minus(text: str) -> str:
    """Return numbers with a minus sign instead of a hyphen."""
    return text.replace("-", "−")


def _comparisons(summary: BlendSummary) -> Iterator[tuple[str, ...]]:
    for item in summary.comparisons:
        interval = f"{item.interval[0]:+.5f} to {item.interval[1]:+.5f}"
        yield item.other, _minus(f"{item.gain:+.5f}"), _minus(interval)


def _calibration(summary: BlendSummary) -> str:
    found = summary.calibration
    if found is None:
        return ""
    rows = (
        ("log loss", *(f"{value:.4f}" for value in found.log_loss)),
        ("calibration error", *(f"{value:.4f}" for value in found.calibration_error)),
    )
    return _table((f"calibration ({found.method})", "before", "after"), iter(rows))


def _table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """Return a table whose first column is text and whose others are numbers; "" without rows."""
    body = "".join(
        f'<tr><td style="text-align: left">{escape(name)}</td>'
        + "".join(f'<td style="{_NUMBER}">{escape(value)}</td>' for value in values)
        + "</tr>"
        for name, *values in rows
    )
    if not body:
        return ""
    first, *others = map(escape, heads)
    head = f'<th style="text-align: left">{first}</th>' + "".join(f'<th style="{_NUMBER}">{o}</th>' for o in others)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
