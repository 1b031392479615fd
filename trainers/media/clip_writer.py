"""Write clips with sound, for generated competitions and for measuring robustness to re-encoding."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from oof.files import atomic_path
from trainers.media.arrays import Image

_BLOCK = 1024  # samples


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Encoding options of a clip.

    codec, pixel_format, options: FFmpeg's options for the video. rotation: degrees counter-clockwise by which a player
    rotates the video. audio_codec, audio_layout: FFmpeg's options for the sound. audio_bit_rate: bits per second, None
    for the codec's default. audio_start_s: start of the sound in seconds after the video. container_options: options of
    the container; `faststart` puts the index of an MP4 at its start.
    """

    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    options: dict[str, str] = field(default_factory=lambda: {"crf": "23", "preset": "veryfast"})
    rotation: int = 0
    audio_codec: str = "aac"
    audio_layout: str = "mono"
    audio_bit_rate: int | None = None
    audio_start_s: float = 0.0
    container_options: dict[str, str] = field(default_factory=lambda: {"movflags": "faststart"})


def write_clip(
    path: Path,
    images: Iterable[Image],
    rate: float,
    sound: NDArray[np.float32] | None = None,
    sample_rate: int = 16_000,
    encoding: Encoding | None = None,
    times_s: Sequence[float] | None = None,
) -> Path:
    """Write frames and sound to a clip atomically; the extension of the path determines the container.

    Args:
        path: path of the clip.
        images: RGB frames of one size, with even height and width; empty for sound only.
        rate: frames per second.
        sound: (n_samples,) or (n_channels, n_samples), -1 to 1; None for a clip without a sound track.
        sample_rate: sample rate of the sound, in Hz.
        encoding: encoding options; by default H.264 and AAC.
        times_s: display time of each frame, for a variable frame rate.
    """
    encoding = encoding or Encoding()
    with atomic_path(path) as part:
        ending = {".mkv": "matroska", ".avi": "avi", ".webm": "webm", ".mov": "mov", ".ts": "mpegts"}
        form = ending.get(path.suffix.lower(), "mp4")
        options = encoding.container_options if form in ("mp4", "mov") else {}
        with av.open(str(part), "w", format=form, options=options) as out:
            # all streams must exist before the first packet, which writes the header
            frames = iter(images)
            first = next(frames, None)
            picture = None if first is None else _add_picture(out, first, rate, encoding)
            track = None if sound is None else _add_track(out, sample_rate, encoding)
            if picture is not None and first is not None:
                _write_picture(out, picture, first, frames, rate, times_s)
            if track is not None and sound is not None:
                _write_sound(out, track, np.atleast_2d(sound), sample_rate, encoding)
    return path


def _add_picture(out: Any, first: Image, rate: float, encoding: Encoding) -> Any:
    stream = out.add_stream(encoding.codec, rate=Fraction(rate).limit_denominator(1001), options=encoding.options)
    stream.height, stream.width = first.shape[:2]
    stream.pix_fmt = encoding.pixel_format
    stream.codec_context.thread_count = 1  # so that equal frames give equal bytes on any machine
    if encoding.rotation:
        stream.set_display_rotation(encoding.rotation)
    return stream


def _add_track(out: Any, sample_rate: int, encoding: Encoding) -> Any:
    track = out.add_stream(encoding.audio_codec, rate=sample_rate)
    track.layout = encoding.audio_layout
    if encoding.audio_bit_rate:
        track.bit_rate = encoding.audio_bit_rate
    return track


def _write_picture(
    out: Any, stream: Any, first: Image, frames: Iterable[Image], rate: float, times_s: Sequence[float] | None
) -> None:
    if times_s is not None:
        stream.codec_context.time_base = Fraction(1, 90_000)
    for index, image in enumerate([first, *frames] if times_s is not None else _chained(first, frames)):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        if times_s is not None:
            frame.pts, frame.time_base = round(times_s[index] * 90_000), Fraction(1, 90_000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def _chained(first: Image, frames: Iterable[Image]) -> Iterable[Image]:
    yield first
    yield from frames


def _write_sound(out: Any, track: Any, sound: NDArray[np.float32], sample_rate: int, encoding: Encoding) -> None:
    start = round(encoding.audio_start_s * sample_rate)
    layout = encoding.audio_layout
    if len(sound) == 1 and layout != "mono":
        sound = np.repeat(sound, len(av.AudioLayout(layout).channels), axis=0)
    for position in range(0, sound.shape[1], _BLOCK):
        values = np.ascontiguousarray(sound[:, position : position + _BLOCK], np.float32)
        block = av.AudioFrame.from_ndarray(values, format="fltp", layout=layout)
        block.sample_rate = sample_rate
        block.pts, block.time_base = start + position, Fraction(1, sample_rate)
        out.mux(track.encode(block))
    out.mux(track.encode(None))
