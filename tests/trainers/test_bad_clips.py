"""The check and the extraction handle every unusual or broken clip listed in docs/clips.md."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from oof.errors import DataError
from tests.support.clips import voice
from trainers.data.check_clips import inspect_clip
from trainers.data.layouts import read_competition
from trainers.data.settings import DataSettings
from trainers.features.clips import clip_store, extract_clips
from trainers.features.settings import ExtractSettings
from trainers.media.arrays import Image
from trainers.media.clip_writer import Encoding, write_clip

SETTINGS = ExtractSettings(frames=4, key_frames=2, frame_size=32, sound_seconds=3.0)
SECONDS, RATE = 1.0, 25
FAST = {"crf": "20", "preset": "ultrafast", "g": "5"}


def pictures(count: int = 25) -> list[Image]:
    rng = np.random.default_rng(0)
    scene = rng.integers(40, 220, (48, 64, 3), np.uint8)
    return [np.roll(scene, 2 * index, 1) for index in range(count)]


def write(path: Path, count: int = 25, sound: NDArray[np.float32] | None = None, **encoding: Any) -> None:
    options = {"sample_rate": encoding.pop("sample_rate", 16_000), "times_s": encoding.pop("times_s", None)}
    write_clip(path, pictures(count), RATE, sound, encoding=Encoding(**{"options": FAST, **encoding}), **options)


def heard(seconds: float = SECONDS, sample_rate: int = 16_000) -> NDArray[np.float32]:
    return voice(seconds, sample_rate)


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def written_and_cut(path: Path, share: float) -> None:
    write(path, 60, None, options={**FAST, "crf": "5"})
    cut(path, share)


def without_frames(path: Path) -> None:
    """Write a clip with the headers of a video track but without packets."""
    write(path, 2, heard())
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4])


def ten_hours(path: Path) -> None:
    """Write a clip of ten hours with a frame every 3 hours 20 minutes, and sound only at the start."""
    times = [at + index / RATE for at in (0, 12_000, 24_000, 36_000) for index in range(5)]
    write(path, 20, heard(5.0), times_s=times)


@dataclass(frozen=True)
class Case:
    """A way to make a clip, and the expected results.

    frames: stored evenly spread frames. sound_s: seconds of stored sound. note: pattern of a note of the extraction.
    reason: pattern of the reason why nothing can be read. check: pattern of the error of `dfens check`.
    """

    make: Callable[[Path], object]
    frames: int = 4
    sound_s: float = SECONDS
    note: str = ""
    reason: str = ""
    check: str = ""


CASES: dict[str, Case] = {
    "no video stream.m4a.mp4": Case(lambda path: write(path, 0, heard()), frames=0, note="^no video$"),
    "no audio stream.mp4": Case(write, sound_s=0, note="^no sound$"),
    "zero frames.mp4": Case(without_frames, reason="has neither frames nor sound", check="is truncated"),
    "header only.mp4": Case(
        lambda path: written_and_cut(path, 0.02),
        reason="is not a clip|cannot be read|neither",
        check="is truncated|is not|read",
    ),
    "cut in the middle.mp4": Case(
        lambda path: written_and_cut(path, 0.5), sound_s=0, note="video ends after", check="is truncated"
    ),
    "variable frame rate.mp4": Case(
        lambda path: write(path, 8, heard(), times_s=[0.0, 0.04, 0.08, 0.3, 0.34, 0.5, 0.54, 0.8])
    ),
    "one frame.mp4": Case(lambda path: write(path, 1), frames=1, sound_s=0),
    "ten hours.mp4": Case(ten_hours, frames=3, sound_s=3.0, note="^sound read up to 3 s$"),
    "yuv444p10.mp4": Case(lambda path: write(path, sound=heard(), pixel_format="yuv444p10le")),
    "rgb24.mkv": Case(lambda path: write(path, sound=heard(), codec="libx264rgb", pixel_format="rgb24")),
    "gray.mp4": Case(lambda path: write(path, sound=heard(), pixel_format="gray")),
    "5.1.mp4": Case(lambda path: write(path, sound=heard(), audio_layout="5.1")),
    "8 kHz.mp4": Case(lambda path: write(path, sound=heard(sample_rate=8_000), sample_rate=8_000)),
    "late.mp4": Case(lambda path: write(path, sound=heard(), audio_start_s=0.4)),
    "Übung mit 中文 🎬.mp4": Case(lambda path: write(path, sound=heard())),
    "text.mp4": Case(
        lambda path: path.write_text("no clip\n" * 40),
        reason="is not a clip that can be read",
        check="is not a clip",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_unusual_clips_are_valid_and_broken_ones_are_named(tmp_path: Path, name: str) -> None:
    case, path = CASES[name], tmp_path / name
    case.make(path)
    error = inspect_clip(str(path)).error or ""
    assert bool(case.check) == bool(error), error
    assert re.search(case.check, error)
    summary = extract_clips([str(path)], SETTINGS, tmp_path / "work", tmp_path)
    if case.reason:
        (failure,) = summary.failures
        assert re.search(case.reason, failure.reason)
        return
    found = clip_store(SETTINGS, tmp_path / "work", tmp_path).view([str(path)]).record(0)
    assert found is not None
    assert len(found.spread) == case.frames
    assert len(found.sound) / 16_000 == pytest.approx(case.sound_s, abs=0.13)
    assert not case.note or any(re.search(case.note, note) for note in found.notes), found.notes
    if case.frames:
        frames = found.frames(found.spread)
        assert frames.shape == (case.frames, 32, 32, 3)
        assert frames.std() > 10
    if name == "late.mp4":
        assert found.sound_start_s == pytest.approx(0.4, abs=0.07)


def test_one_run_over_all_clips_stores_the_readable_ones(tmp_path: Path) -> None:
    for name, case in CASES.items():
        case.make(tmp_path / name)
    paths = [str(tmp_path / name) for name in CASES]
    summary = extract_clips(paths, SETTINGS, tmp_path / "work", tmp_path, threads=2)
    failed = {name for name, case in CASES.items() if case.reason}
    assert {Path(failure.path).name for failure in summary.failures} == failed
    assert (summary.stored, summary.missing) == (len(CASES) - len(failed), 0)


def test_two_files_with_one_id_are_an_error(tmp_path: Path) -> None:
    for row in range(4):
        write(tmp_path / "train" / f"clip{row}.mp4", 2)
    write(tmp_path / "train" / "clip2.mkv", 3)
    pd.DataFrame({"id": [f"clip{row}" for row in range(4)], "target": [0, 1, 0, 1]}).to_csv(
        tmp_path / "train.csv", index=False
    )
    write(tmp_path / "test" / "t.mp4", 2)
    pd.DataFrame({"id": ["t"], "y_pred": 0.5}).to_csv(tmp_path / "sample_submission.csv", index=False)
    settings = DataSettings(layout="table", root=tmp_path)
    with pytest.raises(DataError, match=r"1 of 4 train rows match several files in .*: clip2\. Add the ending"):
        read_competition(settings)
    (tmp_path / "train" / "clip2.mkv").unlink()
    assert len(read_competition(settings).train) == 4
