"""Settings of the extraction from clips."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from oof.errors import ConfigError
from oof.files import file_sha256
from trainers.runtime.settings import check_range, check_types

FrameFormat = Literal["png", "jpeg"]


@dataclass(frozen=True, kw_only=True)
class MelSettings:
    """Settings of a log-mel spectrogram.

    sample_rate: Hz. n_fft: samples of one analysis window (Hann). hop: samples between two windows. bands: number of
    mel bands. fmin, fmax: lowest and highest frequency of the bands, Hz.
    """

    sample_rate: int = 16_000
    n_fft: int = 512
    hop: int = 160
    bands: int = 80
    fmin: float = 20.0
    fmax: float = 8_000.0

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, 1, 1_000_000, "sample_rate", "hop")
        check_range(self, 1, 100_000, "n_fft")
        check_range(self, 1, 1_000, "bands")
        if not (0 <= self.fmin <= self.fmax - 1 and self.fmax <= self.sample_rate / 2):
            raise ConfigError(
                f"fmin = {self.fmin:g} and fmax = {self.fmax:g}: expected fmin from 0 to fmax - 1, and fmax up to "
                f"{self.sample_rate / 2:g} Hz, half of sample_rate = {self.sample_rate}."
            )

    def columns(self, n_samples: int) -> int:
        """Return the number of columns of the spectrogram of a waveform."""
        return 1 + n_samples // self.hop


_MEL = tuple(item.name for item in dataclasses.fields(MelSettings) if item.name != "sample_rate")


@dataclass(frozen=True, kw_only=True)
class ExtractSettings(MelSettings):
    """Settings of the features that `dfens extract` reads from each clip, for all models on clips.

    frames: number of evenly spaced frames. key_frames: maximum number of I-frames, by largest changes of colour.
    frame_size: size of the stored square frames, pixels. faces: ONNX file of a face detector (YuNet or CenterFace);
    without one the centre of each frame is cropped. face_margin: margin around the face, as a fraction of its size.
    frame_format: "png" is lossless; "jpeg" (quality 95, full colour resolution) takes a third of the
    space but adds compression traces. sound_seconds: maximum length of sound that is read. sample_rate: sample rate of
    the sound, Hz. The others describe the log-mel spectrogram stored with the sound; models compute their own
    from the sound, so changing these does not require reading the clips again.
    """

    frames: int = 16
    key_frames: int = 4
    frame_size: int = 224
    faces: str = ""
    face_margin: float = 0.3
    frame_format: FrameFormat = "png"
    sound_seconds: float = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, 1, 100_000, "frames")
        check_range(self, 1, 10_000, "frame_size")
        for name in ("key_frames", "face_margin"):
            if not 0 <= getattr(self, name) < math.inf:  # false for NaN, too
                raise ConfigError(f"{name} = {getattr(self, name)}: expected a finite number, 0 or more.")
        if not 0.01 <= self.sound_seconds <= 1_000_000:
            raise ConfigError(f"sound_seconds = {self.sound_seconds:g}: expected a finite number from 0.01 to 1000000.")

    @property
    def mel(self) -> MelSettings:
        """Return the settings of the spectrogram."""
        return MelSettings(**{name: getattr(self, name) for name in ("sample_rate", *_MEL)})

    @property
    def recipe(self) -> dict[str, Any]:
        """Return what frames and sound depend on as JSON values, with the face detector as the SHA-256 of its file."""
        fields = dataclasses.fields(ExtractSettings)
        values = {item.name: getattr(self, item.name) for item in fields if item.name not in _MEL}
        return {**values, "faces": file_sha256(Path(self.faces)) if self.faces else None}
