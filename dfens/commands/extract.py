"""`dfens extract`: frames, key frames, faces and sound of clips, read once for all models."""

from pathlib import Path

import click

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.options import threads_option
from dfens.workspace.paths import Workspace


@click.command("extract", short_help="Extract frames and sound from clips, once for all models.")
@click.option("--dry-run", is_flag=True, help="Only show what is there and what is missing.")
@click.option("--retry", is_flag=True, help="Read again the clips that could not be read before.")
@click.option("--remove", is_flag=True, help="Remove everything that was extracted instead.")
@click.option("--sheet", type=click.Path(path_type=Path), metavar="PNG", help="Draw a contact sheet to look at.")
@click.option("--sheet-clips", type=click.IntRange(min=1), default=12, help="Clips on the sheet; default 12.")
@threads_option("clips read side by side")
@pass_workspace
def command(
    workspace: Workspace,
    console: Console,
    dry_run: bool,
    retry: bool,
    remove: bool,
    sheet: Path | None,
    sheet_clips: int,
    threads: int,
) -> None:
    """Read each clip once and store what the models need: frames, key frames, sound and log-mel spectrogram.

    Frames are evenly spread and read by jumping between key frames. With faces = "FILE.onnx" (YuNet or CenterFace)
    they are cropped around the main face, else around the centre. A clip that was read is never read again, also if
    it was moved; a run that was interrupted or killed resumes. A clip that cannot be read is listed with its
    reason. dfens train extracts what is missing by itself. The features are in work/trainers/clips, which may be a
    link to another disk.
    """
    from dfens.views.extract import extract_notes, show_extractions
    from dfens.workflows.extract import ExtractRequest, extract

    request = ExtractRequest(
        threads=threads,
        dry_run=dry_run,
        retry=retry,
        remove=remove,
        sheet=None if sheet is None else workspace.resolve(sheet),
        sheet_clips=sheet_clips,
    )
    found = extract(workspace, request, console.progress)
    console.notes(extract_notes(found))
    console.show(found, show_extractions(found))
