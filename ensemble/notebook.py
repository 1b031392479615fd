"""A blend as HTML for notebooks."""

from html import escape

from ensemble.summary import BlendSummary

_NUMBER = "text-align: right; font-variant-numeric: tabular-nums"


def blend_html(summary: BlendSummary) -> str:
    """Return the panel that a notebook shows for a blend: its two scores, its members, and the verdict.

    Colours are those of the notebook, so that it suits light and dark themes; names are escaped.
    """
    metric = escape(summary.metric)
    low, high = summary.nested_interval
    rows = "".join(
        f'<tr><td style="text-align: left">{escape(member.name)}</td>'
        f'<td style="{_NUMBER}">{member.weight:.1%}</td><td style="{_NUMBER}">{member.score:.5f}</td></tr>'
        for member in sorted(summary.members, key=lambda member: -member.weight)
    )
    warnings = "".join(f"<li>{escape(warning)}</li>" for warning in summary.warnings)
    return (
        f'<div class="dfens-blend"><p><b>Nested {metric} {summary.nested_score:.5f}</b> '
        f"({low:.5f} to {high:.5f}, 95 %), on rows that the weights have not seen; "
        f"{summary.score:.5f} on the rows that they were fitted on.</p>"
        f'<table><thead><tr><th style="text-align: left">member</th><th>weight</th><th>own {metric}</th></tr></thead>'
        f"<tbody>{rows}</tbody></table><p>{escape(summary.verdict)}</p>"
        f"{f'<ul>{warnings}</ul>' if warnings else ''}</div>"
    )
