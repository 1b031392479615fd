"""Read the headers of a clip: container, codecs, durations, rates, sizes and encoder tags, without decoding it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Stream

from oof.errors import DataError

# written by x264 and x265 into the first frame: "x264 - core 148 r2643 5c65704 - ... crf=23.0"
_ENCODER = re.compile(rb"(x26[45]) [^\0]{0,12}core (\d+)|Lavc[\d.]+|Xvid\d+", re.ASCII)
_SETTINGS = re.compile(rb"\b(crf=[\d.]+|bitrate=\d+|qp=\d+)")
_FIRST_BYTES = 8192
_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d*)?)")  # 00:00:02.000000000

Container = InputContainer  # an open clip; the name that other packages use for this type


@dataclass(frozen=True)
class PictureTrack:
    """The video stream of a clip.

    width, height: pixels as stored, before `rotation` (degrees counter-clockwise) is applied. frames: number of frames
    in the header, 0 if it has none. start_s, duration_s: seconds, 0.0 if unknown. bit_rate: bits per second.
    encoder: name and version that the encoder wrote into the first frame, or "". encoder_settings: its rate control
    (`crf=23.0`), or "".
    """

    codec: str
    profile: str
    pixel_format: str
    width: int
    height: int
    frame_rate: float
    frames: int
    start_s: float
    duration_s: float
    bit_rate: int
    rotation: int
    encoder: str
    encoder_settings: str


@dataclass(frozen=True)
class SoundTrack:
    """The first audio stream of a clip; sample_rate in Hz, start_s and duration_s in seconds, bit_rate in bits/s."""

    codec: str
    profile: str
    sample_rate: int
    channels: int
    start_s: float
    duration_s: float
    bit_rate: int


@dataclass(frozen=True)
class ClipInfo:
    """The information in the headers of a clip.

    container: short name of the format (`mov`, `matroska`, `avi`). brand: `major_brand` of an MP4. encoder: tag of the
    program that wrote the file. tags: names of all other tags, sorted. bit_rate: of the whole file, in bits per second.
    missing_bytes: number of bytes that the index refers to beyond the end of the file; positive for a truncated file.
    """

    path: str
    size_bytes: int
    container: str
    brand: str
    encoder: str
    tags: tuple[str, ...]
    duration_s: float
    bit_rate: int
    missing_bytes: int
    picture: PictureTrack | None
    sound: SoundTrack | None

    @property
    def sound_minus_picture_s(self) -> float | None:
        """Duration of the sound minus that of the video, in seconds; None if either is missing or unknown."""
        if self.picture is None or self.sound is None or not (self.picture.duration_s and self.sound.duration_s):
            return None
        return self.sound.duration_s - self.picture.duration_s


@contextmanager
def open_clip(path: str | Path) -> Iterator[InputContainer]:
    """Open a clip for reading, and convert FFmpeg's exceptions in the block to a DataError that names the file.

    Raises:
        DataError: if the file is missing, unreadable, empty or not a clip, or cannot be decoded.
    """
    try:
        if Path(path).stat().st_size == 0:
            raise DataError(f"{path} is empty (0 bytes). {_REMEDY}")
        with av.open(str(path), metadata_errors="replace") as container:
            yield container
    except FileNotFoundError as err:
        raise DataError(f"{path} is missing. Run dfens check for the list of all missing files.") from err
    except av.error.InvalidDataError as err:
        raise DataError(f"{path} is not a clip that can be read, or its header is damaged. {_REMEDY}") from err
    except (av.FFmpegError, OSError, ValueError, OverflowError) as err:
        reason = getattr(err, "strerror", None) or str(err)
        raise DataError(f"{path} cannot be read ({reason}). {_REMEDY}") from err


_REMEDY = (
    "Get the file again, or run dfens check to find all such files; with [data] skip_broken = true it leaves "
    "broken training files out."
)


def probe_clip(path: str | Path) -> ClipInfo:
    """Read the headers of a clip, and its first frame for rotation and encoder.

    Takes a few milliseconds, regardless of the length of the clip.

    Raises:
        DataError: as in `open_clip`.
    """
    with open_clip(path) as container:
        return read_info(container, path)


def read_info(container: InputContainer, path: str | Path) -> ClipInfo:
    """Return the same for an open clip; this reads its first frames."""
    size = Path(path).stat().st_size
    tags = {name.lower(): value for name, value in container.metadata.items()}
    picture = next((s for s in container.streams.video if not s.disposition & s.disposition.attached_pic), None)
    sound = next(iter(container.streams.audio), None)
    return ClipInfo(
        path=str(path),
        size_bytes=size,
        container=container.format.name.split(",")[0],
        brand=tags.get("major_brand", ""),
        encoder=tags.get("encoder", ""),
        tags=tuple(sorted(set(tags) - {"major_brand", "encoder"})),
        duration_s=container.duration / av.time_base if container.duration else 0.0,
        bit_rate=container.bit_rate or 0,
        missing_bytes=max([0, *(_end_of_index(stream) - size for stream in container.streams)]),
        picture=None if picture is None else _picture_track(container, picture),
        sound=None if sound is None else _sound_track(sound),
    )


def _picture_track(container: InputContainer, stream: av.VideoStream) -> PictureTrack:
    rotation, first = _first_frame(container, stream)
    encoder, settings = _ENCODER.search(first), _SETTINGS.search(first)
    context = stream.codec_context
    return PictureTrack(
        codec=context.name,
        profile=stream.profile or "",
        pixel_format=context.pix_fmt or "",
        width=context.width,
        height=context.height,
        frame_rate=float(stream.average_rate or stream.guessed_rate or 0),
        frames=stream.frames or len(stream.index_entries),
        start_s=_seconds(stream.start_time, stream.time_base),
        duration_s=track_duration_s(stream),
        bit_rate=stream.bit_rate or 0,
        rotation=rotation,
        encoder="" if encoder is None else re.sub(r" .*core ", " core ", encoder[0].decode("ascii", "replace")),
        encoder_settings="" if settings is None else settings[1].decode("ascii", "replace"),
    )


def _first_frame(container: InputContainer, stream: av.VideoStream) -> tuple[int, bytes]:
    """Return the rotation of the first frame in degrees and the start of its packet; 0 and b"" if none decodes."""
    first = b""
    try:
        for packet in container.demux(stream):
            first = first or bytes(packet)[:_FIRST_BYTES]
            for frame in packet.decode():
                return frame.rotation, first
    except av.FFmpegError:  # reported by `undecodable_tail` and when the clip is decoded
        pass
    return 0, first


def _sound_track(stream: av.AudioStream) -> SoundTrack:
    context = stream.codec_context
    return SoundTrack(
        codec=context.name,
        profile=stream.profile or "",
        sample_rate=context.sample_rate or 0,
        channels=context.channels,
        start_s=_seconds(stream.start_time, stream.time_base),
        duration_s=track_duration_s(stream),
        bit_rate=context.bit_rate or 0,
    )


def _seconds(value: int | None, unit: Fraction | None) -> float:
    return 0.0 if value is None or unit is None else float(value * unit)


def tagged_end_s(stream: Stream) -> float:
    """Return the end of a track in seconds by its tag, 0.0 without one; Matroska has no other place for it."""
    tag = next((text for name, text in stream.metadata.items() if name.upper().startswith("DURATION")), "")
    clock = _CLOCK.match(tag)
    return 0.0 if clock is None else 3600 * int(clock[1]) + 60 * int(clock[2]) + float(clock[3])


def track_duration_s(stream: Stream) -> float:
    """Return the duration of a track in seconds, 0.0 if unknown."""
    if stream.duration:
        return _seconds(stream.duration, stream.time_base)
    return max(0.0, tagged_end_s(stream) - max(0.0, _seconds(stream.start_time, stream.time_base)))


def _end_of_index(stream: Stream) -> int:
    """Return the end of the last packet in the index of a stream, in bytes; 0 without an index."""
    entries = stream.index_entries
    if not len(entries):
        return 0
    last = entries[len(entries) - 1]
    return last.pos + last.size


def undecodable_tail(path: str | Path) -> float:
    """Return how many seconds at the end of the video cannot be decoded; 0.0 for an intact clip.

    Decodes from the last key frame to the end, that is, one group of pictures.

    Raises:
        DataError: as in `open_clip`; a clip without a video stream.
    """
    with open_clip(path) as container:
        stream = next((s for s in container.streams.video if not s.disposition & s.disposition.attached_pic), None)
        if stream is None:
            raise DataError(f"{path} has no video stream. {_REMEDY}")
        stream.thread_type = "AUTO"
        unit = stream.time_base or Fraction(1, av.time_base)
        end = (stream.start_time or 0) + (stream.duration or 0)
        if not stream.duration:  # the file may be longer, if its sound is
            end = int((tagged_end_s(stream) or (container.duration or 0) / av.time_base) / unit)
        if end > 0:
            container.seek(end, stream=stream, backward=True)
        last = None
        try:
            for frame in container.decode(stream):
                if frame.pts is not None:
                    last = frame.pts + (frame.duration or 0)
        except av.FFmpegError:
            pass  # the frames decoded so far determine where the tail begins
        if last is None:
            return float(end * unit)
        missing = float((end - last) * unit)
        frame_s = 1 / float(stream.average_rate or 25)
        return missing if missing > 2 * frame_s else 0.0
