"""Extract everything that models need from a clip in one pass."""

import dataclasses
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from oof.errors import DataError
from trainers.features.mel import log_mel
from trainers.features.settings import ExtractSettings
from trainers.media.arrays import Image
from trainers.media.audio import audio_stream, read_audio
from trainers.media.clip_info import Container, open_clip, read_info, tagged_end_s
from trainers.media.clip_record import ClipParts
from trainers.media.face_detector import Boxes, FaceDetector, crop_centre, crop_square, main_face
from trainers.media.image import resize_image
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

_CANDIDATES = 4  # key frames decoded per stored key frame
_MOST_PIXELS = 1920 * 1080  # larger frames are reduced before face detection, which bounds the memory
_SAME_S = 1e-3


@dataclass(eq=False)
class _Candidate:
    """A frame with its properties; the image is complete if faces are tracked, otherwise cropped and resized."""

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
        candidates = _picture(container, settings, detector, notes)
        stream = audio_stream(container)
        sound, start_s = np.zeros(0, np.int16), 0.0
        if stream is not None:
            track = read_audio(container, stream, sample_rate=settings.sample_rate, max_seconds=settings.sound_seconds)
            sound, start_s = track.samples, track.start_s
            if track.errors:
                notes.append(f"{track.errors} audio packets cannot be decoded")
            if track.is_cut:
                notes.append(f"sound read up to {settings.sound_seconds:g} s")
        if not candidates and not len(sound):
            raise DataError(f"{path} has neither frames nor sound that can be decoded. Get the file again.")
        if not candidates:
            notes.append("no video")
        if not len(sound):
            notes.append("no sound")
    boxes = main_face([candidate.faces for candidate in candidates])
    images = [candidate.frame.image for candidate in candidates]
    if detector is not None:
        images = _crops(images, boxes, settings)
        if images and not np.isfinite(boxes).any():
            notes.append("no face found: centre cropped")
    return ClipParts(
        info=info,
        images=images,
        times_s=np.array([candidate.frame.time_s for candidate in candidates], np.float32),
        is_spread=np.array([candidate.is_spread for candidate in candidates], bool),
        is_key=np.array([candidate.is_key for candidate in candidates], bool),
        change=np.array([candidate.change for candidate in candidates], np.float32),
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
) -> list[_Candidate]:
    """Return the evenly spaced frames and the key frames of a clip, in order of time."""
    stream = video_stream(container)
    if stream is None:
        return []
    start, duration = picture_span(container, stream)
    keys = _thinned(key_frame_times(stream), _CANDIDATES * settings.key_frames)
    spread = frame_times(settings.frames, start, duration)
    candidates = _read(container, spread, keys, settings, detector)
    end = max((candidate.frame.time_s for candidate in candidates), default=0.0)
    step = duration / settings.frames
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    # if the end is missing, the frames are spread over the rest
    if candidates and end + start < spread[-1] - step / 2 - 2 / rate:
        if end + start < (tagged_end_s(stream) or start + duration) - 2 / rate:  # not only shorter than the sound
            notes.append(f"video ends after {end:.1f} of {duration:.1f} s: the file is truncated or damaged")
        end += 1 / rate
        spread = frame_times(settings.frames, start, end)
        candidates = _read(container, spread, [key for key in keys if key < start + end], settings, detector)
    damaged = sum(candidate.frame.is_corrupt for candidate in candidates)
    if damaged:
        notes.append(f"{damaged} frames are damaged")
    _choose_keys(candidates, settings.key_frames)
    return [candidate for candidate in candidates if candidate.is_spread or candidate.is_key]


def _read(
    container: Container,
    spread: list[float],
    keys: list[float],
    settings: ExtractSettings,
    detector: FaceDetector | None,
) -> list[_Candidate]:
    """Read the frames visible at given times, and the key frames, in one pass."""
    stream = video_stream(container)
    assert stream is not None
    origin = float((stream.start_time or 0) * (stream.time_base or 0))
    candidates = [
        _examine(frame, settings, detector) for frame in read_frames(container, stream, sorted({*spread, *keys}))
    ]
    starts = np.array([candidate.frame.time_s for candidate in candidates]) + origin
    for position in np.searchsorted(starts, np.array(spread) + _SAME_S, side="right") - 1:
        if len(candidates):
            candidates[max(0, int(position))].is_spread = True
    return candidates


def _examine(frame: Frame, settings: ExtractSettings, detector: FaceDetector | None) -> _Candidate:
    """Detect faces, or crop and shrink the frame at once, so that at most one full frame is in memory."""
    if detector is None:
        small = resize_image(crop_centre(frame.image), settings.frame_size)
        return _Candidate(replace(frame, image=small), np.zeros((0, 5), np.float32))
    height, width = frame.image.shape[:2]
    shrink = (_MOST_PIXELS / (height * width)) ** 0.5
    if shrink < 1:
        frame = replace(frame, image=resize_image(frame.image, (round(height * shrink), round(width * shrink))))
    return _Candidate(frame, detector.detect(frame.image))


def _crops(images: list[Image], boxes: NDArray[np.float32], settings: ExtractSettings) -> list[Image]:
    """Return the faces, or the centres of images without one, resized."""
    cropped = (
        crop_square(image, box, settings.face_margin) if np.isfinite(box).all() else crop_centre(image)
        for image, box in zip(images, boxes, strict=True)
    )
    return [resize_image(image, settings.frame_size) for image in cropped]


def _choose_keys(candidates: list[_Candidate], most: int) -> None:
    """Mark the key frames to store: the first, and those whose colours differ most from the previous key frame."""
    keys = [candidate for candidate in candidates if candidate.frame.is_key]
    histograms = [colour_histogram(candidate.frame.image) for candidate in keys]
    for candidate, (before, now) in zip(keys[1:], pairwise(histograms), strict=True):
        candidate.change = histogram_distance(before, now)
    ranked = keys[:1] + sorted(keys[1:], key=lambda candidate: -candidate.change)
    for candidate in ranked[:most]:
        candidate.is_key = True


def _thinned(times: list[float], most: int) -> list[float]:
    """Return at most `most` of the times, evenly chosen."""
    if len(times) <= most:
        return times
    return [times[position] for position in np.linspace(0, len(times) - 1, most).astype(int)] if most else []
