"""Read the sound of a clip as one channel at one sample rate."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.container import InputContainer
from numpy.typing import NDArray

Waveform = NDArray[np.int16]

_MOST_ERRORS = 50  # packets in a row that cannot be decoded; the rest of the track is given up then


@dataclass(frozen=True, eq=False)
class Sound:
    """The sound of a clip.

    samples: (n_samples,), 16 bits, all channels mixed to one. sample_rate: Hz. start_s: when the sound starts,
    seconds after the picture does (negative: before it); nothing is padded or cut to make the two start together.
    errors: packets that could not be decoded. is_cut: whether the track goes on after the limit asked for.
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
    """Decode a sound track to one channel.

    Channels are mixed by FFmpeg's rule for their layout (a centre at full level, sides at 0.7), so that 5.1 and
    stereo become what one loudspeaker would play.

    Args:
        container, stream: of the clip; what was read from it before does not matter.
        sample_rate: wanted, Hz.
        max_seconds: where to stop; bounds time and memory for a clip of hours.
    """
    limit = round(max_seconds * sample_rate)
    reader = _Decoder(container, stream)
    blocks: list[Waveform] = []
    count = 0
    for block in _resampled(reader, sample_rate):
        blocks.append(block)
        count += len(block)
        if count > limit:
            break
    samples = np.concatenate(blocks)[:limit] if blocks else np.zeros(0, np.int16)
    return Sound(samples, sample_rate, _start(container, stream), reader.errors, count > limit)


class _Decoder:
    """The decoded frames of a track from its start; packets that cannot be decoded are counted and passed over."""

    def __init__(self, container: InputContainer, stream: av.AudioStream) -> None:
        self._container, self._stream = container, stream
        self.errors = 0

    def __iter__(self) -> Iterator[av.AudioFrame]:
        with contextlib.suppress(av.FFmpegError):  # a file that cannot be searched is read onward
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


def _resampled(frames: "_Decoder", sample_rate: int) -> Iterator[Waveform]:
    """Frames as one channel at a rate; a track that changes its format midway gets a new resampler there."""
    resampler: AudioResampler | None = None
    form: tuple[str, str, int] | None = None
    for frame in frames:
        found = (frame.format.name, frame.layout.name, frame.sample_rate)
        if found != form:
            if resampler is not None:
                yield from _samples(resampler, None)
            resampler, form = AudioResampler(format="s16", layout="mono", rate=sample_rate), found
        assert resampler is not None
        frame.pts = None  # gaps in the time stamps are not filled: lengths stay those of what was recorded
        yield from _samples(resampler, frame)
    if resampler is not None:
        yield from _samples(resampler, None)


def _samples(resampler: AudioResampler, frame: av.AudioFrame | None) -> Iterator[Waveform]:
    for part in resampler.resample(frame):
        yield np.asarray(part.to_ndarray(), np.int16).reshape(-1)


def _start(container: InputContainer, stream: av.AudioStream) -> float:
    """Seconds by which the sound starts after the picture, or after the clip where there is no picture."""
    own = float((stream.start_time or 0) * (stream.time_base or Fraction(1, av.time_base)))
    for video in container.streams.video:
        return own - float((video.start_time or 0) * (video.time_base or Fraction(1, av.time_base)))
    return own
