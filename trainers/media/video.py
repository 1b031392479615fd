"""Read selected frames of a clip without decoding all frames between them.

A requested frame requires decoding from the preceding key frame, so reading 16 of 300 frames decodes a fraction of the
clip if key frames are close together. Three techniques save work: the reader seeks forward to the key frame before the
next requested frame; frames in between that no other frame refers to are not decoded; and the decoder is flushed as
soon as it has received the last frame requested before a seek, instead of being fed until it outputs that frame. The
returned frames are bit-identical to those of a full decode.
"""

import contextlib
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from trainers.media.arrays import Image

_MOST_ERRORS = 50  # consecutive packets that cannot be decoded before the rest of the clip is skipped
_AHEAD = 16  # packets read before one is decoded: no codec delays the display of a frame by more than 16 frames
_REMEMBERED = 4096  # number of presentation times kept
_BEFORE = -(1 << 62)  # a time before any frame
_MOST_BETWEEN = 2_000  # frames decoded for one requested frame; bounds the time if key frames are hours apart


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame in display orientation.

    time_s: seconds since the start of the video. image: RGB, (height, width, 3), upright. is_key: whether it was
    decoded without reference to other frames. is_corrupt: whether the decoder marked it as damaged.
    """

    time_s: float
    image: Image
    is_key: bool
    is_corrupt: bool


def video_stream(container: InputContainer) -> av.VideoStream | None:
    """Return the first video stream that is not a cover image, or None."""
    return next((s for s in container.streams.video if not s.disposition & s.disposition.attached_pic), None)


def has_frame_times(container: InputContainer) -> bool:
    """Return whether a container stores presentation times; FFmpeg guesses those of AVI, wrongly after B-frames."""
    return container.format.name != "avi"


def one_thread(stream: av.VideoStream) -> None:
    """Make the decoder use one thread; reading several clips in parallel scales better than decoder threads."""
    if not stream.codec_context.is_open:
        stream.codec_context.thread_count = 1


def frame_times(count: int, start_s: float, duration_s: float) -> list[float]:
    """Return the midpoints of `count` equal parts of a duration, in seconds.

    >>> frame_times(4, 0.0, 10.0)
    [1.25, 3.75, 6.25, 8.75]
    """
    return [start_s + (index + 0.5) * duration_s / count for index in range(count)]


def picture_span(container: InputContainer, stream: av.VideoStream) -> tuple[float, float]:
    """Return start and duration of the video in seconds, from the headers or, if they lack them, from the packets."""
    unit = stream.time_base or Fraction(1, av.time_base)
    start = float((stream.start_time or 0) * unit)
    if stream.duration:
        return start, float(stream.duration * unit)
    if container.duration:  # Matroska stores only the duration of the file
        return start, max(0.0, container.duration / av.time_base - max(0.0, start))
    ends = [packet.pts + (packet.duration or 0) for packet in container.demux(stream) if packet.pts is not None]
    return start, max(0.0, float(max(ends, default=0) * unit) - start)


@dataclass(frozen=True)
class _Index:
    """The container's index of a stream, in the stream's time base.

    keys: presentation times of key frames, ascending; empty without an index. is_whole: whether the index lists every
    frame, so that each packet is one frame. frame: interval between two frames, 0 if unknown.

    An index contains decoding times, which precede presentation times by a delay: at least the difference between the
    first entry and the start of the stream, and more for key frames that frames displayed earlier refer to (detected by
    `_Reader`).
    """

    keys: list[int]
    is_whole: bool
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
        return cls(keys, True, int(np.median(gaps)))


def key_frame_times(stream: av.VideoStream) -> list[float]:
    """Return the times of the key frames in the container's index, in seconds, ascending; [] without an index."""
    unit = stream.time_base or Fraction(1, av.time_base)
    return [float(pts * unit) for pts in _Index.of(stream).keys]


