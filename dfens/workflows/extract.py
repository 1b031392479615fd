"""Extract frames, key frames, faces and sound from the clips of a competition."""

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dfens.workspace.paths import Workspace
from oof.errors import DataError
from oof.progress import SILENT, Progress
from trainers.analysis.contact_sheet import draw_sheet
from trainers.features.clips import clip_store, extract_clips
from trainers.features.settings import ExtractSettings
from trainers.kinds.registry import kind_of
from trainers.media.clip_store import ClipFailure
from trainers.media.image import is_clip
from trainers.media.stored_files import remove_store


@dataclass(frozen=True)
class Extraction:
    """The features extracted with one set of settings.

    models: models that use them. crop: "face" or "centre". clips, stored, missing, failed: numbers of clips. n_bytes:
    size on disk. failures: clips that cannot be read, with reasons. folder: folder of the features.
    """

    models: tuple[str, ...]
    frames: int
    key_frames: int
    frame_size: int
    crop: str
    sample_rate: int
    clips: int
    stored: int
    missing: int
    failed: int
    n_bytes: int
    folder: str
    failures: tuple[ClipFailure, ...]


@dataclass(frozen=True)
class Extractions:
    """The outcome of `dfens extract`: one entry for each set of settings, seconds it took, and the contact sheet."""

    extractions: tuple[Extraction, ...]
    elapsed_s: float
    sheet: str | None = None


@dataclass(frozen=True, kw_only=True)
class ExtractRequest:
    """The options of `dfens extract`.

    threads: number of clips read in parallel. dry_run: only count. retry: retry failed clips. remove: delete
    extracted features instead. sheet: PNG file for a contact sheet of up to sheet_clips clips.
    """

    threads: int
    dry_run: bool = False
    retry: bool = False
    remove: bool = False
    sheet: Path | None = None
    sheet_clips: int = 12


def extract(workspace: Workspace, request: ExtractRequest, progress: Progress = SILENT) -> Extractions:
    """Extract what the models of dfens.toml need from the clips of its competition.

    Raises:
        DataError: if the competition has images instead of clips, or if there is nothing to draw a sheet of.
    """
    competition = workspace.whole_competition()
    if not is_clip(competition.train["path"].iloc[0]):
        raise DataError(
            "This competition has images, and dfens extract reads clips. For clips, set [data] layout = "
            '"ffdv", or list files with an ending such as .mp4 in the table.'
        )
    paths = list(dict.fromkeys(competition.paths))
    if request.remove and not request.dry_run:
        _empty(workspace.clips_dir())
    started = time.monotonic()
    found = tuple(_extract(workspace, paths, *entry, request, progress) for entry in wanted(workspace))
    elapsed = time.monotonic() - started
    if request.sheet is None:
        return Extractions(found, elapsed)
    _draw(workspace, paths, request.sheet, request.sheet_clips)
    return Extractions(found, elapsed, workspace.shown(request.sheet))


def _empty(folder: Path) -> None:
    """Remove everything in a folder, which may be a link to one on another disk."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.is_dir() and not path.is_symlink():
            remove_store(path)
        else:
            path.unlink(missing_ok=True)


def _extract(
    workspace: Workspace,
    paths: list[str],
    settings: ExtractSettings,
    models: tuple[str, ...],
    request: ExtractRequest,
    progress: Progress,
) -> Extraction:
    """Extract features, or only count them, with one set of settings."""
    trainers_dir, root, threads = workspace.trainers_dir, workspace.root, request.threads
    store = clip_store(settings, trainers_dir, root)
    if request.dry_run or request.remove:
        summary = store.summary(paths, threads)
    else:
        summary = extract_clips(
            paths, settings, trainers_dir, root, threads=threads, retry=request.retry, progress=progress
        )
    return Extraction(
        models=models,
        frames=settings.frames,
        key_frames=settings.key_frames,
        frame_size=settings.frame_size,
        crop="face" if settings.faces else "centre",
        sample_rate=settings.sample_rate,
        clips=summary.clips,
        stored=summary.stored,
        missing=summary.missing,
        failed=len(summary.failures),
        n_bytes=summary.n_bytes,
        folder=workspace.shown(store.folder),
        failures=summary.failures,
    )


def wanted(workspace: Workspace) -> Iterator[tuple[ExtractSettings, tuple[str, ...]]]:
    """Yield each set of settings that models in dfens.toml use, with their names; the defaults if none."""
    models: dict[ExtractSettings, list[str]] = {}
    for name, model in workspace.config.models.items():
        extraction = kind_of(model).extraction(model)
        if extraction is not None:
            faces = str(workspace.resolve(extraction.faces)) if extraction.faces else ""
            models.setdefault(dataclasses.replace(extraction, faces=faces), []).append(name)
    for settings, names in models.items():
        yield settings, tuple(names)
    if not models:
        yield ExtractSettings(), ()


def _draw(workspace: Workspace, paths: list[str], sheet: Path, most: int) -> None:
    settings, _ = next(wanted(workspace))
    view = clip_store(settings, workspace.trainers_dir, workspace.root).view(paths)
    records = [(Path(path).name, view.record(row)) for row, path in enumerate(paths)]
    there = [(name, record) for name, record in records if record is not None][:most]
    if not there:
        raise DataError("No clip has been extracted yet, so there is nothing to draw. Run dfens extract first.")
    draw_sheet(sheet, there)
