"""`dfens extract`: reads clips once, lists broken ones, draws contact sheets."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from dfens.cli import cli
from dfens.report.inputs import BlendInput
from dfens.workflows.report import load_inputs
from dfens.workflows.report_media import find_views
from dfens.workspace.paths import Workspace
from oof.files import file_lock
from oof.metrics import roc_auc
from oof.store import PredictionStore
from tests.support.clips import voice, write_clip
from tests.support.competitions import write_labels
from trainers.kinds.clips.deciding import save_deciding


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = [f"clip {row}.mp4" for row in range(4)]
    for row, name in enumerate(names):
        sound = None if row == 3 else voice(0.5, seed=row)
        write_clip(tmp_path / "data" / "trainset" / name, frames=12, seed=row, sound=sound)
    write_labels(tmp_path / "data" / "trainset_label.txt", {name: row % 2 for row, name in enumerate(names)},
                 "video_name,target")  # fmt: skip
    (tmp_path / "dfens.toml").write_text('[data]\nlayout = "ffdv"\nroot = "data"\n')
    return tmp_path


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["-C", str(folder), "extract", "--threads", "2", *arguments])


def counts(folder: Path, *arguments: str) -> dict[str, Any]:
    result = run(folder, "--json", *arguments)
    assert result.exit_code == 0, result.stderr
    (found,) = json.loads(result.stdout)["extractions"]
    return dict(found)


def test_clips_are_read_once_and_removed_on_request(folder: Path) -> None:
    assert (counts(folder, "--dry-run")["missing"], counts(folder, "--dry-run")["stored"]) == (4, 0)
    found = counts(folder)
    assert (found["clips"], found["stored"], found["missing"], found["failed"]) == (4, 4, 0, 0)
    assert (folder / found["folder"]).is_dir()
    assert counts(folder, "--dry-run")["stored"] == 4
    assert counts(folder, "--remove", "--dry-run")["stored"] == 4
    assert counts(folder, "--remove")["stored"] == 0


def test_features_that_another_process_extracts_are_not_removed(folder: Path) -> None:
    extracted = folder / counts(folder)["folder"]
    with file_lock(extracted / ".lock"):
        result = run(folder, "--remove")
    assert result.exit_code == 1
    assert f"Another process is writing to {extracted}. Wait for it" in " ".join(result.stderr.split())
    assert counts(folder, "--dry-run")["stored"] == 4


def test_features_on_another_disk_are_removed_too(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`work/trainers/clips` may be a link; the link stays, for the next extraction."""
    other = tmp_path_factory.mktemp("disk")
    clips = folder / "work" / "trainers" / "clips"
    clips.parent.mkdir(parents=True)
    clips.symlink_to(other)
    assert counts(folder)["stored"] == 4
    assert counts(folder, "--remove")["stored"] == 0
    assert clips.is_symlink()
    assert list(other.iterdir()) == []


def test_center_crops_and_broken_clips_are_reported(folder: Path) -> None:
    (folder / "data" / "trainset" / "clip 2.mp4").write_text("text, not a clip")
    result = run(folder)
    assert result.exit_code == 0
    assert "No face detector is set (faces = FILE.onnx), so the centre of each frame is cropped." in result.stderr
    assert "clip 2.mp4: is not a clip that can be read" in result.stderr
    assert counts(folder)["failures"][0]["path"].endswith("clip 2.mp4")


def test_contact_sheet_shows_the_frames(folder: Path) -> None:
    result = run(folder, "--sheet", "sheets/look.png", "--sheet-clips", "3")
    assert "Contact sheet: sheets/look.png" in result.stderr
    image = cv2.imread(str(folder / "sheets" / "look.png"))
    assert image is not None
    assert image.shape[1] == 1500
    assert np.unique(image.reshape(-1, 3), axis=0).shape[0] > 500  # frames, not a blank page
    too_large = run(folder, "--sheet", "large.png", "--sheet-clips", "501")
    assert too_large.exit_code == 2
    assert "501 is not in the range 1<=x<=500" in too_large.stderr
    own = folder / "own.png"
    own.write_bytes(b"a file of the user")
    refused = run(folder, "--sheet", "own.png")
    assert refused.exit_code == 1
    assert "own.png exists. Choose another name, or give --force to replace it." in refused.stderr
    assert own.read_bytes() == b"a file of the user"
    assert run(folder, "--sheet", "own.png", "--sheet-clips", "1", "--force").exit_code == 0
    assert own.read_bytes().startswith(b"\x89PNG")


