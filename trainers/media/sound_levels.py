"""Measure silence and loudness at both ends of a clip's sound, in bounded time and memory."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from oof.errors import DataError
from trainers.media.audio import mono_frames
from trainers.media.clip_info import open_clip, track_duration_s

SILENCE_DB = -60.0  # relative to full scale: the level of digital silence after lossy encoding
PAUSE_DB = -40.0  # relative to the loudest sample: room noise before speech starts
_UNKNOWN_S = 600.0  # maximum decoded length if no header states the duration
_END_S = 30.0  # length decoded at each end of a longer sound


@dataclass(frozen=True)
class SoundLevels:
    """Silence and loudness of a sound; times in seconds, levels in dB relative to full scale.

    leading_silence_s, trailing_silence_s: time before the first and after the last sample above -60 dB; the decoded
        length if all samples are silent.
    leading_pause_s, trailing_pause_s: the same for samples at most 40 dB below the loudest.
    loudness_db: mean power between the pauses. peak_db: level of the loudest sample. decoded_s: decoded length.
    """

    leading_silence_s: float
    trailing_silence_s: float
    leading_pause_s: float
    trailing_pause_s: float
    loudness_db: float
    peak_db: float
    decoded_s: float

    @property
    def is_silent(self) -> bool:
        """Whether no sample is above -60 dB."""
        return self.peak_db <= SILENCE_DB


def measure_sound(path: str | Path) -> SoundLevels | None:
    """Return the levels of a clip's first audio stream; None if it has no audio stream or an empty one.

    Of a sound longer than a minute, half a minute is decoded at each end, so that a clip of ten hours takes as long as
    one of a minute.

    Raises:
        DataError: as in `open_clip`, and for sound that does not decode.
    """
    with open_clip(path) as container:
        stream = next(iter(container.streams.audio), None)
        if stream is None:
            return None
        rate = stream.codec_context.sample_rate
        unit = stream.time_base or 1
        length_s = track_duration_s(stream) or (container.duration or 0) / av.time_base
        is_long = length_s > 2 * _END_S
        start = end = _samples(_decoded(container, stream), rate, _END_S if is_long else _UNKNOWN_S)
        if is_long:
            container.seek(int((length_s - _END_S) / unit), stream=stream)
            end = _samples(_decoded(container, stream), rate, 2 * _END_S)
    if not len(start) or not len(end):
        return None
    if not (np.isfinite(start).all() and np.isfinite(end).all()):
        raise DataError(f"{path} has sound with values that are not numbers. Get the file again.")
    return _levels(start, end, rate)


def _decoded(container: InputContainer, stream: av.AudioStream) -> Iterator[NDArray[np.float32]]:
    """Yield blocks of mono samples, each of shape (n_samples,).

    Channels are mixed as in the extraction: FFmpeg lowers a mix of integers so that it cannot exceed full scale, but
    not one of floats, whose level would depend on the number of channels.
    """
    gain = 1.0

    def decoded() -> Iterator[av.AudioFrame]:
        nonlocal gain
        for frame in container.decode(stream):
            gain = _mix_gain(frame.layout.name, frame.layout.nb_channels)
            yield frame

    for mono in mono_frames(decoded(), "fltp", stream.codec_context.sample_rate):
        yield mono.to_ndarray()[0] / np.float32(gain)


@lru_cache
def _mix_gain(layout: str, channels: int) -> float:
    """Return the level of FFmpeg's mix of floats to mono if all channels are at full scale."""
    full = av.AudioFrame.from_ndarray(np.ones((1, 64 * channels), np.float32), format="flt", layout=layout)
    full.sample_rate = 8_000
    return max(1.0, *(float(mono.to_ndarray().max()) for mono in mono_frames([full], "fltp", 8_000)))


def _samples(blocks: Iterator[NDArray[np.float32]], rate: int, most_s: float) -> NDArray[np.float32]:
    kept, count = [], 0
    for block in blocks:
        kept.append(block)
        count += len(block)
        if count > most_s * rate:
            break
    return np.concatenate(kept) if kept else np.zeros(0, np.float32)


def _levels(start: NDArray[np.float32], end: NDArray[np.float32], rate: int) -> SoundLevels:
    first, last = np.abs(start), np.abs(end)
    peak = float(max(first.max(), last.max()))
    silence, pause = 10 ** (SILENCE_DB / 20), peak * 10 ** (PAUSE_DB / 20)
    audible = start[_first_above(first, pause) : len(start) - _first_above(first[::-1], pause)]
    power = float(np.mean(np.square(audible, dtype=np.float64))) if len(audible) else 0.0
    return SoundLevels(
        leading_silence_s=_first_above(first, silence) / rate,
        trailing_silence_s=_first_above(last[::-1], silence) / rate,
        leading_pause_s=_first_above(first, pause) / rate,
        trailing_pause_s=_first_above(last[::-1], pause) / rate,
        loudness_db=_decibels(math.sqrt(power)),
        peak_db=_decibels(peak),
        decoded_s=len(start) / rate + (len(end) / rate if end is not start else 0.0),
    )


def _first_above(magnitude: NDArray[np.float32], level: float) -> int:
    above = magnitude > level
    return int(above.argmax()) if above.any() else len(magnitude)


def _decibels(amplitude: float) -> float:
    return 20 * math.log10(max(amplitude, 1e-6))