def read_frames(container: InputContainer, stream: av.VideoStream, times: Sequence[float]) -> Iterator[Frame]:
    """Yield the frame displayed at each of the given times, in ascending order and without duplicates.

    If key frames are so far apart that thousands of frames would have to be decoded for one, an earlier frame is
    returned instead; `time_s` is always the time of the returned frame.

    Args:
        container, stream: the open clip and its video stream; the current position does not matter.
        times: in seconds, on the clip's time scale. A time after the last frame yields the last frame.
    """
    if not len(times):
        return
    one_thread(stream)
    unit = stream.time_base or Fraction(1, av.time_base)
    wanted = sorted({int(np.floor(time / float(unit) + 1e-6)) for time in times})
    origin = float((stream.start_time or 0) * unit)
    finish = _Finisher(unit, origin)
    reader = _Reader(container, stream, wanted)
    last: av.VideoFrame | None = None  # the latest frame at or before the requested time
    yielded: int | None = None
    position = since = 0
    for frame in reader:
        assert frame.pts is not None  # the reader skips frames without a time
        since += 1
        while position < len(wanted):
            if reader.is_on_screen(frame.pts, wanted[position]):
                chosen = frame
            elif frame.pts > wanted[position] or since > _MOST_BETWEEN:
                chosen = last if last is not None else frame  # a time before the first frame yields the first frame
            else:
                break
            if chosen.pts != yielded:
                yielded = chosen.pts
                yield finish(chosen)
            position += 1
            since = 0
            reader.next_wanted = position
        if position == len(wanted):
            return
        last = frame
    if last is not None and last.pts != yielded:
        yield finish(last)


