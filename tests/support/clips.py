"""Small clips made with PyAV, for tests that read or check clips."""

from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray


def voice(seconds: float, sample_rate: int = 16000, *, silence: float = 0.0, seed: int = 0) -> NDArray[np.float32]:
    """Generate a voice-like mono sound, shape (n_samples,), with exact zeros in the first `silence` seconds."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    pitch = rng.uniform(90, 220)
    sound = sum(np.sin(2 * np.pi * pitch * k * t + rng.uniform(0, 6)) / k for k in range(1, 6))
    sound = 0.15 * sound * (1.2 + np.sin(2 * np.pi * 3 * t)) + rng.normal(0, 0.01, len(t))
    sound[: round(silence * sample_rate)] = 0
    return np.asarray(sound, np.float32)


def write_clip(
    path: Path,
    *,
    frames: int = 10,
    size: tuple[int, int] = (48, 64),
    rate: int = 25,
    sound: NDArray[np.float32] | None = None,
    sample_rate: int = 16000,
    codec: Literal["mpeg4", "libx264"] = "mpeg4",
    rotation: int = 0,
    seed: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a clip of moving noise, `size` (height, width); with a sound, mono, shape (n_samples,), if given.

    An MP4 has its index in front (`faststart`), so that a cut clip can still be opened, as streamed clips can.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    height, width = size
    scene = np.kron(rng.integers(0, 255, (height // 8, width // 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    with av.open(str(path), "w", options=options if options is not None else {"movflags": "faststart"}) as out:
        picture = out.add_stream("libx264" if codec == "libx264" else "mpeg4", rate=rate) if frames else None
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = width, height, "yuv420p"
            if rotation:
                picture.set_display_rotation(rotation)
        track = None if sound is None else out.add_stream("aac", rate=sample_rate)
        if track is not None:
            track.layout = "mono"
        if picture is not None:
            for index in range(frames):
                frame = av.VideoFrame.from_ndarray(np.roll(scene, index, 1), format="rgb24")
                out.mux(picture.encode(frame))
            out.mux(picture.encode(None))
        if track is not None and sound is not None:
            for start in range(0, len(sound), 1024):
                block = av.AudioFrame.from_ndarray(sound[None, start : start + 1024], format="fltp", layout="mono")
                block.sample_rate, block.pts, block.time_base = sample_rate, start, Fraction(1, sample_rate)
                out.mux(track.encode(block))
            out.mux(track.encode(None))
    return path
