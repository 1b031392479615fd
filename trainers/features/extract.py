"""Extract everything that models need from a clip in one pass."""

import dataclasses
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from oof.errors import DataError
from trainers.features.mel import log_mel
from trainers.features.settings import ExtractSettings
from trainers.media.audio import audio_stream, read_audio
from trainers.media.clip_info import Container, open_clip, read_info
from trainers.media.clip_record import ClipParts
from trainers.media.face_detector import Boxes, FaceDetector, crop_centre, crop_square, main_face
from trainers.media.image import Image, resize_image
from trainers.media.video import (
    Frame,
    colour_histogram,
    frame_times,
    histogram_distance,
    key_frame_times,
    one_thread,
    picture_span,
    read_frames,
    video_stream,
)

_CANDIDATES = 4  # number of key frames decoded for each one stored
_MOST_PIXELS = 1920 * 1080  # larger frames are reduced before face detection, which bounds the memory
_SAME_S = 1e-3


@dataclass(eq=False)
class _Sight:
    """A frame and what is known of it; its image is whole where faces are tracked, else cropped and shrunk."""

    frame: Frame
    faces: Boxes
    is_spread: bool = False
    is_key: bool = False
    change: float = 0.0


def extract_clip(path: str, settings: ExtractSettings, detector: FaceDetector | None = None) -> ClipParts:
    """Read frames, key frames and sound of a clip, each stream in one pass.

    Raises:
        DataError: if nothing can be decoded: not a clip, empty, truncated before its first frame, neither video
            nor sound.
    """
    with open_clip(path) as container:
        for video in container.streams.video:
            one_thread(video)
        info = read_info(container, path)
        notes: list[str] = []
        sights = _picture(container, settings, detector, notes)
        stream = audio_stream(container)
        sound, start_s = np.zeros(0, np.int16), 0.0
        if stream is not None:
            heard = read_audio(container, stream, sample_rate=settings.sample_rate, max_seconds=settings.sound_seconds)
            sound, start_s = heard.samples, heard.start_s
            if heard.errors:
                notes.append(f"{heard.errors} audio packets cannot be decoded")
            if heard.is_cut:
                notes.append(f"sound read up to {settings.sound_seconds:g} s")
        if not sights and not len(sound):
            raise DataError(f"{path} has neither frames nor sound that can be decoded. Get the file again.")
        if not sights:
            notes.append("no picture")
        if not len(sound):
            notes.append("no sound")
    boxes = main_face([sight.faces for sight in sights])
    images = _crops(sights, boxes, settings) if detector is not None else [sight.frame.image for sight in sights]
    if detector is not None and sights and not np.isfinite(boxes).any():
        notes.append("no face found: centre cropped")
    return ClipParts(
        info=info,
        images=images,
        times_s=np.array([sight.frame.time_s for sight in sights], np.float32),
        is_spread=np.array([sight.is_spread for sight in sights], bool),
        is_key=np.array([sight.is_key for sight in sights], bool),
        change=np.array([sight.change for sight in sights], np.float32),
        boxes=boxes,
        sound=sound,
        sound_start_s=start_s,
        mel=_spectrogram(sound, settings),
        mel_settings=dataclasses.asdict(settings.mel),
        notes=tuple(notes),
    )


def _spectrogram(sound: NDArray[np.int16], settings: ExtractSettings) -> NDArray[np.float16]:
    if not len(sound):
        return np.zeros((settings.bands, 0), np.float16)
    return log_mel(sound, settings.mel).astype(np.float16)


def _picture(
    container: Container, settings: ExtractSettings, detector: FaceDetector | None, notes: list[str]
) -> list[_Sight]:
    """Return the evenly spaced frames and the key frames of a clip, in order of time."""
    stream = video_stream(container)
    if stream is None:
        return []
    start, duration = picture_span(container, stream)
    keys = _thinned(key_frame_times(stream), _CANDIDATES * settings.key_frames)
    spread = frame_times(settings.frames, start, duration)
    sights = _read(container, spread, keys, settings, detector)
    end = max((sight.frame.time_s for sight in sights), default=0.0)
    step = duration / settings.frames
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    if sights and end + start < spread[-1] - step / 2 - 2 / rate:  # the end is missing: spread the frames over the rest
        notes.append(f"picture ends after {end:.1f} of {duration:.1f} s: the file is truncated or damaged")
        end += 1 / rate
        spread = frame_times(settings.frames, start, end)
        sights = _read(container, spread, [key for key in keys if key < start + end], settings, detector)
    if any(sight.frame.is_corrupt for sight in sights):
        notes.append(f"{sum(sight.frame.is_corrupt for sight in sights)} frames are damaged")
    _choose_keys(sights, settings.key_frames)
    return [sight for sight in sights if sight.is_spread or sight.is_key]


def _read(
    container: Container,
    spread: list[float],
    keys: list[float],
    settings: ExtractSettings,
    detector: FaceDetector | None,
) -> list[_Sight]:
    """Read the frames visible at given times, and the key frames, in one pass."""
    stream = video_stream(container)
    assert stream is not None
    origin = float((stream.start_time or 0) * (stream.time_base or 0))
    sights = [_look(frame, settings, detector) for frame in read_frames(container, stream, sorted({*spread, *keys}))]
    starts = np.array([sight.frame.time_s for sight in sights]) + origin
    for position in np.searchsorted(starts, np.array(spread) + _SAME_S, side="right") - 1:
        if len(sights):
            sights[max(0, int(position))].is_spread = True
    return sights


def _look(frame: Frame, settings: ExtractSettings, detector: FaceDetector | None) -> _Sight:
    """Detect faces, or crop and shrink the frame at once, so that at most one full frame is in memory."""
    if detector is None:
        small = resize_image(crop_centre(frame.image), settings.frame_size)
        return _Sight(replace(frame, image=small), np.zeros((0, 5), np.float32))
    height, width = frame.image.shape[:2]
    shrink = (_MOST_PIXELS / (height * width)) ** 0.5
    if shrink < 1:
        frame = replace(frame, image=resize_image(frame.image, (round(height * shrink), round(width * shrink))))
    return _Sight(frame, detector.detect(frame.image))


def _crops(sights: list[_Sight], boxes: NDArray[np.float32], settings: ExtractSettings) -> list[Image]:
    images = []
    for sight, box in zip(sights, boxes, strict=True):
        found = bool(np.isfinite(box).all())
        image = crop_square(sight.frame.image, box, settings.face_margin) if found else crop_centre(sight.frame.image)
        images.append(resize_image(image, settings.frame_size))
    return images


def _choose_keys(sights: list[_Sight], most: int) -> None:
    """Mark the key frames to store: the first, and those whose colours differ most from the previous key frame."""
    keys = [sight for sight in sights if sight.frame.is_key]
    histograms = [colour_histogram(sight.frame.image) for sight in keys]
    for sight, (before, now) in zip(keys[1:], pairwise(histograms), strict=True):
        sight.change = histogram_distance(before, now)
    ranked = keys[:1] + sorted(keys[1:], key=lambda sight: -sight.change)
    for sight in ranked[:most]:
        sight.is_key = True


def _thinned(times: list[float], most: int) -> list[float]:
    """Return at most `most` of the times, evenly chosen."""
    if len(times) <= most:
        return times
    return [times[position] for position in np.linspace(0, len(times) - 1, most).astype(int)] if most else []
