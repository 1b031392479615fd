"""`dfens download`: download the competition's files with the Kaggle client."""

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.workspace.paths import Workspace


@click.command("download", short_help="Download the competition's files.")
@click.option("--file", "names", metavar="NAME", multiple=True, help="Only this file; may be repeated.")
@click.option("--list", "only_list", is_flag=True, help="List the files and their sizes without downloading.")
@click.option("--keep-archive", is_flag=True, help="Keep the zip in work/submissions/download after unpacking.")
@click.option("--force", is_flag=True, help="Download again, and replace files that differ.")
@pass_workspace
def command(
    workspace: Workspace, console: Console, names: tuple[str, ...], only_list: bool, keep_archive: bool, force: bool
) -> None:
    """Download the competition's files into [data] root and unpack them.

    An interrupted download resumes where it stopped, also in the next run. A second run does
    nothing. An archive that would write outside the folder, create links or fill the disk is refused.
    """
    from dfens.views.download import show_download, show_files
    from dfens.workflows.download import download, list_files

    if only_list:
        files = list_files(workspace, console.progress)
        console.show({"files": {file.name: file.bytes for file in files.files}}, show_files(files))
        return
    found = download(workspace, names, keep_archive=keep_archive, force=force, progress=console.progress)
    console.show(found, show_download(found))
