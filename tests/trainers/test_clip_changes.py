"""Changed clips: re-encoding, fewer or smaller frames, and degraded sound."""

from pathlib import Path

import av
import numpy as np
import pytest

from oof.errors import DataError
from tests.support.clips import voice
from trainers.features.extract import extract_clip
from trainers.features.settings import ExtractSettings
from trainers.media.clip_changes import CLIP_CHANGES, changed_clip
from trainers.media.clip_info import ClipInfo, probe_clip
from trainers.media.clip_writer import Encoding, write_clip

SETTINGS = ExtractSettings(frames=4, key_frames=0, frame_size=48)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 255, (12, 16, 3), np.uint8), np.ones((4, 4, 1), np.uint8))
    images = [np.roll(scene, index, 1) for index in range(24)]
    sound = voice(1.0, silence=0.25)
    return write_clip(tmp_path / "a.mp4", images, 24, sound, encoding=Encoding(options={"crf": "10"}))


def changed(path: Path, name: str, severity: float) -> tuple[Path, ClipInfo]:
    target = path.with_name("changed.mp4")
    changed_clip(str(path), target, name, severity, np.random.default_rng(0))
    return target, probe_clip(target)


def test_stronger_compression_costs_detail(path: Path) -> None:
    before = extract_clip(str(path), SETTINGS).images[0].astype(int)
    errors = []
    for crf in CLIP_CHANGES["re-encoding"].severities:
        target, _ = changed(path, "re-encoding", crf)
        errors.append(np.abs(extract_clip(str(target), SETTINGS).images[0].astype(int) - before).mean())
    assert 0 < errors[0] < errors[1] < errors[2]


def test_half_the_frames_and_half_the_size(path: Path) -> None:
    _, info = changed(path, "frame rate", 0.5)
    assert info.picture is not None
    assert (info.picture.frames, info.picture.frame_rate, info.picture.width) == (12, 12, 64)
    assert info.picture.duration_s == pytest.approx(1.0, abs=0.05)
    _, info = changed(path, "size", 0.5)
    assert info.picture is not None
    assert (info.picture.width, info.picture.height, info.picture.frames) == (32, 24, 24)


def test_noise_has_the_requested_level(path: Path) -> None:
    before = extract_clip(str(path), SETTINGS).sound.astype(float)
    target, _ = changed(path, "sound noise", 10.0)
    after = extract_clip(str(target), SETTINGS).sound.astype(float)
    silent = slice(500, 3_500)
    expected = np.sqrt(np.mean(before**2)) * 10 ** (-10 / 20)
    assert np.sqrt(np.mean(after[silent] ** 2)) == pytest.approx(expected, rel=0.3)  # AAC removes some of it


def test_silence_at_the_start_is_trimmed_with_its_frames(path: Path) -> None:
    target, info = changed(path, "silence trimmed", 1)
    assert info.picture is not None
    assert info.picture.frames == pytest.approx(18, abs=1)
    sound = extract_clip(str(target), SETTINGS).sound
    assert np.flatnonzero(np.abs(sound.astype(int)) > 300)[0] < 2_000


@pytest.mark.parametrize("name", CLIP_CHANGES)
def test_sound_keeps_its_time_and_its_end(tmp_path: Path, name: str) -> None:
    click = np.zeros(12_800, np.float32)
    click[4_800:4_850] = 0.8  # 0.3 s after the start of the sound
    flac = Encoding(audio_codec="flac", audio_start_s=0.2)
    images = [np.full((32, 32, 3), 9 * index, np.uint8) for index in range(12)]
    times_s = [*(index / 48 for index in range(11)), 0.9]
    path = write_clip(tmp_path / "a.mkv", images, 24, click, encoding=flac, times_s=times_s)
    target, _ = changed(path, name, CLIP_CHANGES[name].severities[-1])
    found = extract_clip(str(target), SETTINGS)
    cut_s = 10 / 48 if name == "silence trimmed" else 0.0  # the first 0.5 s are silent; this frame is displayed then
    heard_s = found.sound_start_s + np.abs(found.sound.astype(int)).argmax() / 16_000
    assert heard_s + cut_s == pytest.approx(0.5, abs=0.01)
    assert found.sound_start_s + len(found.sound) / 16_000 + cut_s == pytest.approx(1.0, abs=0.15)
    with av.open(str(target)) as container:
        shown_s = [float(frame.time or 0) + cut_s for frame in container.decode(video=0)]
    expected_s = {"frame rate": times_s[::2], "silence trimmed": times_s[10:]}.get(name, times_s)
    assert shown_s == pytest.approx(expected_s, abs=0.002)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_frames_of_an_avi_are_counted_as_in_the_extraction(tmp_path: Path, codec: str) -> None:
    """FFmpeg's guesses of their times are out of order if frames are stored in another order than displayed."""
    options = {"bf": "2"} if codec == "mpeg4" else {"x264-params": "bframes=3:b-adapt=0"}
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264" if codec == "libx264" else "mpeg4", rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(24):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * index, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    settings = ExtractSettings(frames=24, key_frames=0, frame_size=32)
    before = extract_clip(str(path), settings)
    target, info = changed(path, "re-encoding", 28)
    after = extract_clip(str(target), settings)
    assert info.picture is not None
    assert info.picture.frames == len(before.images) == 24
    assert after.times_s == pytest.approx(before.times_s, abs=0.002)
    brightness = [[float(image.mean()) for image in found.images] for found in (before, after)]
    assert brightness[1] == pytest.approx(brightness[0], abs=6)


def test_a_damaged_clip_is_changed_as_far_as_it_can_be_decoded(path: Path) -> None:
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat")
    data[start + 2_500 : start + 5_000 : 7] = bytes(len(range(start + 2_500, start + 5_000, 7)))
    path.write_bytes(data)
    before = extract_clip(str(path), SETTINGS)
    assert any("damaged" in note or "cannot be decoded" in note for note in before.notes)
    target, info = changed(path, "re-encoding", 28)
    assert info.picture is not None
    assert len(extract_clip(str(target), SETTINGS).images) == len(before.images)
    path.write_bytes(b"no clip")
    with pytest.raises(DataError, match="is not a clip that can be read"):
        changed(path, "re-encoding", 28)


@pytest.mark.parametrize("name", CLIP_CHANGES)
def test_changes_apply_to_the_tracks_that_a_clip_has(tmp_path: Path, name: str) -> None:
    severity = CLIP_CHANGES[name].severities[-1]
    silent = write_clip(tmp_path / "a.mp4", [np.zeros((32, 32, 3), np.uint8)] * 6, 24)
    _, info = changed(silent, name, severity)
    assert info.sound is None
    assert info.picture is not None
    heard = write_clip(tmp_path / "b.mp4", [], 24, voice(0.5))
    _, info = changed(heard, name, severity)
    assert info.picture is None
    assert info.sound is not None


@pytest.mark.parametrize("name", ["re-encoding", "size"])
@pytest.mark.parametrize("size", [(1, 48), (48, 1), (1, 1), (3, 5)])
def test_frames_of_any_size_are_changed(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    lossless = Encoding(codec="libx264rgb", pixel_format="rgb24", options={"crf": "0"})
    images = [np.full((*size, 3), 40 + 9 * index, np.uint8) for index in range(6)]
    path = write_clip(tmp_path / "a.mkv", images, 24, encoding=lossless)
    target, info = changed(path, name, CLIP_CHANGES[name].severities[0])
    assert info.picture is not None
    with av.open(str(target)) as container:
        first = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert min(first.shape[:2]) >= 2
    assert first.mean() == pytest.approx(40, abs=4)
