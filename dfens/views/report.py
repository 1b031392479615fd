"""The result of `dfens report` for people."""

from dfens.workflows.report import WrittenReport
from dfens.workspace.paths import Workspace


def show_report(written: WrittenReport, workspace: Workspace) -> list[str]:
    """Return failed checks and warnings, then the path of the page."""
    lines = [
        f"{check.outcome.upper()}  {check.name}: {check.sentence}"
        for check in written.report.checks
        if check.outcome in ("fail", "warn")
    ]
    lines.append(f"Report: {workspace.shown(written.page)} ({written.page_bytes / 1e6:.1f} MB)")
    lines.append(f"Next: {written.report.head.next_command}")
    return lines
