"""The extracted features of one clip (frames, sound and header information), as the bytes of a safetensors file."""

import dataclasses
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from oof.errors import StoreError
from trainers.media.arrays import Image
from trainers.media.clip_info import ClipInfo, PictureTrack, SoundTrack

_DTYPES = {"U8": np.uint8, "BOOL": np.bool_, "I16": np.int16, "I64": np.int64, "F16": np.float16, "F32": np.float32}
# the only filter of a frame's rows, in OpenCV from 4.12: with all filters, encoding takes a third longer
_PAETH = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_PAETH] if hasattr(cv2, "IMWRITE_PNG_FILTER") else []
_ENCODINGS: dict[str, tuple[str, list[int]]] = {
    "png": (  # higher levels save 3 % of the size and take four times as long
        ".png",
        [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE, *_PAETH],
    ),
    "jpeg": (
        ".jpg",
        [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
    ),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class ClipParts:
    """The data read from a clip.

    images: frames in temporal order, all of one size. times_s: their times in seconds since the start of the video.
    is_spread: whether each frame is one of the evenly spaced ones. is_key: whether it is one of the key frames. change:
    colour distance of a key frame from the previous one (0 to 1), 0 for other frames. boxes: (n_frames, 4) face boxes
    in the full frames, in pixels, NaN if none was found. sound: (n_samples,) or empty. sound_start_s: start of the
    sound in seconds after the video. mel: (bands, columns) or (bands, 0), log-mel spectrogram. mel_settings: its
    settings. notes: remarks on the clip for the user.
    """

    info: ClipInfo
    images: Sequence[Image]
    times_s: NDArray[np.float32]
    is_spread: NDArray[np.bool_]
    is_key: NDArray[np.bool_]
    change: NDArray[np.float32]
    boxes: NDArray[np.float32]
    sound: NDArray[np.int16]
    sound_start_s: float
    mel: NDArray[np.float16]
    mel_settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def encode_record(parts: ClipParts, frame_format: Literal["png", "jpeg"]) -> bytes:
    """Encode the record of a clip as bytes."""
    ending, options = _ENCODINGS[frame_format]
    blobs = [
        cv2.imencode(ending, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].reshape(-1) for image in parts.images
    ]
    stored = {
        "frames": np.concatenate(blobs) if blobs else np.zeros(0, np.uint8),
        "frame_ends": np.cumsum([len(blob) for blob in blobs], dtype=np.int64),
        "times_s": parts.times_s,
        "is_spread": parts.is_spread,
        "is_key": parts.is_key,
        "change": parts.change,
        "boxes": parts.boxes,
        "sound": parts.sound,
        "mel": parts.mel,
    }
    tensors = {name: np.ascontiguousarray(value) for name, value in stored.items()}
    about = {
        "crc32": {name: zlib.crc32(value.data) for name, value in tensors.items()},
        "info": dataclasses.asdict(parts.info),
        "sound_start_s": parts.sound_start_s,
        "mel_settings": dict(parts.mel_settings),
        "notes": list(parts.notes),
    }
    return save(tensors, {"about": json.dumps(about)})


class ClipRecord:
    """The record of a clip, read in place: nothing is copied until it is requested.

    Args:
        data: bytes of the record, possibly of a memory-mapped file.
        name: name of the clip, for messages.
    """

    def __init__(self, data: memoryview, name: str) -> None:
        self.name = name
        length = int.from_bytes(data[:8], "little")
        try:
            self._header: dict[str, Any] = json.loads(bytes(data[8 : 8 + length]))
            self._about: dict[str, Any] = json.loads(self._header["__metadata__"]["about"])
        except (ValueError, LookupError, TypeError) as err:
            raise self._damage() from err
        self._body = data[8 + length :]

    def tensor(self, name: str) -> NDArray[Any]:
        """Return a stored array, which must not be modified.

        Raises:
            StoreError: if it is damaged; a checksum finds changed bits, which otherwise would be read as other values.
        """
        try:
            entry = self._header[name]
            start, end = entry["data_offsets"]
            data = self._body[start:end]
            array = np.frombuffer(data, _DTYPES[entry["dtype"]]).reshape(entry["shape"])
        except (ValueError, LookupError, TypeError) as err:
            raise self._damage() from err
        expected = self._about.get("crc32")  # records of earlier versions have none
        if expected is not None and expected.get(name) != zlib.crc32(data):
            raise self._damage()
        return array

    def _damage(self) -> StoreError:
        return StoreError(
            f"The extracted features of {self.name} are damaged. Run dfens extract --remove, then dfens extract."
        )

    @cached_property
    def info(self) -> ClipInfo:
        """The header information of the clip."""
        values = dict(self._about["info"])
        picture, sound = values["picture"], values["sound"]
        values["picture"] = None if picture is None else PictureTrack(**picture)
        values["sound"] = None if sound is None else SoundTrack(**sound)
        return ClipInfo(**{**values, "tags": tuple(values["tags"])})

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the clip for the user."""
        return tuple(self._about["notes"])

    @property
    def sound(self) -> NDArray[np.int16]:
        """The samples of the sound, shape (n_samples,); empty if the clip has none."""
        return self.tensor("sound")

    @property
    def sound_start_s(self) -> float:
        """Start of the sound in seconds after the start of the video."""
        return float(self._about["sound_start_s"])

    @property
    def sample_rate(self) -> int:
        """Sample rate of the sound, in Hz."""
        return int(self._about["mel_settings"]["sample_rate"])

    @property
    def mel_settings(self) -> dict[str, Any]:
        """Settings of the stored log-mel spectrogram."""
        return dict(self._about["mel_settings"])

    @property
    def spread(self) -> NDArray[np.intp]:
        """Indices of the evenly spaced frames."""
        return np.flatnonzero(self.tensor("is_spread"))

    @property
    def keys(self) -> NDArray[np.intp]:
        """Indices of the key frames."""
        return np.flatnonzero(self.tensor("is_key"))

    @property
    def has_face(self) -> bool:
        """Whether a face was found and cropped."""
        return bool(np.isfinite(self.tensor("boxes")).any())

    def frames(self, positions: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return the frames at the given positions, shape (len(positions), size, size, 3), RGB.

        Raises:
            StoreError: if a stored frame cannot be decoded.
        """
        ends = self.tensor("frame_ends")
        data = self.tensor("frames")
        images = []
        for position in positions.tolist():
            blob = data[ends[position - 1] if position else 0 : ends[position]]
            image = cv2.imdecode(blob, cv2.IMREAD_COLOR_RGB)
            if image is None:
                raise self._damage()
            images.append(np.asarray(image, np.uint8))
        return np.stack(images) if images else np.zeros((0, 1, 1, 3), np.uint8)
