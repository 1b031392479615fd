"""Settings of what is extracted from clips."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from oof.errors import ConfigError
from oof.files import file_sha256

FrameFormat = Literal["png", "jpeg"]


@dataclass(frozen=True, kw_only=True)
class MelSettings:
    """How a waveform becomes a log-mel spectrogram.

    sample_rate: Hz. n_fft: samples of one analysis window (Hann). hop: samples between two windows. bands: number of
    mel bands. fmin, fmax: Hz, lowest and highest frequency of the bands; nothing outside them is in the spectrogram.
    """

    sample_rate: int = 16_000
    n_fft: int = 512
    hop: int = 160
    bands: int = 80
    fmin: float = 20.0
    fmax: float = 8_000.0

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_fft", "hop", "bands"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: expected 1 or more.")
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            raise ConfigError(
                f"fmin = {self.fmin:g} and fmax = {self.fmax:g}: expected 0 <= fmin < fmax <= {self.sample_rate / 2:g} "
                f"Hz, half the sample rate."
            )

    def columns(self, n_samples: int) -> int:
        """Return the number of columns of the spectrogram of a waveform."""
        return 1 + n_samples // self.hop


_MEL = tuple(item.name for item in dataclasses.fields(MelSettings) if item.name != "sample_rate")


@dataclass(frozen=True, kw_only=True)
class ExtractSettings(MelSettings):
    """What `dfens extract` takes from each clip, and every model on clips reads.

    frames: evenly spread frames. key_frames: I-frames, those at the largest changes of colour first. frame_size: edge
    of the stored frames in pixels. faces: ONNX file of a face detector (YuNet or CenterFace); without one the centre
    of each frame is cropped. face_margin: share by which the square around a face is wider than the face.
    frame_format: "png" keeps the pixels as decoded; "jpeg" (quality 95, full colour resolution) takes a third of the
    space and lays its own traces over them. sound_seconds: where reading a sound track stops. sample_rate: of the
    sound, Hz. The others describe the log-mel spectrogram that is stored next to the sound; models compute their own
    from the sound, so changing them does not mean reading the clips again.
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
        for name in ("frames", "frame_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: expected 1 or more.")
        for name in ("key_frames", "face_margin"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)}: expected 0 or more.")
        if self.sound_seconds <= 0:
            raise ConfigError(f"sound_seconds = {self.sound_seconds:g}: expected more than 0.")

    @property
    def mel(self) -> MelSettings:
        """The part that describes the spectrogram."""
        return MelSettings(**{name: getattr(self, name) for name in ("sample_rate", *_MEL)})

    @property
    def recipe(self) -> dict[str, Any]:
        """What frames and sound depend on, as JSON values; the face detector by the SHA-256 of its file."""
        fields = dataclasses.fields(ExtractSettings)
        values = {item.name: getattr(self, item.name) for item in fields if item.name not in _MEL}
        return {**values, "faces": file_sha256(Path(self.faces)) if self.faces else None}
