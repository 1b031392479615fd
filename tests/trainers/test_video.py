"""Frames of clips: the requested ones are read for any codec, container, frame rate and rotation."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from trainers.media.arrays import Image
from trainers.media.clip_info import open_clip
from trainers.media.clip_writer import Encoding, write_clip
from trainers.media.video import (
    Frame,
    _Reader,
    colour_histogram,
    frame_times,
    histogram_distance,
    key_frame_times,
    picture_span,
    read_frames,
    video_stream,
)

SIZE = 48, 64


def numbered(count: int, size: tuple[int, int] = SIZE) -> list[Image]:
    """Return frames identified by their top left block: 16 levels in red, 16 in green."""
    rng = np.random.default_rng(0)
    scene = rng.integers(60, 190, (*size, 3), np.uint8)
    frames = []
    for index in range(count):
        frame = np.roll(scene, index, 1)
        frame[:16, :16] = [index % 16 * 16 + 8, index // 16 * 16 + 8, 128]
        frames.append(frame)
    return frames


def number_of(image: Image) -> int:
    red, green = image[4:12, 4:12, :2].reshape(-1, 2).mean(0)
    return round(float(red - 8) / 16) + 16 * round(float(green - 8) / 16)


def read(path: Path, count: int) -> list[Frame]:
    with open_clip(path) as container:
        stream = video_stream(container)
        assert stream is not None
        return list(read_frames(container, stream, frame_times(count, *picture_span(container, stream))))


def read_all(path: Path) -> list[Image]:
    """Decode every frame in a loop."""
    with av.open(str(path)) as container:
        return [np.asarray(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


ENCODINGS = {
    "long groups with B-frames": Encoding(options={"crf": "20", "g": "60", "bf": "3", "b-pyramid": "normal"}),
    "short groups": Encoding(options={"crf": "20", "g": "12", "bf": "2"}),
    "open groups": Encoding(options={"crf": "20", "x264-params": "keyint=15:open-gop=1:bframes=3"}),
    "every frame a key frame": Encoding(options={"crf": "20", "g": "1"}),
    "MPEG-4 part 2": Encoding(codec="mpeg4", options={"g": "10", "bf": "2", "q": "3"}),
}


@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize(("ending", "count"), [(".mp4", 7), (".mkv", 7), (".avi", 7), (".ts", 7), (".mp4", 100)])
def test_sparse_reading_gives_the_bits_of_reading_all(
    tmp_path: Path, encoding: Encoding, ending: str, count: int
) -> None:
    path = write_clip(tmp_path / f"a{ending}", numbered(100), 25, encoding=encoding)
    found = read(path, count)
    everything = read_all(path)
    assert len(everything) == 100
    assert len(found) == count
    for frame in found:
        assert np.array_equal(frame.image, everything[round(frame.time_s * 25)])
    wanted = [round((index + 0.5) * 100 / count - 0.5) for index in range(count)]
    assert np.abs(np.array([number_of(frame.image) for frame in found]) - wanted).max() <= 1


def test_the_visible_frame_is_found_with_a_variable_frame_rate(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.08, 2.0, 2.04, 5.0, 5.5, 9.9]  # number 2 is on screen from 0.08 to 2 s
    encoding = Encoding(options={"crf": "10", "bf": "2"})
    path = write_clip(tmp_path / "a.mp4", numbered(8), 25, encoding=encoding, times_s=times)
    with open_clip(path) as container:
        stream = video_stream(container)
        assert stream is not None
        found = list(read_frames(container, stream, [1.0, 2.01, 4.9, 5.2, 20.0]))
    assert [number_of(frame.image) for frame in found] == [2, 3, 4, 5, 7]
    assert [frame.time_s for frame in found] == pytest.approx([0.08, 2.0, 2.04, 5.0, 9.9], abs=0.01)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied(tmp_path: Path, degrees: int) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[:20, :20] = 255  # top left, as stored
    path = write_clip(tmp_path / "a.mp4", [image] * 3, 25, encoding=Encoding(rotation=degrees))
    upright = read(path, 1)[0].image
    expected = np.rot90(image, degrees // 90)
    assert upright.shape == expected.shape
    assert np.abs(upright.astype(int) - expected).mean() < 8


@pytest.mark.parametrize(
    ("codec", "pixel_format", "ending"),
    [
        ("libx264", "yuv444p10le", ".mp4"),
        ("libx264rgb", "rgb24", ".mkv"),
        ("libx264", "gray", ".mp4"),
        ("libx264", "yuvj420p", ".mp4"),
        ("ffv1", "yuv422p", ".mkv"),
        ("ffv1", "gray16le", ".mkv"),
        ("mjpeg", "yuvj444p", ".avi"),
        ("libvpx-vp9", "yuv420p", ".webm"),
    ],
)
def test_any_pixel_format_becomes_rgb(tmp_path: Path, codec: str, pixel_format: str, ending: str) -> None:
    images = [np.full((48, 64, 3), value, np.uint8) for value in (40, 120, 200)]
    encoding = Encoding(codec=codec, pixel_format=pixel_format, options={})
    found = read(write_clip(tmp_path / f"a{ending}", images, 25, encoding=encoding), 3)
    assert [frame.image.shape for frame in found] == [(48, 64, 3)] * 3
    tolerance = 16 if pixel_format == "gray" else 4  # files with grey pixels do not record whether black is 0 or 16
    assert [float(frame.image.mean()) for frame in found] == pytest.approx([40, 120, 200], abs=tolerance)


def test_clip_of_one_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", numbered(1), 25)
    found = read(path, 16)
    assert len(found) == 1
    assert found[0].is_key


def test_if_there_are_fewer_frames_than_requested_each_is_returned_once(tmp_path: Path) -> None:
    found = read(write_clip(tmp_path / "a.mp4", numbered(5), 25), 16)
    assert [number_of(frame.image) for frame in found] == [0, 1, 2, 3, 4]


def decoded_frames(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which each decoded frame adds an entry."""
    count: list[int] = []
    plain = _Reader._decode

    def counting(self: _Reader) -> Iterator[av.VideoFrame]:
        for frame in plain(self):
            count.append(frame.pts or 0)
            yield frame

    monkeypatch.setattr(_Reader, "_decode", counting)
    return count


