"""Small handcrafted features of clips: sound, video, their synchrony, and leaks."""

import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

from oof.arrays import Vector
from trainers.features.handcrafted import trace_features
from trainers.features.mel import log_mel
from trainers.features.settings import MelSettings
from trainers.media.clip_record import ClipRecord

_BANDS = 20
_GRID = 6
_TRACE_FRAMES = 6
_WINDOW_S = 0.08
_SILENCE_DB = -60.0
_LAGS = 3

NAMES_SOUND = (
    *(f"level of band {band}" for band in range(_BANDS)),
    *(f"spread of band {band}" for band in range(_BANDS)),
    *("loudness", "loudness spread", "silent share", "zero crossings", "centroid", "centroid spread", "flatness"),
    *("flux", "has sound"),
)
NAMES_SYNC = (*(f"synchrony of cell {cell}" for cell in range(_GRID**2)), "strongest", "strongest shifted", "gain")
NAMES_LEAKS = (
    *("leading silence", "trailing silence", "duration", "sound minus picture", "sound start", "bit rate", "bytes"),
    *("frame rate", "width", "height", "sample rate", "channels"),
)


def clip_features(record: ClipRecord, settings: MelSettings, *, leaks: bool = False) -> Vector:
    """Return the features of one clip; a missing modality is 0 and indicated by a feature.

    Args:
        record: record of the clip.
        settings: settings of the spectrogram.
        leaks: whether to add properties of the file that do not depend on its content (duration, silence at the ends,
            rates, sizes), which only separate the classes of a badly made data set.
    """
    parts = [sound_features(record, settings), picture_features(record), sync_features(record)]
    if leaks:
        parts.append(leak_features(record))
    return np.nan_to_num(np.concatenate(parts))


def sound_features(record: ClipRecord, settings: MelSettings) -> Vector:
    """Return level and spread of 20 bands, loudness, silence, centroid, flatness and flux, shape (49,).

    With fewer than 20 bands in the settings the level and spread of the others are 0.
    """
    sound = record.sound.astype(np.float64) / 32_768
    if not len(sound):
        return np.zeros(len(NAMES_SOUND))
    mel = _spectrogram(record, settings).astype(np.float64)  # (bands, columns)
    bands = np.stack([part.mean(0) if len(part) else np.zeros(mel.shape[1]) for part in np.array_split(mel, _BANDS)])
    power = np.exp(mel)
    places = np.linspace(0, 1, len(mel))[:, None]
    centroid = (power * places).sum(0) / power.sum(0)
    loud = _loudness(sound, record)
    return np.concatenate(
        [
            bands.mean(1),
            bands.std(1),
            [loud.mean(), loud.std(), (loud < _SILENCE_DB).mean()],
            [np.mean(sound[1:] * sound[:-1] < 0), centroid.mean(), centroid.std()],
            [np.mean(mel.mean(0) - np.log(power.mean(0)))],
            [np.abs(np.diff(mel, axis=1)).mean() if mel.shape[1] > 1 else 0.0, 1.0],
        ]
    )


def _spectrogram(record: ClipRecord, settings: MelSettings) -> NDArray[np.float16]:
    """Return the stored spectrogram, or a new one if the clip was extracted with other settings of the spectrogram."""
    if record.mel_settings == dataclasses.asdict(settings):
        return record.tensor("mel")
    return log_mel(record.sound, settings).astype(np.float16)


