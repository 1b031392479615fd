"""Read some frames of a clip without decoding all that lies between them.

A wanted frame costs the frames since the key frame before it, so reading 16 frames of 300 decodes a fraction of the
clip where key frames are near each other. Three things save work: the reader jumps to the key frame before each wanted
frame where that lies ahead; frames in between that no other frame refers to are not decoded at all; and the decoder is
emptied once it has got the last frame wanted before a jump, instead of being fed until it lets that frame go. None of
them changes a bit of the frames that are returned.
"""

import contextlib
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from trainers.media.image import Image

_MOST_ERRORS = 50  # packets in a row that cannot be decoded; the rest of the clip is given up then
_AHEAD = 16  # packets known before one is decoded: no codec shows a frame more than 16 frames later than it is sent
_REMEMBERED = 4096  # presentation times
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

    keys: presentation times of key frames, ascending; empty where there is no list. is_whole: whether the list names
    every frame, so that each packet is one. frame: distance between two frames, 0 where unknown.

    A list gives decoding times, which run ahead by a delay: at least what the first one differs by from the start of
    the stream; more for key frames that frames shown earlier refer to (`_Reader` finds out).
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
    finish = _Finisher(unit, origin)
    reader = _Reader(container, stream, wanted)
    last: av.VideoFrame | None = None  # the newest frame at or before the wanted time
    yielded: int | None = None
    position = since = 0
    for frame in reader:
        assert frame.pts is not None  # the reader leaves out frames without a time
        since += 1
        while position < len(wanted):
            if reader.is_on_screen(frame.pts, wanted[position]):
                chosen = frame
            elif frame.pts > wanted[position] or since > _MOST_BETWEEN:
                chosen = last if last is not None else frame  # before the first frame: the first
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
    """Decoded frames in order of presentation, with jumps to the key frame before the next wanted time.

    next_wanted: position in `wanted` of what is looked for now; set by the caller.
    """

    def __init__(self, container: InputContainer, stream: av.VideoStream, wanted: list[int]) -> None:
        self._container, self._stream, self._wanted = container, stream, wanted
        self._index = _Index.of(stream)
        # AVI keeps no presentation times, and those that FFmpeg guesses are out of order after B-frames
        self._counted = container.format.name == "avi"
        self._chooses = self._index.is_whole and not self._counted
        self._next_pts = stream.start_time or 0  # where frames are counted
        self._late = 0  # by how much key frames are shown later than the list says
        self._times: list[int] = []  # presentation times of the packets read since the last jump, ascending
        self._sent: set[int] = set()  # those of wanted frames that the decoder has got since
        self._may_empty, self._is_emptied = True, False
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
                if self._is_emptied:  # what was sent did not come out: read again, and feed the decoder to the end
                    self._may_empty = False
                    key = self._key_ahead(_BEFORE)
                    self._jump(key)
                elif key is not None:  # nothing after the jump: the clip is cut, so read on to where it ends
                    del self._index.keys[bisect_left(self._index.keys, key) :]
                    self._chooses = False
                    self._jump(self._key_ahead(_BEFORE))
                    key = None
                else:
                    return

    def is_on_screen(self, pts: int, wanted: int) -> bool:
        """Whether a frame is known to be the one on screen at a time, before the next one has been decoded."""
        return self._chooses and pts <= wanted < self._following(pts)

    def _following(self, pts: int) -> float:
        """The presentation time of the next frame, infinity where none is known."""
        place = bisect_right(self._times, pts)
        return self._times[place] if place < len(self._times) else float("inf")

    def _jump(self, key: int | None) -> None:
        """Go to a key frame, or to the start of the clip."""
        self._times.clear()
        self._sent.clear()
        with contextlib.suppress(av.FFmpegError):  # a file that cannot be searched is read onward
            if key is None:
                self._container.seek(0)
            else:
                self._container.seek(key, stream=self._stream, backward=True)

    def _key_ahead(self, seen: int, position: int | None = None) -> int | None:
        """The last key frame at or before a wanted time (None: the next), if it lies after what has been seen."""
        position = self.next_wanted if position is None else position
        if position >= len(self._wanted) or self._counted:
            return None
        before = bisect_right(self._index.keys, self._wanted[position] - self._late) - 1
        return self._index.keys[before] if before >= 0 and self._index.keys[before] > seen else None

    def _packets(self) -> Iterator[av.Packet]:
        """Packets in the order of decoding, each once those that may be shown before it are known."""
        waiting: deque[av.Packet] = deque()
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
        """Frames as they come; ends at the end of the clip, or with an emptied decoder where a jump is to follow."""
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
                self._chooses = False  # of a damaged clip, whatever can be decoded is
                if errors > _MOST_ERRORS:
                    return

    def _is_wanted(self, pts: int | None) -> bool:
        """Whether the frame of a packet may be on screen at a wanted time, not just referred to by others."""
        if pts is None or not self._chooses:
            return True
        first = bisect_left(self._wanted, pts)
        is_first = pts == self._times[0]  # a time before the first frame gets the first
        return first < len(self._wanted) and (self._wanted[first] < self._following(pts) or is_first)

    def _ends_before_jump(self, pts: int) -> bool:
        """Whether the decoder has, with this wanted frame, got all that are wanted before a jump, or at all."""
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
    """Decoded frames to upright images; one converter serves all frames, since making one takes as long as using it.

    Args:
        unit: of the stream's time, seconds.
        origin: when the picture starts, seconds.
    """

    def __init__(self, unit: Fraction, origin: float) -> None:
        self._unit, self._origin, self._converter = unit, origin, VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> Frame:
        time_s = float((frame.pts or 0) * self._unit) - self._origin
        image = upright_image(frame, self._converter)
        return Frame(time_s, image, bool(frame.key_frame), bool(frame.is_corrupt))


def upright_image(frame: av.VideoFrame, converter: VideoReformatter | None = None) -> Image:
    """Return a decoded frame as RGB, turned as its container says."""
    # without a limit, each converter starts threads of its own
    converted = (converter or VideoReformatter()).reformat(frame, format="rgb24", threads=1)
    image = converted.to_ndarray()
    turns = round(frame.rotation / 90) % 4
    return np.asarray(np.ascontiguousarray(np.rot90(image, turns)) if turns else image, np.uint8)


def colour_histogram(image: Image) -> NDArray[np.float32]:
    """Return the share of an image's pixels in each of 8 x 4 x 4 bins of hue, saturation and value."""
    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
    hsv = cv2.cvtColor(small, cv2.COLOR_RGB2HSV)
    counts = cv2.calcHist([hsv], [0, 1, 2], None, [8, 4, 4], [0, 180, 0, 256, 0, 256])
    return np.asarray(counts / counts.sum(), np.float32)


def histogram_distance(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return how far the colours of two images differ, from 0.0 (alike) to 1.0 (nothing in common).

    Half the sum of the absolute differences of their histograms (Zhang et al., Automatic Partitioning of Full-Motion
    Video, Multimedia Systems 1993, with the common choice of colour space): a cut changes the whole histogram,
    movement inside a scene hardly does.
    """
    return float(np.abs(first - second).sum() / 2)
