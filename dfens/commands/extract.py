"""`dfens extract`: extract frames, key frames, faces and sound from clips, once for all models."""

from pathlib import Path

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.options import threads_option
from dfens.workspace.paths import Workspace


@click.command("extract", short_help="Extract frames and sound from clips, once for all models.")
@click.option("--dry-run", is_flag=True, help="Only show what is stored and what is missing.")
@click.option("--retry", is_flag=True, help="Retry clips that could not be read before.")
@click.option("--remove", is_flag=True, help="Remove all extracted features instead.")
@click.option("--sheet", type=click.Path(path_type=Path), metavar="PNG", help="Draw a contact sheet of some clips.")
@click.option("--force", is_flag=True, help="Replace the file of --sheet if it exists.")
@click.option(
    "--sheet-clips", type=click.IntRange(1, 500), default=12, help="Number of clips on the sheet; default 12."
)
@threads_option("clips read in parallel")
@pass_workspace
def command(
    workspace: Workspace,
    console: Console,
    dry_run: bool,
    retry: bool,
    remove: bool,
    sheet: Path | None,
    force: bool,
    sheet_clips: int,
    threads: int,
) -> None:
    """Read each clip once and store what the models need: frames, key frames, sound and log-mel spectrogram.

    Frames are evenly spaced and read by seeking to key frames. With faces = "FILE.onnx" (YuNet or CenterFace)
    they are cropped around the main face, otherwise around the centre. Each clip is read only once, even if
    it is moved; an interrupted or killed run resumes. A clip that cannot be read is listed with the
    reason. dfens train extracts missing features by itself. The features are in work/trainers/clips, which may be a
    symbolic link to another disk.
    """
    from dfens.views.extract import extract_notes, show_extractions
    from dfens.workflows.extract import ExtractRequest, extract

    request = ExtractRequest(
        threads=threads,
        dry_run=dry_run,
        retry=retry,
        remove=remove,
        sheet=None if sheet is None else workspace.resolve_output(sheet, force=force),
        sheet_clips=sheet_clips,
    )
    found = extract(workspace, request, console.progress)
    console.notes(extract_notes(found))
    console.show(found, show_extractions(found))