def _loudness(sound: Vector, record: ClipRecord) -> Vector:
    """Return the level of windows of 0.08 s in dB relative to full scale, at least -100."""
    size = max(1, round(_WINDOW_S * record.sample_rate))
    count = max(1, len(sound) // size)
    windows = sound[: count * size].reshape(count, -1)
    return np.asarray(10 * np.log10(np.mean(windows**2, axis=1) + 1e-10))


def picture_features(record: ClipRecord) -> Vector:
    """Return colours, movement by region, and noise and spectrum with their changes from frame to frame."""
    positions = record.spread
    width = 7 + _GRID**2
    if not len(positions):
        return np.zeros(width + 2 * 88)
    frames = record.frames(positions)
    cells = _cells(frames)  # (frames, 36)
    movement = np.abs(np.diff(cells, axis=0)).mean(0) if len(cells) > 1 else np.zeros(cells.shape[1])
    few = frames[np.linspace(0, len(frames) - 1, min(_TRACE_FRAMES, len(frames))).astype(int)]
    traces = np.stack([trace_features(frame) for frame in few]).astype(np.float64)
    colours = frames.reshape(-1, 3)[::7].astype(np.float64)
    return np.concatenate([colours.mean(0), colours.std(0), [1.0], movement, traces.mean(0), traces.std(0)])


def _cells(frames: NDArray[np.uint8]) -> Vector:
    """Return the mean brightness of 6 x 6 cells, (frames, 36)."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    return np.stack(
        [
            np.asarray(cv2.resize(image, (_GRID, _GRID), interpolation=cv2.INTER_AREA), np.float64).ravel()
            for image in grey
        ]
    )


def sync_features(record: ClipRecord) -> Vector:
    """Return the correlations of the brightness of each cell with the loudness at the same times.

    For the cell with the strongest correlation (in a talking face the mouth), also the best correlation with the sound
    shifted by up to three frames: if a shift improves it, sound and video are out of sync.
    """
    sound, positions = record.sound.astype(np.float64) / 32_768, record.spread
    if not len(sound) or len(positions) < 4:
        return np.zeros(len(NAMES_SYNC))
    times = record.tensor("times_s")[positions].astype(np.float64)
    step = float(np.median(np.diff(times)))
    cells = _cells(record.frames(positions))
    found = [_correlations(cells, _levels(record, sound, times + lag * step)) for lag in range(-_LAGS, _LAGS + 1)]
    here = found[_LAGS]
    strongest = float(np.abs(here).max())
    shifted = max(float(np.abs(values).max()) for lag, values in enumerate(found) if lag != _LAGS)
    return np.concatenate([here, [strongest, shifted, strongest - shifted]])


def _levels(record: ClipRecord, sound: Vector, times: Vector) -> Vector:
    """Return the loudness around some times, with silence outside the sound."""
    half = round(_WINDOW_S / 2 * record.sample_rate)
    squares = np.concatenate([[0.0], np.cumsum(sound**2)])
    middle = np.round((times - record.sound_start_s) * record.sample_rate).astype(int)
    first, last = (np.clip(middle + side, 0, len(sound)) for side in (-half, half))
    return np.asarray(np.sqrt((squares[last] - squares[first]) / (2 * half)))


def _correlations(cells: Vector, levels: Vector) -> Vector:
    """Return Pearson's correlation of each column with the levels, 0 if either is constant."""
    a, b = cells - cells.mean(0), levels - levels.mean()
    scale = np.sqrt((a**2).sum(0) * (b**2).sum())
    return np.asarray(np.where(scale > 1e-9, (a * b[:, None]).sum(0) / np.maximum(scale, 1e-9), 0.0))


def leak_features(record: ClipRecord) -> Vector:
    """Return properties from the headers and the ends of the sound."""
    info, sound = record.info, record.sound.astype(np.float64) / 32_768
    picture, track = info.picture, info.sound
    leading = trailing = 0.0
    if len(sound):
        loud = np.flatnonzero(np.abs(sound) > 10 ** (_SILENCE_DB / 20))
        leading = (loud[0] if len(loud) else len(sound)) / record.sample_rate
        trailing = (len(sound) - 1 - loud[-1] if len(loud) else len(sound)) / record.sample_rate
    return np.array(
        [
            *(leading, trailing, info.duration_s, info.sound_minus_picture_s or 0.0, record.sound_start_s),
            *(np.log1p(info.bit_rate), np.log1p(info.size_bytes)),
            *((picture.frame_rate, picture.width, picture.height) if picture else (0.0, 0.0, 0.0)),
            *((track.sample_rate, track.channels) if track else (0.0, 0.0)),
        ]
    )
