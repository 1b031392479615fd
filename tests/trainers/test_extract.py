"""Extraction from clips: correct values, broken clips, the store, and resuming after a kill."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from oof.errors import DataError, StoreError
from tests.support.scenes import SETTINGS, clip, record
from trainers.features.clip_features import NAMES_SOUND, clip_features
from trainers.features.clips import clip_store, extract_clips
from trainers.features.extract import extract_clip
from trainers.features.settings import ExtractSettings
from trainers.media.clip_record import ClipRecord, encode_record
from trainers.media.clip_writer import Encoding

# ---- one clip ----------------------------------------------------------------


def test_a_record_contains_all_extracted_data(tmp_path: Path) -> None:
    groups = Encoding(options={"crf": "23", "g": "10"})  # a key frame at the cut
    parts = extract_clip(str(clip(tmp_path, encoding=groups)), SETTINGS)
    found = record(parts)
    assert found.frames(found.spread).shape == (4, 32, 32, 3)
    assert np.array_equal(found.frames(found.spread), np.stack([parts.images[row] for row in found.spread]))  # lossless
    assert np.diff(found.tensor("times_s")[found.spread]) == pytest.approx(0.2, abs=0.041)
    assert found.frames(found.spread)[:, 16, 16].argmax(1).tolist() == [2, 2, 0, 0]
    assert found.tensor("change")[found.keys].tolist() == pytest.approx([0, 1])
    assert abs(len(found.sound) - 12_800) < 1_500
    assert found.tensor("mel").shape == (80, 1 + len(found.sound) // 160)
    assert found.mel_settings["fmax"] == 8_000
    assert found.info.picture is not None
    assert (found.info.picture.width, found.info.picture.height, found.info.picture.frames) == (64, 48, 20)
    assert (found.notes, found.has_face) == ((), False)


@pytest.mark.parametrize("ending", ["png", "jpeg"])
def test_changed_bits_of_a_record_are_found(tmp_path: Path, ending: Literal["png", "jpeg"]) -> None:
    data = encode_record(extract_clip(str(clip(tmp_path)), SETTINGS), ending)
    rng, start = np.random.default_rng(0), 8 + int.from_bytes(data[:8], "little")
    whole = ClipRecord(memoryview(data), "a.mp4")
    names = ("frames", "frame_ends", "times_s", "is_spread", "is_key", "change", "boxes", "sound", "mel")
    assert start + sum(whole.tensor(name).nbytes for name in names) == len(data)
    for place in [0, 8, 200, *rng.integers(start, len(data), 20).tolist()]:
        changed = bytearray(data)
        changed[place] ^= 128
        with pytest.raises(StoreError, match=r"features of a.mp4 are damaged. Run dfens extract --remove, then dfens"):
            for name in names:
                ClipRecord(memoryview(changed), "a.mp4").tensor(name)


def test_jpeg_takes_less_space_and_looks_similar(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [np.asarray(np.clip(rng.normal(120, 8, (96, 96, 3)), 0, 255), np.uint8) for _ in range(5)]
    parts = extract_clip(str(clip(tmp_path, images=images)), ExtractSettings(frames=3, frame_size=96, key_frames=0))
    lossless, lossy = encode_record(parts, "png"), encode_record(parts, "jpeg")
    assert len(lossy) < 0.8 * len(lossless)
    found = ClipRecord(memoryview(lossy), "a.mp4")
    assert np.abs(found.frames(found.spread).astype(int) - np.stack(parts.images)).mean() < 3


def test_a_clip_without_sound_is_valid(tmp_path: Path) -> None:
    found = record(extract_clip(str(clip(tmp_path, sound=None)), SETTINGS))
    assert (len(found.sound), found.tensor("mel").shape) == (0, (80, 0))
    assert found.notes == ("no sound",)
    assert len(found.spread) == 4


def test_a_clip_without_video_is_valid(tmp_path: Path) -> None:
    found = record(extract_clip(str(clip(tmp_path, images=[])), SETTINGS))
    assert (len(found.spread), len(found.keys)) == (0, 0)
    assert found.frames(found.spread).shape[0] == 0
    assert found.notes == ("no video",)
    assert len(found.sound) > 12_000


@pytest.mark.parametrize("name", ["with spaces.mp4", "Übung ß 中文 🎬.mp4", "-starts-with-dash.mkv", "50%.mp4"])
def test_any_file_name_is_accepted(tmp_path: Path, name: str) -> None:
    assert len(extract_clip(str(clip(tmp_path, name)), SETTINGS).images) >= 4


def test_a_truncated_clip_gives_its_readable_frames_and_a_note(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(60)]
    path = clip(tmp_path, images=images, encoding=Encoding(options={"crf": "23", "g": "12"}), sound=None)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    found = record(extract_clip(str(path), SETTINGS))
    assert len(found.spread) == 4
    times = found.tensor("times_s")[found.spread]
    assert 0.8 < times[-1] < 1.4  # spread over the first half
    assert np.diff(times) == pytest.approx(times[-1] / 3.5, abs=0.1)
    assert any("video ends after" in note and "of 2.4 s" in note for note in found.notes)


def header_alone(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def index_alone(path: Path) -> None:
    """Return a file that ends after its index of the frames."""
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("this is a text file\n" * 20), "is not a clip"),
        (header_alone, "is not a clip|cannot be read|has neither"),
        (index_alone, "has neither frames nor sound"),
        (lambda path: path.unlink(), "is missing"),
    ],
)
def test_an_unreadable_clip_is_an_error_that_names_it(tmp_path: Path, damage: Any, message: str) -> None:
    path = clip(tmp_path, "broken clip.mp4")
    damage(path)
    with pytest.raises(DataError, match=rf"broken clip\.mp4 ({message})"):
        extract_clip(str(path), SETTINGS)


# ---- many clips --------------------------------------------------------------


def test_broken_clips_are_listed_and_the_others_extracted(tmp_path: Path) -> None:
    paths = [str(clip(tmp_path, f"{name}.mp4", rate=rate)) for name, rate in (("a", 25), ("b", 24), ("c", 30))]
    Path(paths[1]).write_text("no clip")
    paths.append(str(tmp_path / "gone.mp4"))
    summary = extract_clips(paths, SETTINGS, tmp_path / "work", tmp_path, threads=2)
    assert (summary.clips, summary.stored, summary.missing) == (4, 2, 0)
    reasons = {Path(failure.path).name: failure.reason for failure in summary.failures}
    assert reasons.keys() == {"b.mp4", "gone.mp4"}
    assert "is not a clip that can be read" in reasons["b.mp4"]
    view = clip_store(SETTINGS, tmp_path / "work", tmp_path).view(paths)
    assert [view.record(row) is None for row in range(4)] == [False, True, False, True]
    assert "is not a clip" in view.reasons[1]


def test_a_broken_clip_is_read_again_once_replaced_or_on_request(tmp_path: Path) -> None:
    path = clip(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(b"no clip")
    work = tmp_path / "work"
    assert len(extract_clips([str(path)], SETTINGS, work, tmp_path).failures) == 1
    calls: list[str] = []

    def extract(name: str) -> bytes:
        calls.append(name)
        return encode_record(extract_clip(name, SETTINGS), "png")

    store = clip_store(SETTINGS, work, tmp_path)
    store.make([str(path)], extract)
    assert calls == []
    with pytest.raises(DataError, match="not a clip"):
        extract(str(path))
    path.write_bytes(whole)
    assert store.make([str(path)], extract).stored == 1


def test_the_record_of_a_retry_counts_and_not_the_failure_before_it(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"a clip on a disk that fails at times")

    def fail(name: str) -> bytes:
        raise DataError(f"{name} cannot be read (Input/output error).")

    for attempt in range(8):  # tables have random names: their order must not matter
        store = clip_store(SETTINGS, tmp_path / f"work{attempt}", tmp_path)
        assert len(store.make([str(path)], fail).failures) == 1
        summary = store.make([str(path)], lambda name: b"record", retry=True)
        assert (summary.stored, summary.failures) == (1, ())


def test_nothing_is_read_twice(tmp_path: Path) -> None:
    first, copy = clip(tmp_path, "a.mp4"), tmp_path / "copy.mp4"
    copy.write_bytes(first.read_bytes())
    calls: list[str] = []

    def extract(name: str) -> bytes:
        calls.append(Path(name).name)
        return encode_record(extract_clip(name, SETTINGS), "png")

    store = clip_store(SETTINGS, tmp_path / "work", tmp_path)
    assert store.make([str(first)], extract).stored == 1
    assert store.make([str(first), str(copy)], extract).stored == 2
    moved = first.rename(tmp_path / "moved.mp4")
    assert store.make([str(moved)], extract).stored == 1
    assert calls == ["a.mp4"]
    view = store.view([str(moved), str(copy)])
    records = [view.record(row) for row in range(2)]
    assert records[0] is not None
    assert records[1] is not None
    assert np.array_equal(records[0].sound, records[1].sound)


def test_other_settings_have_a_separate_store_except_spectrograms(tmp_path: Path) -> None:
    def folder(**options: Any) -> Path:
        return clip_store(ExtractSettings(**options), tmp_path, tmp_path).folder

    assert folder() == folder(hop=200, bands=40)  # models compute spectrograms from the sound
    others: list[dict[str, Any]] = [{"frames": 8}, {"frame_size": 64}, {"sample_rate": 22_050}]
    others.append({"frame_format": "jpeg"})
    assert len({folder(), *(folder(**options) for options in others)}) == 5
    detector = tmp_path / "a.onnx"
    detector.write_bytes(b"1")
    first = folder(faces=str(detector))
    detector.write_bytes(b"2")
    assert folder(faces=str(detector)) != first


def test_shards_contain_many_clips(tmp_path: Path) -> None:
    paths = [str(clip(tmp_path, f"{index}.mp4", rate=20 + index)) for index in range(6)]
    extract_clips(paths, SETTINGS, tmp_path / "work", tmp_path, threads=2)
    store = clip_store(SETTINGS, tmp_path / "work", tmp_path)
    assert len(list(store.folder.glob("*.bin"))) == 1
    assert len(list(store.folder.glob("*.parquet"))) == 1
    store.folder.joinpath("half.bin").write_bytes(b"left by a killed process")
    extract_clips([str(clip(tmp_path, "more.mp4", rate=50))], SETTINGS, tmp_path / "work", tmp_path)
    assert len(list(store.folder.glob("*.bin"))) == 2  # the incomplete shard was removed


def test_a_truncated_shard_is_rebuilt(tmp_path: Path) -> None:
    path = str(clip(tmp_path))
    extract_clips([path], SETTINGS, tmp_path / "work", tmp_path)
    store = clip_store(SETTINGS, tmp_path / "work", tmp_path)
    shard = next(store.folder.glob("*.bin"))
    shard.write_bytes(shard.read_bytes()[:-10])
    assert store.summary([path]).missing == 1
    assert extract_clips([path], SETTINGS, tmp_path / "work", tmp_path).stored == 1
    assert clip_store(SETTINGS, tmp_path / "work", tmp_path).view([path]).record(0) is not None


KILLED = """
import sys
from pathlib import Path
import trainers.media.clip_store as clip_store
from trainers.features.clips import extract_clips
from trainers.features.settings import ExtractSettings

