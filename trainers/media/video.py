"""Read some frames of a clip without decoding all that lies between them.

A wanted frame costs the frames since the key frame before it, so reading 16 frames of 300 decodes a fraction of the
clip where key frames are near each other. Two things save work: the reader jumps to the key frame before each wanted
frame where that lies ahead, and frames in between that no other frame refers to are not decoded at all. Neither
changes a bit of the frames that are returned.
"""

import contextlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import numpy as np
from av.container import InputContainer

from trainers.media.image import Image

_MOST_ERRORS = 50  # packets in a row that cannot be decoded; the rest of the clip is given up then
_NEAR = 3  # frames on each side of a wanted one that are always decoded: reordered frames arrive early or late
_BEFORE = -(1 << 62)  # a time before any frame
_MOST_BETWEEN = 2_000  # frames decoded for one wanted frame; bounds the time where key frames are hours apart


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame as people see it.

    time_s: seconds since the start of the picture. image: RGB, (height, width, 3), upright. is_key: whether it was
    decoded without any other frame. is_corrupt: whether the decoder marked it as damaged.
    """

    time_s: float
    image: Image
    is_key: bool
    is_corrupt: bool


def video_stream(container: InputContainer) -> av.VideoStream | None:
    """Return the stream of moving pictures, or None; a cover image is not one."""
    return next((s for s in container.streams.video if not s.disposition & s.disposition.attached_pic), None)


def one_thread(stream: av.VideoStream) -> None:
    """Decode in one thread: clips are read side by side, which divides the work better than threads of a decoder."""
    if not stream.codec_context.is_open:
        stream.codec_context.thread_count = 1


def frame_times(count: int, start_s: float, duration_s: float) -> list[float]:
    """Return the middles of `count` equal parts of a duration, in seconds.

    >>> frame_times(4, 0.0, 10.0)
    [1.25, 3.75, 6.25, 8.75]
    """
    return [start_s + (index + 0.5) * duration_s / count for index in range(count)]


def picture_span(container: InputContainer, stream: av.VideoStream) -> tuple[float, float]:
    """Return start and duration of the picture in seconds: as the headers say, else as its packets do."""
    unit = stream.time_base or Fraction(1, av.time_base)
    start = float((stream.start_time or 0) * unit)
    if stream.duration:
        return start, float(stream.duration * unit)
    if container.duration:  # Matroska knows the length of the file alone
        return start, max(0.0, container.duration / av.time_base - max(0.0, start))
    ends = [packet.pts + (packet.duration or 0) for packet in container.demux(stream) if packet.pts is not None]
    return start, max(0.0, float(max(ends, default=0) * unit) - start)


@dataclass(frozen=True)
class _Index:
    """What the container lists of a stream, in units of the stream.

    keys: presentation times of key frames, ascending; empty where there is no list. is_even: whether the list names
    every frame and all are equally far apart, so that the time of a frame says which is on screen when.
    frame: distance between two frames.

    A list gives decoding times, which run ahead by a delay: at least what the first one differs by from the start of
    the stream; more for key frames that frames shown earlier refer to (`_Reader` finds out).
    """

    keys: list[int]
    is_even: bool
    frame: int

    @classmethod
    def of(cls, stream: av.VideoStream) -> "_Index":
        entries = list(stream.index_entries)
        if not entries:
            return cls([], False, 0)
        delay = max(0, (stream.start_time or 0) - entries[0].timestamp)
        keys = sorted(entry.timestamp + delay for entry in entries if entry.is_keyframe)
        gaps = np.diff(np.sort(np.array([entry.timestamp for entry in entries])))
        if len(entries) != stream.frames or not len(gaps):
            return cls(keys, False, 0)
        frame = int(np.median(gaps))
        return cls(keys, bool(gaps.max() <= 1.5 * frame and gaps.min() >= 0.5 * frame), frame)


def key_frame_times(stream: av.VideoStream) -> list[float]:
    """Return the times of the key frames that the container lists, in seconds, ascending; [] without a list."""
    unit = stream.time_base or Fraction(1, av.time_base)
    return [float(pts * unit) for pts in _Index.of(stream).keys]


def read_frames(container: InputContainer, stream: av.VideoStream, times: Sequence[float]) -> Iterator[Frame]:
    """Yield the frame that is on screen at each of some times, in ascending order, each frame once.

    Where key frames are so far apart that thousands of frames would be decoded for one, an earlier frame is taken
    instead; `time_s` of a frame is always its own.

    Args:
        container, stream: of the clip; what was read from it before does not matter.
        times: seconds on the clip's clock. A time after the last frame yields the last frame.
    """
    if not len(times):
        return
    one_thread(stream)
    unit = stream.time_base or Fraction(1, av.time_base)
    wanted = sorted({int(np.floor(time / float(unit) + 1e-6)) for time in times})
    origin = float((stream.start_time or 0) * unit)
    reader = _Reader(container, stream, wanted)
    last: av.VideoFrame | None = None  # the newest frame at or before the wanted time
    yielded: int | None = None
    position = since = 0
    for frame in reader:
        assert frame.pts is not None  # the reader leaves out frames without a time
        since += 1
        while position < len(wanted) and (frame.pts > wanted[position] or since > _MOST_BETWEEN):
            chosen = last if last is not None else frame  # before the first frame: the first
            if chosen.pts != yielded:
                yielded = chosen.pts
                yield _finish(chosen, unit, origin)
            position += 1
            since = 0
            reader.next_wanted = position
        if position == len(wanted):
            return
        last = frame
    if last is not None and last.pts != yielded:
        yield _finish(last, unit, origin)


class _Reader:
    """Decoded frames in order of presentation, with jumps to the key frame before the next wanted time.

    next_wanted: position in `wanted` of what is looked for now; set by the caller.
    """

    def __init__(self, container: InputContainer, stream: av.VideoStream, wanted: list[int]) -> None:
        self._container, self._stream, self._wanted = container, stream, wanted
        self._index = _Index.of(stream)
        # AVI keeps no presentation times, and those that FFmpeg guesses are out of order after B-frames
        self._counted = container.format.name == "avi"
        self._next_pts = stream.start_time or 0  # where frames are counted
        self._late = 0  # by how much key frames are shown later than the list says
        self.next_wanted = 0

    def __iter__(self) -> Iterator[av.VideoFrame]:
        seen = _BEFORE  # presentation time of the newest frame
        key = self._key_ahead(seen)
        self._jump(key)
        while True:
            looking_for = self.next_wanted
            for frame in self._decode():
                if frame.pts is None or frame.pts <= seen:
                    continue
                if key is not None and frame.pts > self._wanted[looking_for]:
                    # the list named a key frame that is shown later than the delay says: take an earlier one
                    self._late = max(self._late, frame.pts - key)
                    key = self._key_ahead(_BEFORE)
                    self._jump(key)
                    break
                key, seen = None, frame.pts
                yield frame
                if self.next_wanted != looking_for:
                    looking_for = self.next_wanted
                    key = self._key_ahead(seen)
                    if key is not None:
                        self._jump(key)
                        break
            else:
                return

    def _jump(self, key: int | None) -> None:
        """Go to a key frame, or to the start of the clip."""
        with contextlib.suppress(av.FFmpegError):  # a file that cannot be searched is read onward
            if key is None:
                self._container.seek(0)
            else:
                self._container.seek(key, stream=self._stream, backward=True)

    def _key_ahead(self, seen: int) -> int | None:
        """The last key frame at or before the wanted time, if it lies after what has been seen."""
        if self.next_wanted >= len(self._wanted) or self._counted:
            return None
        before = bisect_right(self._index.keys, self._wanted[self.next_wanted] - self._late) - 1
        return self._index.keys[before] if before >= 0 and self._index.keys[before] > seen else None

    def _decode(self) -> Iterator[av.VideoFrame]:
        context, errors = self._stream.codec_context, 0
        for packet in self._container.demux(self._stream):
            context.skip_frame = "DEFAULT" if self._is_needed(packet.pts) else "NONREF"
            try:
                for frame in packet.decode():
                    if self._counted:
                        frame.pts = self._next_pts
                        self._next_pts += max(1, self._index.frame)
                    yield frame
                errors = 0
            except av.FFmpegError:
                errors += 1
                if errors > _MOST_ERRORS:
                    return

    def _is_needed(self, pts: int | None) -> bool:
        """Whether a frame of this time may be wanted itself, not just referred to."""
        if pts is None or not self._index.is_even or self._counted:
            return True
        near = _NEAR * self._index.frame
        return bisect_left(self._wanted, pts - near) < bisect_right(self._wanted, pts + near)


def _finish(frame: av.VideoFrame, unit: Fraction, origin: float) -> Frame:
    time_s = float((frame.pts or 0) * unit) - origin
    return Frame(time_s, upright_image(frame), bool(frame.key_frame), bool(frame.is_corrupt))


def upright_image(frame: av.VideoFrame) -> Image:
    """Return a decoded frame as RGB, turned as its container says."""
    image = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.asarray(np.ascontiguousarray(np.rot90(image, turns)) if turns else image, np.uint8)


def histogram_distance(first: Image, second: Image) -> float:
    """Return how far the colours of two images differ, from 0.0 (alike) to 1.0 (nothing in common).

    Half the sum of the absolute differences of their histograms over 8 x 4 x 4 bins of hue, saturation and value
    (Zhang et al., Automatic Partitioning of Full-Motion Video, Multimedia Systems 1993, with the common choice of
    colour space): a cut changes the whole histogram, movement inside a scene hardly does.
    """
    histograms = []
    for image in (first, second):
        small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
        hsv = cv2.cvtColor(small, cv2.COLOR_RGB2HSV)
        counts = cv2.calcHist([hsv], [0, 1, 2], None, [8, 4, 4], [0, 180, 0, 256, 0, 256])
        histograms.append(counts / counts.sum())
    return float(np.abs(histograms[0] - histograms[1]).sum() / 2)
