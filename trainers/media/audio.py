"""Read the sound of a clip as mono at a given sample rate."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.container import InputContainer
from numpy.typing import NDArray

from trainers.media.video import video_stream

Waveform = NDArray[np.int16]

_MOST_ERRORS = 50  # consecutive packets that cannot be decoded before the rest of the track is skipped


@dataclass(frozen=True, eq=False)
class Sound:
    """The sound of a clip.

    samples: (n_samples,), 16 bits, all channels mixed to one. sample_rate: Hz. start_s: start of the sound relative to
    the video, in seconds (negative: before it); nothing is padded or cut to align the two. errors: number of packets
    that could not be decoded. is_cut: whether the track continues after the requested limit.
    """

    samples: Waveform
    sample_rate: int
    start_s: float
    errors: int
    is_cut: bool

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


def audio_stream(container: InputContainer) -> av.AudioStream | None:
    """Return the first sound track, or None."""
    return next(iter(container.streams.audio), None)


def read_audio(
    container: InputContainer, stream: av.AudioStream, *, sample_rate: int = 16_000, max_seconds: float = 60.0
) -> Sound:
    """Decode a sound track to mono.

    Channels are mixed by FFmpeg's rule for their layout (centre at full level, sides at 0.7), so that 5.1 and stereo
    sound as they would on a single loudspeaker.

    Args:
        container, stream: the open clip and its sound track; the current position does not matter.
        sample_rate: sample rate of the result, in Hz.
        max_seconds: maximum length to decode; bounds time and memory for very long clips.
    """
    limit = round(max_seconds * sample_rate)
    reader = _Decoder(container, stream)
    blocks: list[Waveform] = []
    count = 0
    for frame in mono_frames(reader, "s16", sample_rate):
        block = np.asarray(frame.to_ndarray(), np.int16).reshape(-1)
        blocks.append(block)
        count += len(block)
        if count > limit:
            break
    samples = np.concatenate(blocks)[:limit] if blocks else np.zeros(0, np.int16)
    return Sound(samples, sample_rate, _start(container, stream), reader.errors, count > limit)


class _Decoder:
    """The decoded frames of a track from its start; packets that cannot be decoded are counted and skipped."""

    def __init__(self, container: InputContainer, stream: av.AudioStream) -> None:
        self._container, self._stream = container, stream
        self.errors = 0

    def __iter__(self) -> Iterator[av.AudioFrame]:
        with contextlib.suppress(av.FFmpegError):  # a file that is not seekable is read sequentially
            self._container.seek(self._stream.start_time or 0, stream=self._stream, backward=True)
        in_a_row = 0
        for packet in self._container.demux(self._stream):
            try:
                yield from packet.decode()
                in_a_row = 0
            except av.FFmpegError:
                self.errors += 1
                in_a_row += 1
                if in_a_row > _MOST_ERRORS:
                    return


def mono_frames(frames: Iterable[av.AudioFrame], form: str, sample_rate: int) -> Iterator[av.AudioFrame]:
    """Yield frames as mono at a sample rate; a new resampler is created if the track changes its format midway.

    Args:
        frames: decoded frames. form: FFmpeg's name of the sample format, such as "s16".
        sample_rate: sample rate of the result, in Hz.
    """
    resampler: AudioResampler | None = None
    before: tuple[str, str, int] | None = None
    for frame in frames:
        found = (frame.format.name, frame.layout.name, frame.sample_rate)
        if found != before:
            if resampler is not None:
                yield from resampler.resample(None)
            resampler, before = AudioResampler(format=form, layout="mono", rate=sample_rate), found
        assert resampler is not None
        frame.pts = None  # gaps in the time stamps are not filled, so lengths are those of the recording
        yield from resampler.resample(frame)
    if resampler is not None:
        yield from resampler.resample(None)


def _start(container: InputContainer, stream: av.AudioStream) -> float:
    """Return the start of the sound in seconds after the start of the video (of the clip, without a video)."""
    own = float((stream.start_time or 0) * (stream.time_base or Fraction(1, av.time_base)))
    video = video_stream(container)
    if video is None:
        return own
    return own - float((video.start_time or 0) * (video.time_base or Fraction(1, av.time_base)))