clip_store._SHARD_S = 0.0  # every clip a shard, so that something is kept however early the kill comes
folder = Path(sys.argv[1])
paths = sorted(map(str, folder.glob("*.mp4")))
extract_clips(paths, ExtractSettings(frames=4, key_frames=2, frame_size=32), folder / "work", folder)
"""


def test_a_killed_run_resumes(tmp_path: Path) -> None:
    paths = sorted(str(clip(tmp_path, f"{index:02}.mp4", rate=20 + index)) for index in range(30))
    store = clip_store(SETTINGS, tmp_path / "work", tmp_path)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)])
    deadline = time.monotonic() + 120
    while len(list(store.folder.glob("*.parquet"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = store.summary(paths)
    assert kept.stored >= 3
    calls: list[str] = []

    def extract(name: str) -> bytes:
        calls.append(name)
        return encode_record(extract_clip(name, SETTINGS), "png")

    assert store.make(paths, extract).stored == 30
    assert len(calls) == 30 - kept.stored
    view = store.view(paths)
    for row in range(0, 30, 7):
        found = view.record(row)
        assert found is not None
        expected = record(extract_clip(paths[row], SETTINGS))
        assert np.array_equal(found.frames(found.spread), expected.frames(expected.spread))


@pytest.mark.slow
def test_a_run_killed_at_random_moments_stores_the_same_bits(tmp_path: Path) -> None:
    paths = sorted(str(clip(tmp_path, f"{index:02}.mp4", rate=20 + index)) for index in range(40))
    moments, kills = random.Random(0), 0
    for attempt in range(60):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)])
        try:
            process.wait(moments.uniform(0.5, 3.0) if attempt < 8 else 300)
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        if process.wait() == 0:
            break
    assert process.returncode == 0
    assert kills >= 1
    store = clip_store(SETTINGS, tmp_path / "work", tmp_path)
    summary, view = store.summary(paths), store.view(paths)
    assert (summary.stored, summary.missing, len(summary.failures)) == (40, 0, 0)
    for row, path in enumerate(paths):
        expected = ClipRecord(memoryview(encode_record(extract_clip(path, SETTINGS), "png")), path)
        found = view.record(row)
        assert found is not None
        for name in ("frames", "times_s", "is_spread", "is_key", "change", "sound", "mel"):
            assert np.array_equal(found.tensor(name), expected.tensor(name))


def test_memory_does_not_grow_with_the_number_of_clips(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from trainers.features.clips import extract_clips
from trainers.features.settings import ExtractSettings
folder = Path(sys.argv[1])
path = str(folder / "a.mp4")
data = Path(path).read_bytes()
peaks = []
for part in range(2):
    paths = []
    for index in range(25):
        copy = folder / f"{part}-{index}.mp4"
        copy.write_bytes(data + bytes([part, index]))
        paths.append(str(copy))
    extract_clips(paths, ExtractSettings(frames=4, frame_size=32), folder / "work", folder)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(*peaks)
"""
    clip(tmp_path)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    early, late = map(int, done.stdout.split())
    assert late - early < 15_000  # kilobytes


def test_sound_features_follow_the_settings_of_the_model_that_uses_them(tmp_path: Path) -> None:
    path = str(clip(tmp_path))
    found = {
        bands: record(extract_clip(path, ExtractSettings(frames=4, frame_size=32, bands=bands))) for bands in (80, 10)
    }
    for wanted in (ExtractSettings(bands=80).mel, ExtractSettings(bands=10).mel):
        stored, computed = (clip_features(item, wanted) for item in found.values())
        np.testing.assert_array_equal(stored, computed)
    few, many = (clip_features(found[80], ExtractSettings(bands=bands).mel) for bands in (10, 80))
    assert not few[10:20].any()  # there are 10 bands, each in a part of its own
    assert many[10:20].all()
    np.testing.assert_array_equal(few[len(NAMES_SOUND) :], many[len(NAMES_SOUND) :])
