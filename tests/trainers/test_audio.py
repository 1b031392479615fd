"""The sound of clips: length, level and start, for any rate and number of channels."""

from enum import IntFlag
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from trainers.features.mel import hz_to_mel, log_mel, mel_filterbank, mel_to_hz
from trainers.features.settings import MelSettings
from trainers.media.audio import Sound, _start, audio_stream, read_audio
from trainers.media.clip_info import open_clip
from trainers.media.clip_writer import Encoding, write_clip
from trainers.media.sound_levels import measure_sound


def tone(frequency: float, seconds: float, sample_rate: int, level: float = 0.3) -> NDArray[np.float32]:
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return np.asarray(level * np.sin(2 * np.pi * frequency * time), np.float32)


def sound_of(path: Path, max_seconds: float = 60.0) -> Sound:
    with open_clip(path) as container:
        stream = audio_stream(container)
        assert stream is not None
        return read_audio(container, stream, sample_rate=16_000, max_seconds=max_seconds)


def pitch(sound: Sound) -> float:
    """Return the loudest frequency in Hz."""
    spectrum = np.abs(np.fft.rfft(sound.samples * np.hanning(len(sound.samples))))
    return float(np.argmax(spectrum) * sound.sample_rate / len(sound.samples))


@pytest.mark.parametrize(
    ("sample_rate", "layout", "codec", "ending"),
    [
        (8_000, "mono", "aac", ".mp4"),
        (48_000, "stereo", "aac", ".mp4"),
        (48_000, "5.1", "aac", ".mp4"),
        (44_100, "mono", "pcm_s16le", ".mkv"),
        (48_000, "stereo", "libopus", ".webm"),
        (16_000, "mono", "flac", ".mkv"),
    ],
)
def test_any_sound_becomes_one_channel_at_16_khz(
    tmp_path: Path, sample_rate: int, layout: str, codec: str, ending: str
) -> None:
    encoding = Encoding(audio_codec=codec, audio_layout=layout)
    path = write_clip(tmp_path / f"a{ending}", [], 25, tone(440, 2.0, sample_rate), sample_rate, encoding)
    sound = sound_of(path)
    assert sound.samples.dtype == np.int16
    assert sound.samples.ndim == 1
    assert sound.duration_s == pytest.approx(2.0, abs=0.15)  # codecs pad their first and last block
    assert pitch(sound) == pytest.approx(440, abs=2)
    level = np.sqrt(np.mean((sound.samples[4_000:-4_000] / 32_768) ** 2))
    assert 0.1 < level < 0.6  # 0.21 as recorded; a mix of six equal channels is louder
    assert (sound.errors, sound.is_cut) == (0, False)


def test_sound_that_starts_late_keeps_its_length_and_is_reported(tmp_path: Path) -> None:
    images = [np.zeros((16, 16, 3), np.uint8)] * 50
    path = write_clip(tmp_path / "a.mp4", images, 25, tone(440, 1.0, 16_000), 16_000, Encoding(audio_start_s=0.75))
    sound = sound_of(path)
    assert sound.start_s == pytest.approx(0.75, abs=0.07)  # AAC's first block is decoded away
    assert sound.duration_s == pytest.approx(1.0, abs=0.15)


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", [], 25, tone(440, 5.0, 16_000), 16_000, Encoding(audio_codec="flac"))
    sound = sound_of(path, max_seconds=1.5)
    assert (len(sound.samples), sound.is_cut) == (24_000, True)


def test_sound_can_be_read_after_the_frames(tmp_path: Path) -> None:
    images = [np.full((16, 16, 3), value, np.uint8) for value in range(0, 250, 10)]
    path = write_clip(tmp_path / "a.mp4", images, 25, tone(440, 1.0, 16_000), 16_000)
    with open_clip(path) as container:
        stream = audio_stream(container)
        assert stream is not None
        list(container.decode(video=0))
        late = read_audio(container, stream)
    assert np.array_equal(late.samples, sound_of(path).samples)


# ---- mel ---------------------------------------------------------------------


def test_a_cover_image_is_not_the_video_that_sound_is_aligned_to() -> None:
    class Disposition(IntFlag):
        attached_pic = 1

    def stream(start: int, flags: int) -> SimpleNamespace:
        return SimpleNamespace(start_time=start, time_base=Fraction(1, 10), disposition=Disposition(flags))

    sound = stream(30, 0)
    streams = SimpleNamespace(video=[stream(0, 1), stream(25, 0)])
    assert _start(SimpleNamespace(streams=streams), sound) == 0.5  # type: ignore[arg-type]
    streams.video.pop()
    assert _start(SimpleNamespace(streams=streams), sound) == 3.0  # type: ignore[arg-type]


