"""`dfens demo`: the whole main job on a small generated competition."""

import shlex
import sys
import time
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import click

from dfens.app import App, pass_app

_STEPS = ("check", "folds", "train --fold 0-4", "blend --optimize auc", "submit --dry-run")


@click.command("demo", short_help="The whole main job on a small generated competition.")
@click.argument("folder", metavar="[DIR]", default="demo", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--images",
    type=click.IntRange(min=40),
    default=512,
    show_default=True,
    help="Training images; half as many to predict.",
)
@pass_app
def command(app: App, folder: Path, images: int) -> None:
    """Draw a small competition into DIR, run every step on it, and compare the scores with the truth.

    The steps are the commands that a user would type; each is shown before it runs. Run again,
    it goes on where it stopped.
    """
    from dfens.cli import cli
    from dfens.demo.competition import make_competition, result_table
    from dfens.views.tables import make_table

    begun = time.monotonic()
    folder = app.root / folder
    make_competition(folder, train_rows=images, test_rows=images // 2, progress=app.progress)
    shown = shlex.quote(str(folder))
    for step in _STEPS:
        app.say(f"\n$ dfens -C {shown} {step}")
        with redirect_stdout(sys.stderr) if app.as_json else nullcontext():
            code = cli.main(["-C", str(folder), *step.split()], prog_name="dfens", standalone_mode=False)
        if isinstance(code, int) and code:
            raise click.exceptions.Exit(code)
    table = result_table(folder)
    submission = max((folder / "work" / "submissions").glob("*.csv"), key=lambda path: path.stat().st_mtime)
    app.emit(
        {"scores": table.to_dict("records"), "submission": submission, "seconds": time.monotonic() - begun},
        "",
        make_table(table, title="Scores, and the truth that only the demo knows", decimals=4, bold=len(table) - 1),
        "OOF AUC of the blend: on the rows that its weights were fitted on; "
        "nested AUC: on rows that they have not seen.\n"
        f"Submission file: {submission}\n"
        f"Done in {time.monotonic() - begun:.0f} s. Next: dfens -C {shown} status",
    )
