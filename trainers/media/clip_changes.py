"""Changes that clips undergo in distribution: re-encoding, lower frame rate and resolution, degraded sound."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from oof.errors import DataError
from trainers.media.arrays import Image
from trainers.media.audio import audio_stream, read_audio
from trainers.media.clip_info import Container, open_clip
from trainers.media.clip_writer import Encoding, write_clip
from trainers.media.image import resize_image
from trainers.media.video import has_frame_times, one_thread, upright_image, video_stream

_MOST_FRAMES = 600
_MOST_ERRORS = 50  # consecutive packets that cannot be decoded before the rest of the clip is skipped
_SAMPLE_RATE = 16_000
_SILENCE = 10 ** (-60 / 20)
# nearly lossless, so that only the effect of the change is measured
_FAITHFUL = Encoding(options={"crf": "12", "preset": "veryfast"}, audio_bit_rate=128_000)


@dataclass(frozen=True, eq=False)
class _Clip:
    """Frames and sound of a clip.

    rate: frames per second. times_s: time of each frame in seconds since the first one; None if the frame rate is
    constant. sound: (n_samples,), None without a sound track. sound_start_s: start of the sound in seconds after the
    first frame.
    """

    images: list[Image]
    rate: float
    times_s: list[float] | None
    sound: NDArray[np.float32] | None
    sound_start_s: float = 0.0
    encoding: Encoding = _FAITHFUL

    def time_s(self, frame: int) -> float:
        """Return the time of a frame in seconds since the first one."""
        return frame / self.rate if self.times_s is None else self.times_s[frame]


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
    times_s = None if clip.times_s is None else clip.times_s[::step]
    return replace(clip, images=clip.images[::step], rate=clip.rate / step, times_s=times_s)


def _size(clip: _Clip, share: float, rng: np.random.Generator) -> _Clip:
    if not clip.images:
        return clip
    height, width = (max(16, round(side * share / 2) * 2) for side in clip.images[0].shape[:2])
    return replace(clip, images=[resize_image(image, (height, width)) for image in clip.images])


def _bit_rate(clip: _Clip, kbit: float, rng: np.random.Generator) -> _Clip:
    return replace(clip, encoding=replace(_FAITHFUL, audio_bit_rate=round(1000 * kbit)))


def _noise(clip: _Clip, snr_db: float, rng: np.random.Generator) -> _Clip:
    if clip.sound is None or not len(clip.sound):
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
    silence_s = clip.sound_start_s + loud[0] / _SAMPLE_RATE
    if clip.times_s is None:
        frames = int(silence_s * clip.rate)
    else:
        frames = int(np.searchsorted(clip.times_s, silence_s, side="right")) - 1
    cut_s = clip.time_s(frames)
    kept = min(frames, max(0, len(clip.images) - 1))
    return replace(
        clip,
        images=clip.images[kept:],
        times_s=None if clip.times_s is None else [time_s - clip.times_s[kept] for time_s in clip.times_s[kept:]],
        sound=clip.sound[max(0, round((cut_s - clip.sound_start_s) * _SAMPLE_RATE)) :],
        sound_start_s=max(0.0, clip.sound_start_s - cut_s),
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

    Everything else stays as it is: the times of the frames, the delay of the sound, and sound after the last frame.

    Raises:
        DataError: as in `open_clip`, and if nothing can be decoded.
    """
    changed = CLIP_CHANGES[name].apply(_read_clip(path), severity, rng)
    encoding = replace(changed.encoding, audio_start_s=changed.sound_start_s)
    return write_clip(target, changed.images, changed.rate, changed.sound, _SAMPLE_RATE, encoding, changed.times_s)


def _read_clip(path: str) -> _Clip:
    with open_clip(path) as container:
        images: list[Image] = []
        times_s: list[float] = []
        video, rate = video_stream(container), 25.0
        if video is not None:
            one_thread(video)
            rate = float(video.average_rate or Fraction(25))
            for frame in islice(_decoded(container, video), _MOST_FRAMES):
                images.append(_even(upright_image(frame)))
                is_counted = frame.time is None or not has_frame_times(container)
                times_s.append(len(times_s) / rate if is_counted else frame.time)
        video_s = 0.0 if video is None else float((video.start_time or 0) * (video.time_base or 0))
        # of frames at the start that cannot be decoded
        lost_s = times_s[0] - video_s if times_s and has_frame_times(container) else 0.0
        times_s = [time_s - times_s[0] for time_s in times_s]
        is_constant = all(abs(time_s - index / rate) < 0.5 / rate for index, time_s in enumerate(times_s))
        audio, sound, start_s = audio_stream(container), None, 0.0
        if audio is not None:
            seconds = times_s[-1] + 1 / rate if len(images) == _MOST_FRAMES else 60.0
            track = read_audio(container, audio, sample_rate=_SAMPLE_RATE, max_seconds=seconds)
            sound, start_s = (track.samples / 32_768).astype(np.float32), track.start_s - lost_s if images else 0.0
            sound, start_s = sound[max(0, round(-start_s * _SAMPLE_RATE)) :], max(0.0, start_s)
    if not images and (sound is None or not len(sound)):
        raise DataError(f"{path} has neither frames nor sound that can be decoded. Get the file again.")
    return _Clip(images, rate, None if is_constant else times_s, sound, start_s)


def _even(image: Image) -> Image:
    """Return an image without its last row or column if their number is odd; one of a single pixel is repeated."""
    for axis in (0, 1):
        if image.shape[axis] == 1:
            image = np.repeat(image, 2, axis)
    return image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]


def _decoded(container: Container, video: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Yield the frames that can be decoded, in order of time, as the extraction does."""
    errors, last = 0, -np.inf
    for packet in container.demux(video):
        try:
            for frame in packet.decode():
                if frame.time is None or not has_frame_times(container):
                    yield frame
                elif frame.time > last:
                    last = frame.time
                    yield frame
            errors = 0
        except av.FFmpegError:
            errors += 1
            if errors > _MOST_ERRORS:
                return
