"""`dfens check`: are labels and media fit for training?"""

import os

import click

from dfens.app import App, pass_app


@click.command("check", short_help="Check labels and media before training.")
@click.option("--decode", is_flag=True, help="Decode every image (else all of a small set, 1,000 of each large part).")
@click.option("--workers", type=click.IntRange(min=1), help="Threads; default one per processor.")
@pass_app
def command(app: App, decode: bool, workers: int | None) -> None:
    """Read labels and media: counts, balance, missing, unreadable and identical images.

    Finds are listed by name, and in full in work/reports/check. Exit code 1 where training or
    prediction would go wrong; [data] skip_broken = true leaves broken training rows out.
    """
    import pandas as pd

    from dfens.views.tables import make_table
    from dfens.workflows.status import read_status
    from dfens.workspace.changes import changes_since_folds
    from trainers.data.check import check_data
    from trainers.data.groups import hash_cache
    from trainers.data.layouts import scan_competition

    competition = scan_competition(app.config.data)
    report = check_data(
        competition,
        decode=decode,
        k=app.config.folds.k,
        workers=workers or len(os.sched_getaffinity(0)),
        report_dir=app.work / "reports" / "check",
        quarantine=app.quarantine_path,
        hash_cache=hash_cache(app.work / "trainers"),
        progress=app.progress,
    )
    table = pd.DataFrame(
        [
            {
                "part": part.part,
                "rows": part.rows,
                "real": _count(part.real),
                "fake": _count(part.fake),
                "fake_share": None if part.fake is None else part.fake / max(1, part.rows),
                "MB": part.files_mb,
                "decoded": part.decoded,
                "unreadable": part.unreadable,
                "sizes": ", ".join(f"{size}: {count}" for size, count in part.sizes.items())
                + (
                    f" and {part.distinct_sizes - len(part.sizes)} more"
                    if part.distinct_sizes > len(part.sizes)
                    else ""
                ),
            }
            for part in report.parts
        ]
    )
    lines = []
    for problem in report.problems:
        where = report.lists.get(f"{problem.part}-{problem.kind}")
        more = f" All: {where}" if where is not None and len(problem.items) > 5 else ""
        lines.append(f"{'Error' if problem.is_error else 'Warning'}: {problem.found} {problem.remedy}{more}")
    changes = changes_since_folds(app.predictions, competition)
    lines += [f"Warning: {change}" for change in changes]
    lines += [f"Note: {note}" for note in report.notes]
    if report.left_out:
        lines.append(f"Left out of training: {len(report.left_out)} rows, listed in {report.lists['left-out']}")
    if report.ok:
        lines.append(f"Next: {read_status(app).next if app.predictions.has_folds() else 'dfens folds'}")
    else:
        lines.append("Training would go wrong: correct the errors, then run dfens check again.")
    app.emit(
        report.as_json() | {"changes": changes}, make_table(table, percent=["fake_share"], decimals=1), "\n".join(lines)
    )
    if not report.ok:
        click.get_current_context().exit(1)


def _count(value: int | None) -> str | None:
    """A whole number as text, since a column with gaps would turn it into a float."""
    return None if value is None else str(value)