def test_reading_few_frames_of_a_long_clip_decodes_few_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoding = Encoding(options={"crf": "30", "g": "10", "bf": "0", "preset": "ultrafast"})
    path = write_clip(tmp_path / "a.mp4", numbered(250) * 4, 25, encoding=encoding)
    decoded = decoded_frames(monkeypatch)
    assert len(read(path, 8)) == 8
    assert len(decoded) <= 8 * 12  # of 1,000: one group for each requested frame


def test_a_clip_of_ten_hours_is_read_with_bounded_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = [second * 20.0 for second in range(1_800)]  # one frame every 20 s, all after a single key frame
    encoding = Encoding(options={"crf": "40", "g": "100000", "bf": "0", "preset": "ultrafast", "sc_threshold": "0"})
    path = write_clip(tmp_path / "a.mp4", numbered(10) * 180, 25, encoding=encoding, times_s=times)
    monkeypatch.setattr("trainers.media.video._MOST_BETWEEN", 50)
    decoded = decoded_frames(monkeypatch)
    found = read(path, 4)
    assert len(found) == 4
    assert len(decoded) < 4 * 60
    assert [frame.time_s for frame in found] == sorted(frame.time_s for frame in found)


def test_key_frames_are_listed_with_their_positions(tmp_path: Path) -> None:
    encoding = Encoding(options={"crf": "23", "g": "25", "bf": "2", "sc_threshold": "0"})
    path = write_clip(tmp_path / "a.mp4", numbered(100), 25, encoding=encoding)
    with open_clip(path) as container:
        stream = video_stream(container)
        assert stream is not None
        times = key_frame_times(stream)
        frames = list(read_frames(container, stream, times))
    assert times == pytest.approx([0, 1, 2, 3])
    assert [frame.is_key for frame in frames] == [True] * 4
    assert [number_of(frame.image) for frame in frames] == [0, 25, 50, 75]


def test_a_cut_changes_the_histogram_but_movement_hardly_does() -> None:
    scene = [colour_histogram(image) for image in numbered(2)]
    assert histogram_distance(scene[0], scene[0]) == 0
    assert histogram_distance(scene[0], scene[1]) < 0.1
    red, blue = (np.broadcast_to(np.array(colour, np.uint8), (48, 64, 3)) for colour in ((200, 10, 10), (10, 10, 200)))
    assert histogram_distance(colour_histogram(red), colour_histogram(blue)) == pytest.approx(1.0)
