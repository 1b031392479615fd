"""Changes that clips undergo in distribution: re-encoding, lower frame rate and resolution, degraded sound."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainers.media.arrays import Image
from trainers.media.audio import audio_stream, read_audio
from trainers.media.clip_info import open_clip
from trainers.media.clip_writer import Encoding, write_clip
from trainers.media.image import resize_image
from trainers.media.video import one_thread, upright_image, video_stream

_MOST_FRAMES = 600
_SAMPLE_RATE = 16_000
_SILENCE = 10 ** (-60 / 20)
# nearly lossless, so that only the effect of the change is measured
_FAITHFUL = Encoding(options={"crf": "12", "preset": "veryfast"}, audio_bit_rate=128_000)


@dataclass(frozen=True, eq=False)
class _Clip:
    images: list[Image]
    rate: float
    sound: NDArray[np.float32] | None
    encoding: Encoding = _FAITHFUL


@dataclass(frozen=True)
class ClipChange:
    """A change and its severities; `apply` takes a clip and a severity."""

    name: str
    unit: str
    severities: tuple[float, ...]
    apply: Callable[[_Clip, float, np.random.Generator], _Clip]


def _crf(clip: _Clip, crf: float, rng: np.random.Generator) -> _Clip:
    return replace(clip, encoding=replace(_FAITHFUL, options={"crf": f"{crf:g}", "preset": "veryfast"}))


def _frame_rate(clip: _Clip, share: float, rng: np.random.Generator) -> _Clip:
    step = max(1, round(1 / share))
    return replace(clip, images=clip.images[::step], rate=clip.rate / step)


def _size(clip: _Clip, share: float, rng: np.random.Generator) -> _Clip:
    if not clip.images:
        return clip
    height, width = (max(16, round(side * share / 2) * 2) for side in clip.images[0].shape[:2])
    return replace(clip, images=[resize_image(image, (height, width)) for image in clip.images])


def _bit_rate(clip: _Clip, kbit: float, rng: np.random.Generator) -> _Clip:
    return replace(clip, encoding=replace(_FAITHFUL, audio_bit_rate=round(1000 * kbit)))


def _noise(clip: _Clip, snr_db: float, rng: np.random.Generator) -> _Clip:
    if clip.sound is None:
        return clip
    level = float(np.sqrt(np.mean(clip.sound**2))) * 10 ** (-snr_db / 20)
    return replace(clip, sound=np.asarray(clip.sound + rng.normal(0, level, len(clip.sound)), np.float32))


def _trimmed(clip: _Clip, severity: float, rng: np.random.Generator) -> _Clip:
    """Trim the leading silence together with the frames displayed during it."""
    if clip.sound is None:
        return clip
    loud = np.flatnonzero(np.abs(clip.sound) > _SILENCE)
    if not len(loud):
        return clip
    frames = int(loud[0] / _SAMPLE_RATE * clip.rate)
    return replace(
        clip,
        images=clip.images[min(frames, max(0, len(clip.images) - 1)) :],
        sound=clip.sound[round(frames / clip.rate * _SAMPLE_RATE) :],
    )


CLIP_CHANGES: Mapping[str, ClipChange] = {
    change.name: change
    for change in (
        ClipChange("re-encoding", "CRF", (28, 35, 40), _crf),
        ClipChange("frame rate", "share", (0.5,), _frame_rate),
        ClipChange("size", "share of the edge", (0.5,), _size),
        ClipChange("sound bit rate", "kbit/s", (32,), _bit_rate),
        ClipChange("sound noise", "dB below the sound", (20, 10), _noise),
        ClipChange("silence trimmed", "", (1,), _trimmed),
    )
}


def changed_clip(path: str, target: Path, name: str, severity: float, rng: np.random.Generator) -> Path:
    """Apply a change to the first 600 frames of a clip and their sound, and write the result.

    Raises:
        DataError: as in `open_clip`.
    """
    with open_clip(path) as container:
        images: list[Image] = []
        video, rate = video_stream(container), 25.0
        if video is not None:
            one_thread(video)
            rate = float(video.average_rate or Fraction(25))
            for frame in container.decode(video):
                image = upright_image(frame)
                images.append(image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2])
                if len(images) == _MOST_FRAMES:
                    break
        audio, sound = audio_stream(container), None
        if audio is not None:
            seconds = len(images) / rate if images else 60.0
            track = read_audio(container, audio, sample_rate=_SAMPLE_RATE, max_seconds=seconds)
            sound = (track.samples / 32_768).astype(np.float32)
    changed = CLIP_CHANGES[name].apply(_Clip(images, rate, sound), severity, rng)
    return write_clip(target, changed.images, changed.rate, changed.sound, _SAMPLE_RATE, changed.encoding)
