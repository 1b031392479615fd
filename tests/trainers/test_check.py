"""Tests of trainers.data.check: every kind of finding is reported with its files and a remedy."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oof.errors import StoreError
from oof.files import read_json, write_json
from tests.support.clips import voice, write_clip
from tests.support.competitions import face, make_table, make_track, write_image, write_labels
from trainers.data import check
from trainers.data.check import CheckOptions, CheckReport, check_data
from trainers.data.check_findings import CheckedRows, unreadable_problems
from trainers.data.competition import Problem
from trainers.data.file_index import Media
from trainers.data.layouts import read_competition, scan_competition
from trainers.data.leaks import read_leak_audit
from trainers.data.settings import DataSettings


def run(settings: DataSettings, work: Path, *, decode: bool = True, leaks: bool = False) -> CheckReport:
    options = CheckOptions(decode=decode, leaks=leaks, threads=2)
    return check_data(scan_competition(settings), options, report_dir=work / "check", quarantine=work / "q.json")


def table(root: Path) -> DataSettings:
    return DataSettings(layout="table", root=root, id="img_name")


def find(report: CheckReport, kind: str, part: str = "train") -> Problem:
    return next(problem for problem in report.problems if (problem.kind, problem.part) == (kind, part))


def test_valid_data_pass_with_their_counts(tmp_path: Path) -> None:
    report = run(table(make_table(tmp_path / "data")), tmp_path)
    assert report.ok
    assert report.problems == ()
    train, test = report.parts
    assert (train.part, train.rows, train.real, train.fake, train.decoded, train.unreadable) == ("train", 8, 4, 4, 8, 0)
    assert train.sizes == {"32 x 32": 8}
    assert (test.part, test.rows, test.real, test.decoded) == ("test", 4, None, 4)
    expected = sum(path.stat().st_size for path in (tmp_path / "data" / "train").iterdir()) / 1e6
    assert train.files_mb == pytest.approx(expected, abs=1e-3)
    assert read_json(tmp_path / "check" / "report.json")["ok"] is True


def test_unreadable_files_are_errors_or_quarantined(tmp_path: Path) -> None:
    settings = table(make_table(tmp_path / "data", rows=12))
    folder = tmp_path / "data" / "train"
    whole = (folder / "a001.jpg").read_bytes()
    (folder / "a001.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "a002.jpg").write_bytes(b"")
    (folder / "a003.jpg").write_bytes(b"hello, I am a text")
    report = run(settings, tmp_path)
    problem = find(report, "unreadable")
    assert not report.ok
    assert [item.split(" (")[0] for item in problem.items] == ["a001.jpg", "a002.jpg", "a003.jpg"]
    assert "is cut or damaged" in problem.items[0]
    assert "is empty (0 bytes)" in problem.items[1]
    assert "is not a valid image" in problem.items[2]
    assert "skip_broken = true" in problem.remedy
    assert report.lists["train-unreadable"].read_text().splitlines() == list(problem.items)
    skipping = replace(settings, skip_broken=True)
    report = run(skipping, tmp_path)
    assert report.ok
    assert [id_ for id_, _ in report.left_out] == ["a001.jpg", "a002.jpg", "a003.jpg"]
    read = read_competition(skipping, tmp_path / "q.json")
    assert len(read.train) == 9
    assert [row.id for row in read.broken] == ["a001.jpg", "a002.jpg", "a003.jpg"]


@pytest.mark.parametrize(("media", "effect"), [("images", "would fail"), ("clips", "from what can be read")])
def test_the_effect_of_an_unreadable_test_file_is_that_of_its_kind(media: Media, effect: str) -> None:
    """An image stops the prediction; a clip is predicted without what cannot be read."""
    rows = CheckedRows(media, ["test"], ["t"], [-1], ["t.mp4"])
    (problem,) = unreadable_problems(rows, {0: "is empty"}, skip_broken=False)
    assert effect in problem.remedy


def test_an_unreadable_test_image_is_an_error_whatever_is_skipped(tmp_path: Path) -> None:
    settings = replace(table(make_table(tmp_path / "data")), skip_broken=True)
    (tmp_path / "data" / "test" / "t001.jpg").write_bytes(b"")
    report = run(settings, tmp_path)
    assert not report.ok
    assert "a test row cannot be left out" in find(report, "unreadable", "test").remedy
    assert len(read_competition(settings, tmp_path / "q.json").test) == 4


def test_identical_images_within_and_across_sets(tmp_path: Path) -> None:
    settings = table(make_table(tmp_path / "data", rows=10))
    train, test = tmp_path / "data" / "train", tmp_path / "data" / "test"
    shutil.copy(train / "a000.jpg", train / "a001.jpg")  # labels 0 and 1
    shutil.copy(train / "a002.jpg", train / "a004.jpg")  # both 0
    shutil.copy(train / "a003.jpg", test / "t000.jpg")
    report = run(settings, tmp_path)
    assert not report.ok
    contradiction = find(report, "contradictory-images")
    assert contradiction.items == ("a000.jpg (0) = a001.jpg (1)",)
    assert contradiction.is_error
    assert find(report, "identical").items == ("a002.jpg = a004.jpg",)
    assert 'group = "duplicates"' in find(report, "identical").remedy
    assert find(report, "identical", "test").items == ("a003.jpg = t000.jpg",)
    assert not find(report, "identical", "test").is_error
    skipping = replace(settings, skip_broken=True)
    assert run(skipping, tmp_path).ok
    assert set(read_competition(skipping, tmp_path / "q.json").train["id"]).isdisjoint({"a000.jpg", "a001.jpg"})


def test_near_duplicates_across_train_and_test_are_listed(tmp_path: Path) -> None:
    settings = table(make_table(tmp_path / "data", rows=10, size=96))
    write_image(tmp_path / "data" / "test" / "t002.jpg", face(3, fake=True, size=96), quality=55)
    shutil.copy(tmp_path / "data" / "train" / "a004.jpg", tmp_path / "data" / "test" / "t000.jpg")
    report = run(settings, tmp_path)
    assert report.ok
    assert find(report, "near-duplicate", "test").items == ("t002.jpg ~ a003.jpg (1)",)
    assert find(report, "identical", "test").items == ("a004.jpg = t000.jpg",)


def test_a_corrected_label_frees_a_contradictory_image_again(tmp_path: Path) -> None:
    settings = replace(table(make_table(tmp_path / "data")), skip_broken=True)
    shutil.copy(tmp_path / "data" / "train" / "a000.jpg", tmp_path / "data" / "train" / "a001.jpg")
    run(settings, tmp_path)
    assert len(read_competition(settings, tmp_path / "q.json").train) == 6
    labels = {f"a{row:03d}.jpg": 0 if row < 4 else 1 for row in range(8)}
    write_labels(tmp_path / "data" / "train.csv", labels)
    run(settings, tmp_path)
    assert len(read_competition(settings, tmp_path / "q.json").train) == 8


def test_problems_of_rows_and_files_are_reported_together(tmp_path: Path) -> None:
    settings = table(make_table(tmp_path / "data"))
    (tmp_path / "data" / "train" / "a005.jpg").unlink()
    write_image(tmp_path / "data" / "train" / "new.jpg", face(77))
    with (tmp_path / "data" / "train.csv").open("a") as file:
        file.write("a000.jpg,0\na001.jpg,7\n")
    report = run(settings, tmp_path)
    assert {(problem.kind, problem.is_error) for problem in report.problems} == {
        ("missing", True),
        ("duplicate", True),
        ("labels", True),
        ("unlabelled", False),
    }
    assert [problem.is_error for problem in report.problems] == [True, True, True, False]
    assert report.lists["train-missing"].read_text() == "a005.jpg\n"


def test_separate_validation_is_counted_separately(tmp_path: Path) -> None:
    settings = DataSettings(layout="ffdi", root=make_track(tmp_path / "data"), validation="apart")
    report = run(settings, tmp_path)
    assert [(part.part, part.rows) for part in report.parts] == [("train", 8), ("validation", 4), ("test", 4)]


def test_a_large_set_is_sampled_unless_all_are_requested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_SAMPLES", {"images": 5, "clips": 5})
    settings = table(make_table(tmp_path / "data", rows=24))
    (tmp_path / "data" / "train" / "a007.jpg").write_bytes(b"broken")
    everything = run(settings, tmp_path)
    assert find(everything, "unreadable").items[0].startswith("a007.jpg")
    sampled = run(settings, tmp_path, decode=False)
    assert [part.decoded for part in sampled.parts] == [5, 4]
    assert sampled.notes == ("9 of 28 images were decoded; dfens check --decode decodes all of them.",)
    skipping = replace(settings, skip_broken=True)
    assert len(read_competition(skipping, tmp_path / "q.json").train) == 23  # findings of the full check are kept


def test_near_duplicates_in_a_separate_validation_set_are_listed(tmp_path: Path) -> None:
    root = make_track(tmp_path / "data", size=96)
    names = sorted(path.name for path in (root / "phase1" / "valset").iterdir())
    write_image(root / "phase1" / "valset" / names[1], face(3, fake=True, size=96), quality=55)
    report = run(DataSettings(layout="ffdi", root=root, validation="apart"), tmp_path)
    problem = find(report, "near-duplicate", "validation")
    assert [item.split(" ~ ")[0] for item in problem.items] == [names[1]]
    assert "score on the validation set" in problem.remedy


def test_sizes_that_reveal_the_class_are_a_leak(tmp_path: Path) -> None:
    settings = table(make_table(tmp_path / "data", rows=60))
    for row in range(1, 60, 2):
        write_image(tmp_path / "data" / "train" / f"a{row:03d}.jpg", face(row, fake=True, size=48))
    report = run(settings, tmp_path)
    assert report.ok
    assert any("Pixels" in problem.found or "pixels" in problem.found for problem in report.problems)
    assert report.parts[0].sizes == {"32 x 32": 30, "48 x 48": 30}
    assert report.leaks is not None
    assert "pixels" in [leak.name for leak in report.leaks.leaks]
    assert "pixels" in read_json(tmp_path / "check" / "report.json")["leaks"]["leaks"]
    assert any(line.startswith("pixels (AUC 1.000)") for line in report.lists["train-leak"].read_text().splitlines())
    assert read_leak_audit(tmp_path / "check") == report.leaks
    write_json(tmp_path / "check" / "leaks.json", {"version": 0})
    with pytest.raises(StoreError, match=r"has another version .* Run dfens check again"):
        read_leak_audit(tmp_path / "check")
    for row in range(1, 60):
        (tmp_path / "data" / "train" / f"a{row:03d}.jpg").unlink()
    assert run(settings, tmp_path).leaks is None
    assert read_leak_audit(tmp_path / "check") is None


def test_animations_are_reported(tmp_path: Path) -> None:
    settings = table(make_table(tmp_path / "data"))
    frames = [Image.fromarray(face(seed)) for seed in range(3)]
    frames[0].save(tmp_path / "data" / "train" / "a002.jpg", "GIF", save_all=True, append_images=frames[1:])
    report = run(settings, tmp_path)
    assert report.ok
    assert find(report, "animated").items == ("a002.jpg (3)",)


def test_clips_are_inspected_and_broken_ones_named(tmp_path: Path) -> None:
    root = tmp_path / "data"
    folder = root / "trainset"
    whole = write_clip(folder / "c0.mp4", frames=30, sound=voice(1.2), seed=1).read_bytes()
    write_clip(folder / "c1.mp4", frames=30, sound=voice(2.5), seed=2)  # longer than the video
    write_clip(folder / "c2.mp4", frames=30, seed=3)  # without sound
    write_clip(folder / "c3.mp4", frames=30, sound=np.zeros(19200, np.float32), rotation=90, seed=4)
    (folder / "c4.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "c5.mp4").write_bytes(b"a text\n" * 99)
    (folder / "c6.mp4").write_bytes(b"")
    (folder / "c7.mp4").write_bytes(whole)  # a copy with the other label
    write_clip(folder / "c8.mp4", frames=0, sound=voice(1.2))
    write_labels(root / "trainset_label.txt", {f"c{row}.mp4": row % 2 for row in range(9)}, "video_name,target")
    settings = DataSettings(layout="ffdv", root=root)
    report = run(settings, tmp_path)
    unreadable = find(report, "unreadable")
    assert [item.split(" (")[0] for item in unreadable.items] == ["c4.mp4", "c5.mp4", "c6.mp4"]
    assert "is truncated" in unreadable.items[0]
    assert "is not a clip that can be read" in unreadable.items[1]
    assert "is empty (0 bytes)" in unreadable.items[2]
    assert find(report, "contradictory-images").items == ("c0.mp4 (0) = c7.mp4 (1)",)
    assert find(report, "no-sound").items == ("c2.mp4",)
    assert find(report, "silent").items == ("c3.mp4",)
    assert find(report, "rotated").items[0].startswith("c3.mp4 (")
    assert find(report, "no-picture").items == ("c8.mp4",)
    assert [item.split(" (")[0] for item in find(report, "length").items] == ["c1.mp4"]
    counts = report.parts[0].clips
    assert counts is not None
    assert (counts.without_sound, counts.silent, counts.rotated) == (1, 1, 1)
    assert counts.frame_rates == {"25": 5}
    assert counts.formats["mov mpeg4 + aac"] == 4
    assert counts.shortest_s == pytest.approx(1.2, abs=0.1)
    skipping = replace(settings, skip_broken=True)
    assert run(skipping, tmp_path).ok
    read = read_competition(skipping, tmp_path / "q.json")
    assert read.media == "clips"
    assert list(read.train["id"]) == ["c1.mp4", "c2.mp4", "c3.mp4", "c8.mp4"]


@pytest.mark.parametrize("layout", ["ffdv", "table"])
def test_clips_of_every_layout_are_counted(tmp_path: Path, layout: str) -> None:
    root = tmp_path / "data"
    folder = root / ("trainset" if layout == "ffdv" else "train")
    for row in range(4):
        write_clip(folder / f"c{row}.mp4", frames=5, seed=row)
    labels = {f"c{row}.mp4": row % 2 for row in range(4)}
    if layout == "ffdv":
        write_labels(root / "trainset_label.txt", labels, "video_name,target")
        settings = DataSettings(layout="ffdv", root=root)
    else:
        write_labels(root / "train.csv", labels, "id,target")
        write_clip(root / "test" / "t0.mp4", frames=5, seed=9)
        write_labels(root / "sample_submission.csv", {"t0.mp4": 0.5}, "id,target")
        settings = DataSettings(layout="table", root=root)
    report = run(settings, tmp_path)
    assert report.ok
    assert report.parts[0].decoded == 4
    assert report.parts[0].sizes == {"64 x 48": 4}


def test_files_outside_the_data_folder_are_quarantined_too(tmp_path: Path) -> None:
    root = make_table(tmp_path / "data", rows=12)
    (root / "train").rename(tmp_path / "images")
    (tmp_path / "images" / "a001.jpg").write_bytes(b"broken")
    for train_dir in ("../images", str(tmp_path / "images")):
        settings = replace(table(root), skip_broken=True, train_dir=train_dir)
        assert [id_ for id_, _ in run(settings, tmp_path).left_out] == ["a001.jpg"]
        assert len(read_competition(settings, tmp_path / "q.json").train) == 11


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"version": 1}', '{"version": 1, "files": [{}]}', '{"version": 9}', "{"]
)
def test_a_quarantine_that_cannot_be_read_is_a_named_error(tmp_path: Path, content: str) -> None:
    root = make_table(tmp_path / "data")
    (tmp_path / "q.json").write_text(content)
    with pytest.raises(StoreError, match=r"q\.json"):
        read_competition(replace(table(root), skip_broken=True), tmp_path / "q.json")