def test_images_are_refused(tmp_path: Path) -> None:
    from tests.support.competitions import make_table

    make_table(tmp_path / "data")
    (tmp_path / "dfens.toml").write_text('[data]\nlayout = "table"\nroot = "data"\nid = "img_name"\n')
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "This competition has images, and dfens extract reads clips" in result.stderr


def test_modalities_of_partly_trained_models_are_compared_on_the_same_clips(folder: Path) -> None:
    labels = {f"clip {row}.mp4": row % 2 for row in range(12)}
    for row, name in enumerate(labels):
        sound = None if row % 4 > 1 else voice(0.3, seed=row)
        write_clip(folder / "data" / "trainset" / name, frames=4, seed=row, sound=sound)
    write_labels(folder / "data" / "trainset_label.txt", labels, "video_name,target")
    model = 'kind = "linear"\nframes = 4\nkey_frames = 0\nframe_size = 32\n'
    with (folder / "dfens.toml").open("a") as file:
        file.write(f"[folds]\nk = 2\n[models.a]\n{model}[models.b]\n{model}")
    for arguments in (["folds"], ["train", "--model", "a"], ["train", "--model", "b", "--fold", "0"]):
        result = CliRunner().invoke(cli, ["-C", str(folder), *arguments])
        assert result.exit_code == 0, result.stderr
    result = CliRunner().invoke(cli, ["-C", str(folder), "compare", "a", "b", "--modalities", "--json"])
    assert result.exit_code == 0, result.stderr
    a, b, mean = json.loads(result.stdout)["modalities"]
    store = PredictionStore(folder / "work" / "oof")
    rows = store.folds.rows(0)
    assert a["auc"] == pytest.approx(roc_auc(store.folds.target[rows], store.load("a").oof[rows]))
    assert {**a, "model": ""} == {**b, "model": ""} == {**mean, "model": ""}  # equal models
    assert a["clips_without_sound"] == sum(int(name[5:-4]) % 4 > 1 for name in store.folds.ids[rows])


def test_modalities_are_compared_on_clips_without_sound(folder: Path) -> None:
    (folder / "data").rename(folder / "old")
    labels = {f"{row}.mp4": row % 2 for row in range(16)}
    for row, name in enumerate(labels):
        sound = None if row % 4 > 1 else voice(0.4, seed=row) * (1.5 if row % 2 else 0.3)
        write_clip(folder / "data" / "trainset" / name, frames=6, seed=row % 2, sound=sound)
    write_labels(folder / "data" / "trainset_label.txt", labels, "video_name,target")
    (folder / "dfens.toml").write_text(
        '[data]\nlayout = "ffdv"\nroot = "data"\n[folds]\nk = 2\n'
        "[train]\nframes = 4\nkey_frames = 0\nframe_size = 32\n"
        '[models.a]\nkind = "linear"\n[models.b]\nkind = "linear"\nleaks = true\n'
    )
    for arguments in (["folds"], ["train"]):
        result = CliRunner().invoke(cli, ["-C", str(folder), *arguments])
        assert result.exit_code == 0, result.stderr
    result = CliRunner().invoke(cli, ["-C", str(folder), "compare", "a", "b", "--modalities", "--json"])
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)["modalities"]
    assert [row["model"] for row in rows] == ["a", "b", "mean of a and b"]
    assert all(row["modalities"] == ["picture", "sound"] for row in rows)
    assert all(row["clips_without_sound"] == 8 for row in rows)
    assert all(0 <= row[key] <= 1 for row in rows for key in ("auc", "auc_with_sound", "auc_without_sound"))
    result = CliRunner().invoke(cli, ["-C", str(folder), "extract", "--remove"])
    assert result.exit_code == 0, result.stderr
    result = CliRunner().invoke(cli, ["-C", str(folder), "compare", "a", "b", "--modalities"])
    assert result.exit_code == 1
    assert "16 of 16 clips are not extracted, so it is unknown whether they have sound" in result.stderr
    assert "Run dfens extract." in result.stderr
    assert run(folder).exit_code == 0
    result = CliRunner().invoke(cli, ["-C", str(folder), "diagnose", "a"])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("a: AUC ")
    assert "cluster" not in result.stdout
    report = CliRunner().invoke(cli, ["-C", str(folder), "report", "--json"])
    assert report.exit_code == 0, report.stderr
    clips = json.loads(report.stdout)["clips"]
    assert clips["modalities"] == rows
    assert clips["changed"] == []
    page = (folder / "work" / "reports" / "report.html").read_text()
    assert page.count('aria-label="Waveform"') == page.count('alt="Spectrogram') > 4
    store = PredictionStore(folder / "work" / "oof")
    store.save_oof("a", store.folds.ids[store.folds.rows(0)], np.full(8, 0.5), fold=0)
    report = CliRunner().invoke(cli, ["-C", str(folder), "report", "--json"])
    assert json.loads(report.stdout)["clips"]["changed"] == ["a"]


