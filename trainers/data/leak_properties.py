"""Read the properties of files that do not depend on their content, as columns to be scored."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath

import numpy as np

from oof.errors import DataError
from oof.progress import Progress
from trainers.data.file_index import Media
from trainers.data.leak_scores import Property
from trainers.media.clip_info import ClipInfo, probe_clip
from trainers.media.image_info import in_threads
from trainers.media.image_properties import ImageProperties, read_image_properties
from trainers.media.sound_levels import SoundLevels, measure_sound

Value = float | int | str | None
Values = Mapping[str, Value]

_ENCODE = "Re-encode all files in the same way, including test files, or hold out whole encoders with [folds] group."
_SIZE = "Crop or resize all files in the same way before re-encoding, including test files."
_TRIM = "Trim the silence at both ends of all clips, including test clips, or start windows where the sound starts."
_LENGTH = "Draw windows of equal length from all clips, and do not use the length as a feature."
_LOUD = "Normalise the sound of all clips to the same loudness."
_TAG = "Remove the tags of all files, and do not use them as features."
_NAME = "Models do not see names; do not use them as features, and check whether test names follow the same pattern."
_NO_SOUND = "Train models of sound on clips with sound, and score the others separately."
_DIGITS = re.compile(r"(\d+)")
_HASH = re.compile(r"[0-9a-f-]{16,}")

# advice by property, in the order of tables without leaks
ADVICE: Mapping[str, str] = {
    "leading silence (s)": _TRIM,
    "trailing silence (s)": _TRIM,
    "leading pause (s)": _TRIM,
    "trailing pause (s)": _TRIM,
    "sound": _NO_SOUND,
    "duration (s)": _LENGTH,
    "sound minus picture (s)": _LENGTH,
    "start of the sound (s)": _TRIM,
    "loudness (dB)": _LOUD,
    "peak (dB)": _LOUD,
    "file size (kB)": _ENCODE,
    "bit rate (kbit/s)": _ENCODE,
    "picture bit rate (kbit/s)": _ENCODE,
    "sound bit rate (kbit/s)": _ENCODE,
    "container": _ENCODE,
    "format": _ENCODE,
    "picture codec": _ENCODE,
    "sound codec": _ENCODE,
    "encoder": _ENCODE,
    "encoder settings": _ENCODE,
    "frame rate (1/s)": _ENCODE,
    "sample rate (Hz)": _ENCODE,
    "channels": _ENCODE,
    "JPEG quality": _ENCODE,
    "quantisation tables": _ENCODE,
    "chroma subsampling": _ENCODE,
    "coding": _ENCODE,
    "colour mode": _ENCODE,
    "width x height": _SIZE,
    "pixels": _SIZE,
    "aspect ratio": _SIZE,
    "rotation": _SIZE,
    "tags": _TAG,
    "EXIF": _TAG,
    "colour profile": _TAG,
    "density": _TAG,
    "name order": _NAME,
    "name prefix": _NAME,
    "name length": _NAME,
    "name ending": _NAME,
}


def read_properties(
    paths: Sequence[str], media: Media, *, threads: int = 1, progress: Progress
) -> tuple[list[Property], np.ndarray]:
    """Return the properties of files, and which of the files could be read.

    For images, only the headers are read; for clips, the headers, the first frame, and the ends of the sound.

    Args:
        paths: paths of the files.
        media: kind of files.
        threads: number of reading threads.
        progress: receives progress by file.

    Returns:
        A column for each property, and a mask of the files that could be read, (n_files,) bool. The columns have one
        value for each of these files.
    """
    read = _clip_values if media == "clips" else _image_values
    found = in_threads(_or_none(read), paths, threads, progress, "file properties")
    is_read = np.array([values is not None for values in found], bool)
    known = [path for path, values in zip(paths, found, strict=True) if values is not None]
    rows = [values for values in found if values is not None]
    names = _name_values(known)
    columns = []
    for name, advice in ADVICE.items():
        values = [{**row, **more}.get(name) for row, more in zip(rows, names, strict=True)]
        if any(value is not None for value in values):
            columns.append(_property(name, values, advice))
    return columns, is_read


def _or_none(read: Callable[[str], Values]) -> Callable[[str], Values | None]:
    def function(path: str) -> Values | None:
        try:
            return read(path)
        except DataError:  # the check lists it
            return None

    return function


def _property(name: str, values: Sequence[Value], advice: str) -> Property:
    """Return a column of numbers if all values are numbers, otherwise of texts."""
    if any(isinstance(value, str) for value in values):
        return Property(name, np.array(["" if value is None else str(value) for value in values], object), advice)
    return Property(name, np.array([np.nan if value is None else value for value in values], np.float64), advice)


def _image_values(path: str) -> Values:
    image: ImageProperties = read_image_properties(path)
    return {
        "file size (kB)": image.size_bytes / 1000,
        "format": image.format,
        "JPEG quality": image.quality,
        "quantisation tables": image.tables,
        "chroma subsampling": image.subsampling,
        "coding": image.progressive,
        "colour mode": image.mode,
        "width x height": f"{image.width} x {image.height}",
        "pixels": image.width * image.height,
        "aspect ratio": image.width / image.height,
        "tags": image.tags,
        "EXIF": image.exif,
        "colour profile": image.profile,
        "density": image.density,
    }


def _clip_values(path: str) -> Values:
    info = probe_clip(path)
    return {
        "file size (kB)": info.size_bytes / 1000,
        "container": f"{info.container} {info.brand}".strip(),
        "encoder": " ".join(filter(None, (info.encoder, info.picture.encoder if info.picture else ""))),
        "tags": " ".join(info.tags),
        "bit rate (kbit/s)": info.bit_rate / 1000,
        "duration (s)": info.picture.duration_s if info.picture and info.picture.duration_s else info.duration_s,
        "sound minus picture (s)": info.sound_minus_picture_s,
        **_picture_values(info),
        **_sound_values(info, None if info.sound is None else measure_sound(path)),
    }


def _picture_values(info: ClipInfo) -> Values:
    picture = info.picture
    if picture is None:
        return {}
    return {
        "picture codec": f"{picture.codec} {picture.profile} {picture.pixel_format}",
        "encoder settings": picture.encoder_settings,
        "picture bit rate (kbit/s)": picture.bit_rate / 1000 or None,
        "frame rate (1/s)": picture.frame_rate,
        "width x height": f"{picture.width} x {picture.height}",
        "pixels": picture.width * picture.height,
        "rotation": f"{picture.rotation} degrees",
    }


def _sound_values(info: ClipInfo, levels: SoundLevels | None) -> Values:
    sound = info.sound
    if sound is None or levels is None:
        return {"sound": "none"}
    return {
        "sound": "silent" if levels.is_silent else "yes",
        "sound codec": f"{sound.codec} {sound.profile}",
        "sound bit rate (kbit/s)": sound.bit_rate / 1000 or None,
        "sample rate (Hz)": sound.sample_rate,
        "channels": sound.channels,
        "start of the sound (s)": sound.start_s - (info.picture.start_s if info.picture else 0.0),
        "leading silence (s)": levels.leading_silence_s,
        "trailing silence (s)": levels.trailing_silence_s,
        "leading pause (s)": levels.leading_pause_s,
        "trailing pause (s)": levels.trailing_pause_s,
        "loudness (dB)": levels.loudness_db,
        "peak (dB)": levels.peak_db,
    }


def _name_values(paths: Sequence[str]) -> list[Values]:
    """Return properties of file names: natural order, letters before the first digit, length, ending."""
    names = [PurePath(path) for path in paths]
    keys = [_natural_key(path.stem) for path in names]
    rank = {key: position for position, key in enumerate(sorted(set(keys)))}
    return [
        {
            "name order": float(rank[key]),
            "name prefix": "" if _HASH.fullmatch(path.stem) else _DIGITS.split(path.stem)[0],
            "name length": float(len(path.stem)),
            "name ending": path.suffix,
        }
        for path, key in zip(names, keys, strict=True)
    ]


def _natural_key(stem: str) -> tuple[tuple[str, int], ...]:
    """Return a sort key that puts `a9` before `a10`; a hash is compared as text."""
    if _HASH.fullmatch(stem):
        return ((stem, 0),)
    parts = _DIGITS.split(stem)
    return tuple((parts[at], int(parts[at + 1]) if at + 1 < len(parts) else 0) for at in range(0, len(parts), 2))
