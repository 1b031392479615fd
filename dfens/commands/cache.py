"""`dfens cache`: store resized images, so that no epoch has to decode them again."""

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.options import threads_option
from dfens.workspace.paths import Workspace


@click.command("cache", short_help="Store resized images, so that epochs need not decode them again.")
@click.option("--model", "names", multiple=True, metavar="NAME", help="Only for this model; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Only show what is stored, what is missing, and the expected size.")
@click.option("--remove", is_flag=True, help="Remove the caches instead; without --model, all of them.")
@threads_option("decoding threads")
@pass_workspace
def command(
    workspace: Workspace, console: Console, names: tuple[str, ...], dry_run: bool, remove: bool, threads: int
) -> None:
    """Create the caches for the models in dfens.toml, one for each image size and decoder.

    Pixels are stored exactly as decoded (98 GB for 500,000 images of 256 px), so results are bit-identical.
    A cache is useful if the images do not fit into memory and decoding is slower than the
    network; images that fit are decoded only once anyway, and decode = "gpu" does not use a cache. dfens train reads
    unchanged files from the cache. An interrupted run resumes. The caches are in
    work/trainers/cache, which may be a symbolic link to another disk.
    """
    from dfens.views.cache import cache_notes, show_caches
    from dfens.workflows.cache import update_caches

    found = update_caches(workspace, names, dry_run=dry_run, remove=remove, threads=threads, progress=console.progress)
    console.notes(cache_notes(found))
    console.show(found, show_caches(found))
