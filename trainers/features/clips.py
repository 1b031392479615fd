"""Extract and store features of a competition's clips."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oof.errors import DataError, examples
from oof.progress import SILENT, Progress
from trainers.features.extract import extract_clip
from trainers.features.settings import ExtractSettings
from trainers.media.clip_record import encode_record
from trainers.media.clip_store import ClipStore, StoreSummary
from trainers.media.face_detector import load_detector

FOLDER = "clips"  # in the package's folder of the workspace


def clip_store(settings: ExtractSettings, work_dir: Path, root: Path) -> ClipStore:
    """Return the store for features extracted with given settings.

    Args:
        settings: extraction settings, in which a relative path of a face detector has been joined to `root`.
        work_dir: folder of the package in the workspace.
        root: folder of dfens.toml; paths of clips are stored relative to it.
    """
    return ClipStore(work_dir / FOLDER, settings.recipe, root)


def has_sound(paths: Sequence[str], settings: ExtractSettings, work_dir: Path, root: Path) -> NDArray[np.bool_]:
    """Return for each clip whether any sound was extracted from it; False for a clip that cannot be read.

    Raises:
        DataError: if clips have not been extracted yet.
    """
    view = clip_store(settings, work_dir, root).view(paths)
    unknown = [view.paths[row] for row in view.absent if not view.reasons[row]]
    if unknown:
        raise DataError(
            f"{len(unknown):,} of {len(paths):,} clips are not extracted, so it is unknown whether they have sound: "
            f"{examples(unknown, 3)}. Run dfens extract."
        )
    records = (view.record(row) for row in range(len(view)))
    return np.array([record is not None and len(record.sound) > 0 for record in records], bool)


def extract_clips(
    paths: Sequence[str],
    settings: ExtractSettings,
    work_dir: Path,
    root: Path,
    *,
    threads: int = 1,
    retry: bool = False,
    progress: Progress = SILENT,
) -> StoreSummary:
    """Extract missing features of clips.

    Raises:
        ConfigError: if the face detector cannot be used. DataError: if the disk is full.
        KeyboardInterrupt, Stopped: what was extracted until then is stored.
    """
    detector = load_detector(Path(settings.faces)) if settings.faces else None

    def extract(path: str) -> bytes:
        return encode_record(extract_clip(path, settings, detector), settings.frame_format)

    store = clip_store(settings, work_dir, root)
    return store.make(paths, extract, threads=threads, retry=retry, progress=progress)