class _Reader:
    """Decoded frames in presentation order, with seeks to the key frame before the next requested time.

    next_wanted: index in `wanted` of the current target; set by the caller.
    """

    def __init__(self, container: InputContainer, stream: av.VideoStream, wanted: list[int]) -> None:
        self._container, self._stream, self._wanted = container, stream, wanted
        self._index = _Index.of(stream)
        self._counted = not has_frame_times(container)
        self._chooses = self._index.is_whole and not self._counted
        self._next_pts = stream.start_time or 0  # used where frames are counted
        self._late = 0  # delay of key frames relative to the index
        self._times: list[int] = []  # presentation times of the packets read since the last seek, ascending
        self._sent: set[int] = set()  # those of requested frames sent to the decoder since then
        self._may_empty, self._is_emptied = True, False
        self.next_wanted = 0

    def __iter__(self) -> Iterator[av.VideoFrame]:
        seen = _BEFORE  # presentation time of the latest frame
        key = self._key_ahead(seen)
        self._jump(key)
        while True:
            looking_for = self.next_wanted
            for frame in self._decode():
                if frame.pts is None or frame.pts <= seen:
                    continue
                if key is not None and frame.pts > self._wanted[looking_for]:
                    # the indexed key frame is displayed later than the delay implies: seek to an earlier one
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
                if self._is_emptied:  # not all frames came out: read again without flushing early
                    self._may_empty = False
                    key = self._key_ahead(_BEFORE)
                    self._jump(key)
                elif key is not None:  # nothing follows the seek: the clip is truncated, so read up to its end
                    del self._index.keys[bisect_left(self._index.keys, key) :]
                    self._chooses = False
                    self._jump(self._key_ahead(_BEFORE))
                    key = None
                else:
                    return

    def is_on_screen(self, pts: int, wanted: int) -> bool:
        """Return whether a frame is known to be displayed at a time before the next frame has been decoded."""
        return self._chooses and pts <= wanted < self._following(pts)

    def _following(self, pts: int) -> float:
        """Return the presentation time of the next frame, infinity if unknown."""
        place = bisect_right(self._times, pts)
        return self._times[place] if place < len(self._times) else float("inf")

    def _jump(self, key: int | None) -> None:
        """Seek to a key frame, or to the start of the clip."""
        self._times.clear()
        self._sent.clear()
        with contextlib.suppress(av.FFmpegError):  # a file that is not seekable is read sequentially
            if key is None:
                self._container.seek(0)
            else:
                self._container.seek(key, stream=self._stream, backward=True)

    def _key_ahead(self, seen: int, position: int | None = None) -> int | None:
        """Return the last key frame at or before a requested time (None: the next one), if it is after `seen`."""
        position = self.next_wanted if position is None else position
        if position >= len(self._wanted) or self._counted:
            return None
        before = bisect_right(self._index.keys, self._wanted[position] - self._late) - 1
        return self._index.keys[before] if before >= 0 and self._index.keys[before] > seen else None

    def _packets(self) -> "Iterator[av.Packet[Any]]":
        """Yield packets in decoding order, each after all packets that may be displayed before it have been read."""
        waiting: deque[av.Packet[Any]] = deque()
        for packet in self._container.demux(self._stream):
            if packet.pts is not None:
                insort(self._times, packet.pts)
                if len(self._times) > 2 * _REMEMBERED:
                    del self._times[:_REMEMBERED]
            waiting.append(packet)
            if len(waiting) > _AHEAD:
                yield waiting.popleft()
        yield from waiting

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Yield frames as they are decoded, until the end of the clip or until the decoder is flushed for a seek."""
        context, errors, self._is_emptied = self._stream.codec_context, 0, False
        for packet in self._packets():
            is_wanted = self._is_wanted(packet.pts)
            context.skip_frame = "DEFAULT" if is_wanted else "NONREF"
            try:
                for frame in packet.decode():
                    if self._counted:
                        frame.pts = self._next_pts
                        self._next_pts += max(1, self._index.frame)
                    yield frame
                errors = 0
                if is_wanted and packet.pts is not None and self._ends_before_jump(packet.pts):
                    self._is_emptied = True
                    yield from self._stream.decode(None)
                    return
            except av.FFmpegError:
                errors += 1
                self._chooses = False  # decode every frame of a damaged clip that can be decoded
                if errors > _MOST_ERRORS:
                    return

    def _is_wanted(self, pts: int | None) -> bool:
        """Return whether the frame of a packet may be displayed at a requested time, not only referred to by others."""
        if pts is None or not self._chooses:
            return True
        first = bisect_left(self._wanted, pts)
        is_first = pts == self._times[0]  # a time before the first frame yields the first frame
        return first < len(self._wanted) and (self._wanted[first] < self._following(pts) or is_first)

    def _ends_before_jump(self, pts: int) -> bool:
        """Return whether this is the last requested frame that the decoder needs before a seek or the end."""
        self._sent.add(pts)
        position, newest = self.next_wanted, _BEFORE
        while position < len(self._wanted):
            place = bisect_right(self._times, self._wanted[position]) - 1
            on_screen = self._times[max(0, place)]
            if on_screen not in self._sent:
                break
            position, newest = position + 1, on_screen
        if not (self._chooses and self._may_empty) or position == self.next_wanted:
            return False
        return position == len(self._wanted) or self._key_ahead(newest, position) is not None


class _Finisher:
    """Convert decoded frames to upright images with one shared converter, since creating one is as slow as using it.

    Args:
        unit: the stream's time base, in seconds.
        origin: start time of the video, in seconds.
    """

    def __init__(self, unit: Fraction, origin: float) -> None:
        self._unit, self._origin, self._converter = unit, origin, VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> Frame:
        time_s = float((frame.pts or 0) * self._unit) - self._origin
        image = upright_image(frame, self._converter)
        return Frame(time_s, image, bool(frame.key_frame), bool(frame.is_corrupt))


def upright_image(frame: av.VideoFrame, converter: VideoReformatter | None = None) -> Image:
    """Return a decoded frame as RGB, rotated as its container specifies."""
    # without a limit, each converter starts its own threads
    converted = (converter or VideoReformatter()).reformat(frame, format="rgb24", threads=1)
    image = converted.to_ndarray()
    turns = round(frame.rotation / 90) % 4
    return np.asarray(np.ascontiguousarray(np.rot90(image, turns)) if turns else image, np.uint8)


def colour_histogram(image: Image) -> NDArray[np.float32]:
    """Return the fraction of an image's pixels in each of 8 x 4 x 4 bins of hue, saturation and value."""
    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
    hsv = cv2.cvtColor(small, cv2.COLOR_RGB2HSV)
    counts = cv2.calcHist([hsv], [0, 1, 2], None, [8, 4, 4], [0, 180, 0, 256, 0, 256])
    return np.asarray(counts / counts.sum(), np.float32)


def histogram_distance(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return the distance of two colour histograms, from 0.0 (equal) to 1.0 (disjoint).

    Half the sum of the absolute differences of their histograms (Zhang et al., Automatic Partitioning of Full-Motion
    Video, Multimedia Systems 1993, in the usual colour space): a cut changes the entire histogram, whereas
    movement within a scene hardly does.
    """
    return float(np.abs(first - second).sum() / 2)
