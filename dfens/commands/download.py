"""`dfens download`: the competition's files, through the Kaggle client."""

import click

from dfens.app import App, pass_app


@click.command("download", short_help="Fetch the competition's files.")
@click.option("--file", "names", metavar="NAME", multiple=True, help="Only this file; may be repeated.")
@click.option("--list", "only_list", is_flag=True, help="List the files and their sizes, fetch nothing.")
@click.option("--keep-archive", is_flag=True, help="Keep the zip in work/submissions/download after unpacking.")
@click.option("--force", is_flag=True, help="Fetch again what is there.")
@pass_app
def command(app: App, names: tuple[str, ...], only_list: bool, keep_archive: bool, force: bool) -> None:
    """Fetch the competition's files into [data] root and unpack them.

    A download that breaks off goes on where it stopped, also in the next run. A second run does
    nothing. What an archive may not do: leave the folder, bring links, or fill the disk.
    """
    import os

    import pandas as pd

    from dfens.views.tables import make_table
    from submissions.kaggle.client import KaggleClient
    from submissions.kaggle.download import download_all, download_some

    config, folder, state = app.config, app.config.data.root, app.work / "submissions" / "download"
    with KaggleClient(config.competition.slug, config.submissions, os.environ, app.progress) as client:
        if only_list:
            sizes = client.files()
            table = pd.DataFrame({"file": list(sizes), "MB": [f"{size / 1e6:,.3f}" for size in sizes.values()]})
            app.emit({"files": sizes}, make_table(table, title=f"{config.competition.slug}: {len(sizes)} files"))
            return
        if names:
            found = download_some(client, names, folder, state, force=force, progress=app.progress)
        else:
            found = download_all(client, folder, state, keep_archive=keep_archive, force=force, progress=app.progress)
    lines = [f"{found.files} files, {found.bytes / 1e6:,.1f} MB in {folder}."]
    if not found.fetched:
        lines = [f"Nothing to do: {lines[0]}"]
    if found.archives:
        lines.append(f"Some are archives of their own and were left as they are: {', '.join(found.archives[:5])}")
    lines.append("Next: dfens check")
    app.emit({"folder": folder, "files": found.files, "bytes": found.bytes, "fetched": found.fetched}, *lines)
