"""The leak audit finds planted leaks, gives advice, and reports nothing on clean data."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from oof.metrics import roc_auc
from oof.progress import SILENT
from tests.support.clips import voice, write_clip
from tests.support.competitions import face, write_image
from trainers.data.leak_properties import ADVICE, read_properties
from trainers.data.leak_scores import Property, PropertyScore, score_property
from trainers.data.leaks import FAMILY_LEVEL, LeakAudit, audit_leaks, score_properties
from trainers.media.image_properties import read_image_properties
from trainers.media.sound_levels import measure_sound


def score(values: NDArray[np.float64] | NDArray[np.object_], y: NDArray[np.int8]) -> PropertyScore:
    found = score_property(Property("x", values, "advice"), y, None, confidence_level=0.99)
    assert found is not None
    return found


def labels(rows: int) -> NDArray[np.int8]:
    return (np.arange(rows) % 2).astype(np.int8)


def named(audit: LeakAudit) -> list[str]:
    return [found.name for found in audit.leaks]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_is_scored_by_the_auc_of_its_order(sign: int) -> None:
    rng = np.random.default_rng(0)
    y = labels(80)
    values = sign * (rng.normal(size=80) + 1.5 * y)
    found = score(values, y)
    auc = roc_auc(y, values)
    assert found.auc == pytest.approx(max(auc, 1 - auc), abs=1e-12)
    assert found.low < found.auc < found.high
    assert found.low > 0.5
    assert (found.how, found.verdict) == ("order", "separates")


@pytest.mark.parametrize("kind", ["distinct", "tied", "category"])
def test_a_dozen_files_of_each_class_are_enough_for_a_perfect_leak(kind: str) -> None:
    rng = np.random.default_rng(0)
    y = rng.permutation(labels(24))
    values = {
        "distinct": rng.random(24) + y,
        "tied": np.where(y == 1, 0.1, 0.0),
        "category": np.where(y == 1, "a", "b").astype(object),
    }[kind]
    noise = [Property(f"noise {at}", rng.normal(size=24), "") for at in range(29)]
    scores, _ = score_properties([Property("leak", values, "advice"), *noise], y)
    assert [(found.name, found.verdict) for found in scores if found.verdict != "clean"] == [("leak", "separates")]
    assert scores[0].low < 0.5  # the interval of an AUC of 1 is that wide
    pairs = np.arange(24) // 2
    grouped = score_property(Property("leak", values, ""), y, pairs, confidence_level=1 - 1e-4)
    assert grouped is not None
    assert grouped.verdict == "clean"  # dependent rows have no rank test


def test_a_leak_in_the_middle_of_the_range_of_a_number_is_found() -> None:
    rng = np.random.default_rng(0)
    y = labels(400)
    values = np.where(y == 1, rng.uniform(9.9, 10.1, 400), rng.uniform(0, 20, 400))
    assert abs(roc_auc(y, values) - 0.5) < 0.06
    found = score(values, y)
    assert (found.how, found.verdict) == ("groups", "separates")


def test_files_without_a_value_are_left_out_of_a_number() -> None:
    y = labels(60)
    values = np.where(np.arange(60) < 40, y + 0.0, np.nan)
    found = score(values, y)
    assert (found.rows, found.auc) == (40, 1.0)


def test_a_category_that_separates_is_found_and_rare_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    y = labels(300)
    encoder = np.where(rng.random(300) < 0.9, np.where(y == 1, "a", "b"), "c").astype(object)
    assert score(encoder, y).verdict == "separates"
    assert score(encoder, y).real.startswith("b (")
    unique = np.array([f"name {at}" for at in range(300)], object)
    assert score(unique, y).auc == 0.5  # categories of scored rows are unknown to the fit
    odd = np.where(np.arange(300) == 7, "odd", "usual").astype(object)
    assert abs(score(odd, y).auc - 0.5) < 0.01


def test_a_property_that_never_varies_or_has_one_class_has_no_score() -> None:
    y = labels(40)
    of_one_class = np.asarray(np.where(y == 1, 1.0, np.nan) * np.arange(40), np.float64)
    for values in (np.ones(40), of_one_class, np.array(["a"] * 40, object)):
        assert score_property(Property("x", values, ""), y, None, confidence_level=0.99) is None


def test_grouped_rows_are_treated_as_dependent() -> None:
    rng = np.random.default_rng(3)
    person = np.repeat(np.arange(12), 25)
    y = (person % 2).astype(np.int8)
    values = rng.normal(size=12)[person] + 0.01 * rng.normal(size=300)
    alone = score_property(Property("x", values, ""), y, None, confidence_level=0.99)
    grouped = score_property(Property("x", values, ""), y, person, confidence_level=0.99)
    assert alone is not None
    assert grouped is not None
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_clean_data_raise_no_alarm_and_a_small_leak_is_found_among_them() -> None:
    alarms = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        y = rng.permutation(labels(200))
        columns = [Property(f"n{at}", rng.gamma(1, 2, 200), "") for at in range(6)]
        columns += [Property(f"c{at}", (rng.zipf(1.6, 200) % 30).astype(str).astype(object), "") for at in range(6)]
        scores, constant = score_properties(columns, y)
        assert constant == []
        alarms += sum(found.verdict != "clean" for found in scores)
        planted = Property("planted", rng.normal(size=200) + 1.2 * y, "")
        scores, _ = score_properties([*columns, planted], y)
        assert scores[0].name == "planted"
        assert scores[0].verdict != "clean"
    assert alarms == 0


# ---- files ------------------------------------------------------------------


def write_images(folder: Path, quality_of_fakes: int, count: int = 60) -> tuple[list[str], NDArray[np.int8]]:
    rng = np.random.default_rng(0)
    paths = []
    for row in range(count):
        path = folder / f"{rng.bytes(8).hex()}.jpg"
        write_image(path, face(row, size=48), quality=quality_of_fakes if row % 2 else 90)
        paths.append(str(path))
    return paths, labels(count)


def test_a_planted_quantisation_table_is_found(tmp_path: Path) -> None:
    paths, y = write_images(tmp_path, quality_of_fakes=85)
    audit = audit_leaks(paths, y, "images", threads=2)
    assert {"JPEG quality", "quantisation tables"} <= set(named(audit))
    tables = next(found for found in audit.scores if found.name == "quantisation tables")
    assert tables.auc == 1.0
    (problem,) = audit.problems()
    assert "alone separate real from fake" in problem.found
    assert "Re-encode all files in the same way" in problem.remedy
    assert not problem.is_error


def test_images_of_one_origin_raise_no_alarm(tmp_path: Path) -> None:
    audit = audit_leaks(*write_images(tmp_path, quality_of_fakes=90), "images")
    assert named(audit) == []
    assert audit.problems() == []
    assert "quantisation tables" in audit.constant
    assert (audit.real, audit.fake, audit.confidence_level) == (30, 30, FAMILY_LEVEL)


def test_names_that_reveal_the_class_are_found(tmp_path: Path) -> None:
    paths = []
    for row in range(40):
        path = tmp_path / f"{'fake' if row % 2 else 'real'}_{row}.jpg"
        write_image(path, face(row % 2, size=32))
        paths.append(str(path))
    audit = audit_leaks(paths, labels(40), "images")
    assert "name prefix" in named(audit)
    renamed = [str(Path(path).rename(tmp_path / f"x{row}.jpg")) for row, path in enumerate(paths)]
    in_order = audit_leaks(renamed, (np.arange(40) >= 20).astype(np.int8), "images")
    assert next(found for found in in_order.scores if found.name == "name order").auc == 1.0  # 9 precedes 10


def clips(folder: Path, silence_of_fakes: float, count: int = 40) -> list[str]:
    rng = np.random.default_rng(0)
    paths = []
    for row in range(count):
        silence = silence_of_fakes * float(rng.uniform(0.9, 1.2)) if row % 2 else float(rng.uniform(0, 0.03))
        sound = voice(0.6, silence=silence, seed=row)
        paths.append(str(write_clip(folder / f"{rng.bytes(8).hex()}.mp4", frames=8, sound=sound, seed=row)))
    return paths


def test_a_planted_leading_silence_is_found(tmp_path: Path) -> None:
    audit = audit_leaks(clips(tmp_path, 0.2), labels(40), "clips", threads=2)
    assert {"leading silence (s)", "leading pause (s)"} <= set(named(audit))
    assert "trailing silence (s)" not in named(audit)
    silence = next(found for found in audit.leaks if found.name == "leading silence (s)")
    assert silence.auc == 1.0
    assert float(silence.real) < 0.05 < 0.15 < float(silence.fake)
    assert any("Trim the silence at both ends" in problem.remedy for problem in audit.problems())


def test_clips_of_one_origin_raise_no_alarm(tmp_path: Path) -> None:
    paths = clips(tmp_path, 0.015)
    audit = audit_leaks(paths, labels(40), "clips")
    assert named(audit) == []
    assert {"leading silence (s)", "loudness (dB)", "file size (kB)"} <= {found.name for found in audit.scores}
    assert {"encoder", "sample rate (Hz)", "frame rate (1/s)"} <= set(audit.constant)


def test_clips_without_sound_are_a_category(tmp_path: Path) -> None:
    paths = [
        str(write_clip(tmp_path / f"{row}.mp4", frames=5, sound=None if row % 2 else voice(0.2, seed=row)))
        for row in range(24)
    ]
    found = next(score for score in audit_leaks(paths, labels(24), "clips").scores if score.name == "sound")
    assert (found.auc, found.real, found.fake) == (1.0, "yes (100%)", "none (100%)")


def test_unreadable_files_are_counted_and_left_out(tmp_path: Path) -> None:
    paths, y = write_images(tmp_path, quality_of_fakes=90, count=20)
    Path(paths[3]).write_bytes(b"no image")
    audit = audit_leaks(paths, y, "images")
    assert (audit.unreadable, audit.real, audit.fake, audit.all_rows) == (1, 10, 9, 20)


def test_a_sample_contains_both_classes_equally(tmp_path: Path) -> None:
    paths, _ = write_images(tmp_path, quality_of_fakes=90, count=40)
    y = (np.arange(40) >= 30).astype(np.int8)
    audit = audit_leaks(paths, y, "images", most=16)
    assert (audit.real, audit.fake, audit.all_rows) == (8, 8, 40)
    assert audit_leaks(paths, y, "images", most=30).real == 20


def test_every_property_has_advice_and_is_read(tmp_path: Path) -> None:
    columns, is_read = read_properties(clips(tmp_path, 0.1, count=4), "clips", progress=SILENT)
    assert is_read.all()
    assert {column.name for column in columns} <= set(ADVICE)
    assert all(len(column.values) == 4 for column in columns)


@pytest.mark.parametrize("quality", [10, 49, 50, 75, 90, 95, 100])
def test_jpeg_quality_is_read_from_the_tables(quality: int, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((16, 16, 3), np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert read_image_properties(str(tmp_path / "a.jpg")).quality == quality


def test_silence_is_measured_in_seconds(tmp_path: Path) -> None:
    sound = voice(1.0, silence=0.25)
    sound[-1600:] = 0
    levels = measure_sound(write_clip(tmp_path / "a.mp4", sound=sound))
    assert levels is not None
    assert levels.leading_silence_s == pytest.approx(0.25, abs=0.07)  # a block of AAC is 64 ms at 16 kHz
    assert levels.trailing_silence_s == pytest.approx(0.1, abs=0.13)
    loud = sound[4000:-1600]
    assert levels.loudness_db == pytest.approx(20 * np.log10(np.sqrt(np.mean(loud**2))), abs=1)
    silent = measure_sound(write_clip(tmp_path / "b.mp4", sound=np.zeros(8000, np.float32)))
    assert silent is not None
    assert silent.is_silent
    assert measure_sound(write_clip(tmp_path / "c.mp4", sound=None)) is None


def test_a_long_sound_is_decoded_only_at_its_ends(tmp_path: Path) -> None:
    sound = np.tile(voice(1.0), 100)
    sound[:16000] = 0
    sound[-32000:] = 0
    levels = measure_sound(write_clip(tmp_path / "a.mp4", frames=2, sound=sound))
    assert levels is not None
    assert levels.decoded_s == pytest.approx(60, abs=2)
    assert levels.leading_silence_s == pytest.approx(1, abs=0.1)
    assert levels.trailing_silence_s == pytest.approx(2, abs=0.2)
