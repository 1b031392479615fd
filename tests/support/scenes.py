"""Clips of two scenes with a tone, and the records that are extracted from them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.features.settings import ExtractSettings
from trainers.media.arrays import Image
from trainers.media.clip_record import ClipParts, ClipRecord, encode_record
from trainers.media.clip_writer import Encoding, write_clip

SETTINGS = ExtractSettings(frames=4, key_frames=2, frame_size=32)


def scenes(count: int = 20, size: tuple[int, int] = (48, 64)) -> list[Image]:
    """Return frames of two scenes, blue and red, that become brighter; the cut is in the middle."""
    height, width = size
    frames = []
    for index in range(count):
        frame = np.zeros((height, width, 3), np.uint8)
        frame[..., 0 if index >= count // 2 else 2] = 100 + 5 * (index % 10)
        frames.append(frame)
    return frames


def voice(seconds: float = 0.8, sample_rate: int = 16_000) -> NDArray[np.float32]:
    time_s = np.arange(round(seconds * sample_rate)) / sample_rate
    return np.asarray(0.2 * np.sin(2 * np.pi * 200 * time_s), np.float32)


def clip(folder: Path, name: str = "a.mp4", encoding: Encoding | None = None, **options: Any) -> Path:
    values: dict[str, Any] = {"images": scenes(), "rate": 25, "sound": voice(), **options}
    return write_clip(folder / name, encoding=encoding, **values)


def record(parts: ClipParts) -> ClipRecord:
    return ClipRecord(memoryview(encode_record(parts, "png")), "a.mp4")