def slow_log_mel(samples: NDArray[np.int16], settings: MelSettings) -> NDArray[np.float64]:
    """The spectrogram from its definition: one column and one band at a time."""
    values = np.concatenate([np.zeros(settings.n_fft // 2), samples / 32_768, np.zeros(settings.n_fft // 2)])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(settings.n_fft) / settings.n_fft)
    corners = 700 * (
        10
        ** (
            np.linspace(
                2595 * np.log10(1 + settings.fmin / 700), 2595 * np.log10(1 + settings.fmax / 700), settings.bands + 2
            )
            / 2595
        )
        - 1
    )
    columns = []
    for start in range(0, len(samples) + 1, settings.hop):
        power = np.abs(np.fft.rfft(values[start : start + settings.n_fft] * window)) ** 2
        column = []
        for low, middle, high in zip(corners, corners[1:], corners[2:], strict=False):
            total = 0.0
            for position, value in enumerate(power):
                hz = position * settings.sample_rate / settings.n_fft
                if low < hz <= middle:
                    total += value * (hz - low) / (middle - low) * 2 / (high - low)
                elif middle < hz < high:
                    total += value * (high - hz) / (high - middle) * 2 / (high - low)
            column.append(np.log(total / np.sum(window**2) + 1e-9))
        columns.append(column)
    return np.array(columns).T


def test_log_mel_equals_its_definition() -> None:
    settings = MelSettings(n_fft=256, hop=100, bands=20, fmin=100, fmax=6_000)
    samples = np.random.default_rng(0).integers(-20_000, 20_000, 1_000).astype(np.int16)
    found = log_mel(samples, settings)
    assert found.shape == (20, settings.columns(1_000))
    assert found == pytest.approx(slow_log_mel(samples, settings), abs=1e-3)


def test_frequencies_outside_fmin_and_fmax_are_ignored() -> None:
    settings = MelSettings(bands=40, fmin=500, fmax=3_000)
    silence = log_mel(np.zeros(16_000, np.int16), settings)
    for frequency in (100, 7_000):
        loud = (20_000 * tone(frequency, 1.0, 16_000, 1.0)).astype(np.int16)
        columns = slice(4, -4)  # where the sound starts and ends, it has all frequencies
        assert log_mel(loud, settings)[:, columns].max() < silence.max() + 3  # a Hann window leaks a little
    inside = (20_000 * tone(1_000, 1.0, 16_000, 1.0)).astype(np.int16)
    assert log_mel(inside, settings).max() > silence.max() + 10


def test_filters_have_equal_area_and_the_mel_scale_is_invertible() -> None:
    settings = MelSettings(n_fft=4_096, bands=30)
    assert mel_filterbank(settings).sum(1) * settings.sample_rate / settings.n_fft == pytest.approx(1.0, abs=0.06)
    hz = np.array([20.0, 1_000.0, 8_000.0])
    assert mel_to_hz(hz_to_mel(hz)) == pytest.approx(hz)
    assert hz_to_mel(np.array([1_000.0]))[0] == pytest.approx(1_000, abs=0.1)  # how the scale is defined


def test_sound_shorter_than_a_window_has_a_spectrogram() -> None:
    for count in (0, 1, 100):
        found = log_mel(np.zeros(count, np.int16), MelSettings())
        assert found.shape == (80, 1)
        assert np.isfinite(found).all()


@pytest.mark.parametrize(("fmin", "fmax"), [(-1, 8_000), (4_000, 4_000), (20, 8_001)])
def test_frequencies_out_of_range_are_named(fmin: float, fmax: float) -> None:
    from oof.errors import ConfigError

    with pytest.raises(ConfigError, match=f"fmax = {fmax}"):
        MelSettings(fmin=fmin, fmax=fmax)


def write_tone(path: Path, layout: str) -> Path:
    """Write a second of a tone at half of full scale in all channels."""
    samples = (32_768 * tone(440, 1.0, 16_000, 0.5)).astype(np.int16)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=16_000)
        stream.layout = layout
        count = len(stream.layout.channels)
        whole = av.AudioFrame.from_ndarray(np.repeat(samples, count)[None], format="s16", layout=layout)
        whole.sample_rate = 16_000
        for frame in av.AudioResampler(format=stream.format.name, layout=layout, rate=16_000).resample(whole):
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_the_level_does_not_depend_on_the_number_of_channels(tmp_path: Path, layout: str) -> None:
    path = write_tone(tmp_path / "a.mov", layout)
    levels = measure_sound(path)
    assert levels is not None
    assert levels.peak_db == pytest.approx(-6.02, abs=0.05)
    assert levels.loudness_db == pytest.approx(-9.03, abs=0.05)
    with open_clip(path) as container:
        samples = read_audio(container, container.streams.audio[0]).samples
    assert 20 * np.log10(np.abs(samples.astype(float)).max() / 32_768) == pytest.approx(levels.peak_db, abs=0.05)