def test_the_report_shows_the_decisive_frame(folder: Path) -> None:
    """Of the best model without a blend, and of the one with the largest weight in a blend; first is the poor one."""
    network = 'kind = "frames"\nbackbone = "test_resnet"\nframes = 4\nframe_size = 32\n'
    (folder / "dfens.toml").write_text(
        f'[data]\nlayout = "ffdv"\nroot = "data"\n[folds]\nk = 2\n[models.poor]\n{network}[models.picture]\n{network}'
    )
    for command in ("folds", "extract"):
        assert CliRunner().invoke(cli, ["-C", str(folder), command]).exit_code == 0
    store = PredictionStore(folder / "work" / "oof")
    for fold in (0, 1):
        ids = store.folds.ids[store.folds.rows(fold)]
        y = store.folds.target[store.folds.rows(fold)]
        for name, oof, probability in (("poor", 1 - y, 0.11), ("picture", y, 0.87)):
            store.save_oof(name, ids, 0.2 + 0.6 * oof, fold=fold)
            path = folder / "work" / "trainers" / name / f"fold{fold}" / "deciding.parquet"
            save_deciding(path, ids, np.full(len(ids), 0.99), np.full(len(ids), probability))
    workspace = Workspace(folder)
    inputs = load_inputs(workspace)
    blend = BlendInput("blend", {"members": [{"name": "poor", "weight": 0.8}]}, np.empty(0), np.empty(0))
    weighted = find_views(workspace, replace(inputs, blends=[blend]), list(store.folds.ids))
    assert all("0.11 by poor" in read().caption for read in weighted.values())
    views = find_views(workspace, inputs, list(store.folds.ids))
    found = {name: read() for name, read in views.items()}
    assert len(found) == 4
    last = 11 / 25 - 0.5 * 12 / 25 / 4  # the last of 4 frames spread over 12 at 25 a second
    for name, view in found.items():
        assert f"deciding frame, {last:.1f} s: 0.87 by picture" in view.caption
        assert ("no sound" in view.caption) == (name == "clip 3.mp4")
        assert bool(view.spectrogram) == bool(view.envelope) == (name != "clip 3.mp4")
        large = cv2.imdecode(np.frombuffer(view.large, np.uint8), cv2.IMREAD_COLOR)
        assert large is not None
        assert large.shape[0] == 32
    for records in (folder / "work" / "trainers" / "clips").glob("*/*.bin"):
        records.write_bytes(bytes(records.stat().st_size))
    views = find_views(workspace, inputs, list(store.folds.ids))
    assert all(read().large for read in views.values())  # from the clips themselves
