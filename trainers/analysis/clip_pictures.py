"""Images of a clip for the report: one frame, the envelope of its sound and its spectrogram."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trainers.features.extract import extract_clip
from trainers.features.settings import ExtractSettings
from trainers.media.arrays import Image
from trainers.media.clip_record import ClipRecord, encode_record

_SPECTROGRAM = (160, 48)  # width and height in pixels
_QUIET, _LOUD = 0.05, 0.995  # quantiles of the levels between which colours change


def frame_at(record: ClipRecord, place: float) -> tuple[Image, float] | None:
    """Return the stored frame nearest to a position in the clip (0 to 1) and its time in seconds; None without video.

    Models on clips find the frame of a moment in the same way.
    """
    rows = record.spread if len(record.spread) else record.keys
    if not len(rows):
        return None
    row = rows[min(int(place * len(rows)), len(rows) - 1)]
    return record.frames(np.array([row]))[0], float(record.tensor("times_s")[row])


def envelope(record: ClipRecord, columns: int) -> NDArray[np.float64]:
    """Return the loudest sample in each of `columns` equal parts of the sound, 0 to 1, 1 for the loudest of the clip.

    Returns:
        Shape (columns,); (0,) for a clip without sound.
    """
    sound = np.abs(record.sound.astype(np.int32))
    if not len(sound):
        return np.zeros(0)
    edges = np.linspace(0, len(sound), columns, endpoint=False).astype(np.intp)
    peaks = np.maximum.reduceat(sound, edges).astype(np.float64)
    return np.asarray(peaks / max(1.0, peaks.max()))


def spectrogram_picture(record: ClipRecord) -> Image | None:
    """Return the stored log-mel spectrogram as a colour image, low frequencies at the bottom; None without sound."""
    mel = record.tensor("mel").astype(np.float32)
    if not mel.size:
        return None
    low, high = np.quantile(mel, [_QUIET, _LOUD])
    grey = np.clip((mel[::-1] - low) / max(float(high - low), 1e-6) * 255, 0, 255).astype(np.uint8)
    small = cv2.resize(grey, _SPECTROGRAM, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.applyColorMap(small, cv2.COLORMAP_MAGMA)[..., ::-1], np.uint8)


def read_clip(path: str, frame_size: int = 224) -> ClipRecord:
    """Read one frame from the middle of a clip that was not extracted, and up to a minute of its sound.

    Raises:
        DataError: if the file cannot be decoded.
    """
    settings = ExtractSettings(frames=1, key_frames=0, frame_size=frame_size)
    return ClipRecord(memoryview(encode_record(extract_clip(path, settings), "jpeg")), Path(path).name)
