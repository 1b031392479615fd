"""The clips of a model's rows, extracted on first use and then read from the store."""

import dataclasses
from pathlib import Path
from typing import Any

from oof.errors import DataError, TrainingError, examples
from oof.paths import resolve_path
from trainers.features.clips import clip_store, extract_clips
from trainers.features.extract import extract_clip
from trainers.features.mel import LogMel
from trainers.features.settings import ExtractSettings
from trainers.kinds.base import ModelContext
from trainers.media.clip_record import ClipRecord, encode_record
from trainers.media.clip_store import ClipView
from trainers.media.face_detector import load_detector


def extraction_of(context: ModelContext[Any]) -> ExtractSettings:
    """Return the model's extraction settings; the path of a face detector is relative to `context.root`."""
    settings: ExtractSettings = context.settings.extraction
    if not settings.faces:
        return settings
    return dataclasses.replace(settings, faces=str(resolve_path(context.root, settings.faces)))


def check_extraction(context: ModelContext[Any]) -> None:
    """Load the face detector that the settings name, if any, and make the filters of the spectrogram.

    Raises:
        ConfigError: if the detector cannot be used, or the spectrogram has no frequencies.
    """
    settings = extraction_of(context)
    if settings.faces:
        load_detector(Path(settings.faces))
    LogMel(settings.mel)


def prepare_clips(context: ModelContext[Any]) -> None:
    """Extract missing features of the clips of all rows, once per process and settings.

    Raises:
        TrainingError: if training clips cannot be read at all. DataError, ConfigError: as in `extract_clips`.
    """
    settings = extraction_of(context)
    key = ("clips extracted", settings)
    if key in context.shared:
        return
    paths = [*context.train["path"], *context.test["path"]]
    store = clip_store(settings, context.work_dir, context.root)
    summary = store.summary(paths, context.threads)
    if summary.missing:
        summary = extract_clips(
            paths, settings, context.work_dir, context.root, threads=context.threads, progress=context.progress
        )
    failed = {failure.path: failure.reason for failure in summary.failures}
    in_training = [f"{path}: {failed[path].rstrip('.')}" for path in context.train["path"] if path in failed]
    if in_training:
        raise TrainingError(
            f"Training clips that cannot be read ({len(in_training)}): {examples(in_training, 3)}. Get them again, or "
            f"set [data] skip_broken = true and run dfens check --decode, which leaves them out."
        )
    if failed:
        context.progress.note(
            f"Test clips that cannot be read ({len(failed)}): {examples(list(failed), 3)}. They are predicted as clips "
            f"without video and sound, that is, with the base rate of the model."
        )
    context.shared[key] = True


class ClipSource:
    """Records of rows by path: from the store, or extracted on demand for files that are not in the store."""

    def __init__(self, context: ModelContext[Any]) -> None:
        self._settings = extraction_of(context)
        key = ("clips", self._settings)
        if key not in context.shared:
            paths = [*context.train["path"], *context.test["path"]]
            store = clip_store(self._settings, context.work_dir, context.root)
            context.shared[key] = store.view(paths, context.threads), {path: row for row, path in enumerate(paths)}
        found: tuple[ClipView, dict[str, int]] = context.shared[key]
        self._view, self._place = found

    def __call__(self, path: str) -> ClipRecord | None:
        """Return the record of a clip, or None if it cannot be read."""
        row = self._place.get(path)
        if row is not None:
            return self._view.record(row)
        detector = load_detector(Path(self._settings.faces)) if self._settings.faces else None
        try:
            parts = extract_clip(path, self._settings, detector)
        except DataError:
            return None
        return ClipRecord(memoryview(encode_record(parts, self._settings.frame_format)), path)
