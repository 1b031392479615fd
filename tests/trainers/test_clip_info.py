"""Information from the headers of clips; unreadable clips are errors."""

from pathlib import Path

import pytest

from oof.errors import DataError
from tests.support.clips import voice, write_clip
from trainers.data.check_clips import inspect_clip
from trainers.features.extract import extract_clip
from trainers.features.settings import ExtractSettings
from trainers.media.clip_info import probe_clip, undecodable_tail


def test_headers_are_read_in_their_units(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=30, size=(48, 64), rate=15, sound=voice(2.5), sample_rate=16000)
    info = probe_clip(path)
    assert (info.container, info.brand, info.size_bytes) == ("mov", "isom", path.stat().st_size)
    assert info.encoder.startswith("Lavf")
    assert info.picture is not None
    assert info.sound is not None
    assert (info.picture.codec, info.picture.width, info.picture.height) == ("mpeg4", 64, 48)
    assert (info.picture.frame_rate, info.picture.frames, info.picture.duration_s) == (15, 30, 2.0)
    assert (info.sound.codec, info.sound.sample_rate, info.sound.channels) == ("aac", 16000, 1)
    assert info.sound_minus_picture_s == pytest.approx(0.5, abs=0.1)
    assert info.missing_bytes == 0
    assert undecodable_tail(path) == 0.0


def test_rotation_is_read_and_size_is_as_stored(tmp_path: Path) -> None:
    info = probe_clip(write_clip(tmp_path / "a.mp4", frames=3, rotation=90))
    assert info.picture is not None
    assert (abs(info.picture.rotation), info.picture.width, info.picture.height) == (90, 64, 48)


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".avi", ".mov"])
def test_clip_without_sound_or_without_picture(tmp_path: Path, ending: str) -> None:
    silent = probe_clip(write_clip(tmp_path / f"a{ending}", frames=3, options={}))
    assert silent.picture is not None
    assert silent.sound is None
    assert silent.sound_minus_picture_s is None
    heard = probe_clip(write_clip(tmp_path / f"b{ending}", frames=0, sound=voice(0.5), options={}))
    assert heard.picture is None
    assert heard.sound is not None


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_a_video_that_is_shorter_than_the_sound_is_intact(tmp_path: Path, ending: str) -> None:
    """Matroska states the length of the file only, and that of each track in a tag."""
    path = write_clip(tmp_path / f"a{ending}", frames=30, rate=15, sound=voice(4.0), options={}, codec="libx264")
    info = probe_clip(path)
    assert info.picture is not None
    assert info.picture.duration_s == pytest.approx(2.0, abs=0.1)
    assert info.sound_minus_picture_s == pytest.approx(2.0, abs=0.2)
    assert undecodable_tail(path) == 0.0
    assert inspect_clip(str(path)).error is None
    assert extract_clip(str(path), ExtractSettings(frames=4, key_frames=0, frame_size=32)).notes == ()
    data = path.read_bytes()
    if ending == ".mkv":
        path.write_bytes(data[: len(data) // 3])
        assert undecodable_tail(path) > 0.5
        assert "is truncated or damaged" in (inspect_clip(str(path)).error or "")


def test_the_difference_of_unknown_lengths_is_unknown(tmp_path: Path) -> None:
    """A live recording has no lengths in its header; 0 would be the property of an edited clip of equal lengths."""
    path = write_clip(tmp_path / "a.mkv", frames=30, rate=15, sound=voice(4.0), options={"live": "1"})
    info = probe_clip(path)
    assert info.picture is not None
    assert info.sound is not None
    assert info.picture.duration_s == info.sound.duration_s == 0
    assert info.sound_minus_picture_s is None


def test_x264_leaves_its_version_and_quality(tmp_path: Path) -> None:
    info = probe_clip(write_clip(tmp_path / "a.mp4", frames=3, codec="libx264"))
    assert info.picture is not None
    assert info.picture.encoder.startswith("x264 core ")
    assert info.picture.encoder_settings.startswith("crf=")


def test_a_truncated_clip_has_missing_bytes_and_a_missing_tail(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=100, codec="libx264")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    assert probe_clip(path).missing_bytes == pytest.approx(len(data) / 3, abs=100)
    assert undecodable_tail(path) > 0.5


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"no clip at all\n" * 50, "is not a clip that can be read"), (None, "is missing")],
)
def test_a_file_that_is_not_a_clip_is_a_named_error(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "bad clip ü.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"bad clip ü.mp4 {message}"):
        probe_clip(path)


def test_a_header_without_data_is_a_named_error(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", options={})  # the index is at the end
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="its header is damaged"):
        probe_clip(path)
