"""`dfens demo`: the whole pipeline on a small generated competition."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import click

from dfens.console import Console
from dfens.demo import COMPETITIONS
from dfens.invocation import pass_workspace
from dfens.workspace.paths import Workspace


@click.command("demo", short_help="Run the whole pipeline on a small generated competition.")
@click.argument("folder", metavar="[DIR]", default="demo", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--recipe", type=click.Choice(list(COMPETITIONS)), default="demo", show_default=True, help="Which competition."
)
@click.option(
    "--images",
    type=click.IntRange(min=40),
    help="Number of training rows, with half as many test rows; default 512 images or 300 clips.",
)
@pass_workspace
def command(workspace: Workspace, console: Console, folder: Path, recipe: str, images: int | None) -> None:
    """Generate a small competition in DIR, run every step on it, and compare the scores with the true ones.

    The steps are the commands that a user would type; each is shown before it runs. If run again,
    the demo resumes where it stopped.
    """
    from dfens.views.demo import show_demo
    from dfens.workflows.demo import run_demo

    cli = click.get_current_context().find_root().command

    def run_command(arguments: Sequence[str]) -> int:
        with redirect_stdout(sys.stderr) if console.as_json else nullcontext():
            code = cli.main(list(arguments), prog_name="dfens", standalone_mode=False)
        return code if isinstance(code, int) else 0

    found = run_demo(workspace.resolve(folder), run_command, recipe=recipe, images=images, progress=console.progress)
    if found.failed:
        click.get_current_context().exit(found.failed)
    console.show(found, show_demo(found))
