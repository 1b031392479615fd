"""`dfens cache`: resized images on disk, so that no epoch decodes them again."""

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.options import threads_option
from dfens.workspace.paths import Workspace


@click.command("cache", short_help="Store resized images, so that no epoch decodes them again.")
@click.option("--model", "names", multiple=True, metavar="NAME", help="Only for this model; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Only show what is there, what is missing and how large it would be.")
@click.option("--remove", is_flag=True, help="Remove the caches instead; without --model, all of them.")
@threads_option("decoding threads")
@pass_workspace
def command(
    workspace: Workspace, console: Console, names: tuple[str, ...], dry_run: bool, remove: bool, threads: int
) -> None:
    """Make the caches that the models of dfens.toml can use, one for each size and way of decoding.

    Pixels are stored as decoded (98 GB for 500,000 images of 256 px), so results stay the same to the last bit.
    A cache pays where the images do not fit into memory and training waits for decoding rather than for the
    network; images that fit are decoded once anyway, and decode = "gpu" uses none. dfens train uses a cache
    for each file that has not changed since. An interrupted run resumes. The caches are in
    work/trainers/cache, which may be a link to another disk.
    """
    from dfens.views.cache import cache_notes, show_caches
    from dfens.workflows.cache import update_caches

    found = update_caches(workspace, names, dry_run=dry_run, remove=remove, threads=threads, progress=console.progress)
    console.notes(cache_notes(found))
    console.show(found, show_caches(found))
