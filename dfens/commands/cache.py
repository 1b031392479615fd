"""`dfens cache`: resized images on disk, so that no epoch decodes them again."""

import os

import click

from dfens.app import App, pass_app


@click.command("cache", short_help="Store resized images, so that no epoch decodes them again.")
@click.option(
    "--model", "names", multiple=True, metavar="NAME", help="Only for this model; may be given more than once."
)
@click.option("--dry-run", is_flag=True, help="Only tell what is there, what is missing and how large it would be.")
@click.option("--remove", is_flag=True, help="Remove the caches instead; without --model, all that are there.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads that decode images; default one per core.")
@pass_app
def command(app: App, names: tuple[str, ...], dry_run: bool, remove: bool, threads: int | None) -> None:
    """Make the caches that the models of dfens.toml can use, one for each size and way of decoding.

    Pixels are stored as decoded (98 GB for 500,000 images of 256 px), so results stay the same to the last bit.
    It pays where the images do not fit into memory and decoding, not the network, is what training waits for;
    images that fit are decoded once and kept anyway, and decode = "gpu" takes none. dfens train uses a cache
    where it holds a file as it is now. A run that was killed goes on where it was. The caches lie in
    work/trainers/cache, which may be a link to another disk.
    """
    import shutil

    import pandas as pd

    from dfens.options import chosen_models
    from dfens.views.tables import make_table
    from trainers.media.image_cache import ImageCache
    from trainers.settings import TimmSettings

    threads = threads or os.cpu_count() or 1
    folder = app.work / "trainers" / "cache"
    competition = app.competition()
    paths = [*competition.train["path"], *competition.test["path"]]
    wanted = {
        (settings.crop or settings.image_size, settings.host_decode)
        for settings in chosen_models(app.config.models, names).values()
        if isinstance(settings, TimmSettings) and settings.decode != "gpu"
    }
    if remove:
        patterns = [f"{edge}px-{decode}-*" for edge, decode in wanted] if names else ["*px-*"]
        for old in {path for pattern in patterns for path in folder.glob(pattern)}:
            shutil.rmtree(old)
    rows, broken, used = [], [], set()
    for edge, decode in sorted(wanted):
        cache = ImageCache(folder, edge, decode, app.root)
        used.add(cache.folder.name)
        plan = cache.plan(paths, threads)
        if plan.missing and not (dry_run or remove):
            app.say(
                f"{plan.missing:,} images of {edge} px will take {plan.bytes_needed / 1e9:.2f} GB; "
                f"{plan.bytes_free / 1e9:.1f} GB are free."
            )
            broken += cache.make(paths, threads, app.progress)
            plan = cache.plan(paths, threads)
        rows.append(
            {
                "edge": edge,
                "decode": decode,
                "images": plan.images,
                "cached": plan.images - plan.missing,
                "GB": plan.bytes_made / 1e9,
                "GB to come": plan.bytes_needed / 1e9,
                "GB free": plan.bytes_free / 1e9,
                "folder": os.path.relpath(cache.folder, app.root),
            }
        )
    for message in dict.fromkeys(broken):
        app.say(f"Left out: {message}")
    unused = sorted(path.name for path in folder.glob("*px-*") if path.name not in used)
    if unused and not names:
        app.say(f"No model uses {', '.join(unused)} now; dfens cache --remove removes all caches.")
    app.emit(
        {"caches": rows, "left_out": broken, "unused": unused},
        make_table(pd.DataFrame(rows), title="Caches", decimals=2),
    )
