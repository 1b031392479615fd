"""Models on clips: settings of prediction, encoders initialised from another model, and shifted sound."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from safetensors.torch import save_file

from dfens.workspace.config import build
from oof.errors import ConfigError, StoreError, TrainingError
from oof.files import file_sha256, read_json, write_json
from oof.store import PredictionStore
from tests.support.clip_training import MODELS, clip_competition, make_job
from tests.support.training import TINY, Notes, stored_bytes
from trainers.data.competition import Competition
from trainers.features.extract import extract_clip
from trainers.features.settings import ExtractSettings
from trainers.jobs.job import TrainingJob
from trainers.jobs.model_record import RECORD
from trainers.jobs.multiprocess import train_in_workers
from trainers.jobs.run import run_job
from trainers.jobs.runner import FoldRunner
from trainers.kinds.base import settings_record
from trainers.kinds.clips.fold import ClipFoldData
from trainers.kinds.clips.initial import make_fold_network
from trainers.kinds.clips.kind import ClipKind
from trainers.kinds.clips.moments import MomentReader, Moments
from trainers.kinds.clips.network import make_clip_network
from trainers.kinds.clips.predict import ClipModels
from trainers.kinds.clips.settings import AudioSettings, AvSettings, FramesSettings
from trainers.kinds.records import setting_changes
from trainers.kinds.training.fold_trainer import FoldTrainer
from trainers.kinds.training_rows import TrainingRows
from trainers.media.clip_record import ClipRecord, encode_record
from trainers.media.clip_writer import Encoding, write_clip

FAST: dict[str, Any] = {"epochs": 1}
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def competition(tmp_path_factory: pytest.TempPathFactory) -> tuple[Competition, Path]:
    return clip_competition(tmp_path_factory.mktemp("clips"))


def run(competition: tuple[Competition, Path], folder: Path, model: Any, **options: Any) -> bytes:
    job = dataclasses.replace(make_job(competition, folder), models={"m": model})
    run_job(job, [0, 1], **options)
    return stored_bytes(PredictionStore(folder / "oof"), "m")


# ---- settings of prediction -----------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"time_views": 1, "pooling": "mean"}, {"time_views": 3, "pooling": "mean"}),
        pytest.param({"time_views": 2, "pooling": "mean"}, {"time_views": 2, "pooling": "top_k"}, marks=SLOW),
        pytest.param({"time_views": 2, "pooling": "auto"}, {"time_views": 1, "pooling": "dfdc"}, marks=SLOW),
        ({"time_views": 1, "pooling": "confidence"}, {"time_views": 2, "pooling": "auto"}),
    ],
)
def test_changed_settings_of_prediction_predict_again_without_retraining(
    competition: tuple[Competition, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: dict[str, Any],
    second: dict[str, Any],
) -> None:
    models = [dataclasses.replace(MODELS["frames"], **FAST, **values) for values in (first, second)]
    expected = run(competition, tmp_path / "other", models[1])
    before = run(competition, tmp_path / "here", models[0])
    assert before != expected
    weights = tmp_path / "here" / "trainers" / "m" / "fold0" / "weights.safetensors"
    stamp = weights.stat().st_mtime_ns
    monkeypatch.setattr(FoldTrainer, "run", None)  # would fail if it were called
    notes = Notes()
    assert run(competition, tmp_path / "here", models[1], progress=notes) == expected
    assert "predicting again with the stored weights" in notes.lines[0]
    assert weights.stat().st_mtime_ns == stamp
    history = read_json(weights.with_name("history.json"))
    assert (history["views"], history["pooling"]) == (2 * second["time_views"], second["pooling"])
    assert (history["pooling_rule"] is None) == (second["pooling"] != "auto")  # not that of the first prediction
    assert run(competition, tmp_path / "here", models[0]) == before


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("frames", {"pooling": "mean"}, {"pooling": "mean", "tta_merge": "max"}),
        ("audio", {}, {"tta": "hflip", "tta_merge": "gmean"}),
    ],
)
def test_settings_of_prediction_without_effect_do_not_predict_again(
    competition: tuple[Competition, Path], tmp_path: Path, name: str, first: dict[str, Any], second: dict[str, Any]
) -> None:
    models, notes = [dataclasses.replace(MODELS[name], **FAST, **values) for values in (first, second)], Notes()
    before = run(competition, tmp_path / "here", models[0])
    assert run(competition, tmp_path / "other", models[1]) == before
    assert run(competition, tmp_path / "here", models[1], progress=notes) == before
    assert not notes.lines


def test_a_refit_pools_by_the_rule_that_most_folds_have_now(
    competition: tuple[Competition, Path], tmp_path: Path
) -> None:
    """With other views the folds choose other rules, and the refit is not trained again."""
    model = dataclasses.replace(MODELS["frames"], pooling="auto")
    context = FoldRunner(dataclasses.replace(make_job(competition, tmp_path), models={"m": model})).context("m")
    for fold in range(3):
        context.fold_folder(fold).mkdir(parents=True)
        save_file(make_clip_network(model).state_dict(), context.fold_folder(fold) / "weights.safetensors")

    def rules(*chosen: str) -> list[str]:
        for fold, rule in enumerate(chosen):
            write_json(context.fold_folder(fold) / "pooling.json", {"version": 1, "rule": rule})
        found = ClipKind().load(context, range(3))
        assert isinstance(found, ClipModels)
        return found._rules

    assert rules("top_k", "top_k", "dfdc") == ["top_k", "top_k", "top_k"]  # the last: a refit of an earlier version
    assert rules("confidence", "confidence") == ["confidence", "confidence", "confidence"]
    for damage in ("x", ["mean"], None):  # None: no file; the fold was silently pooled by the mean
        path = context.fold_folder(1) / "pooling.json"
        path.unlink() if damage is None else write_json(path, {"version": 1, "rule": damage})
        with pytest.raises(
            StoreError, match=rf"{path} is missing or has no known pooling rule.*predicts the fold again"
        ):
            ClipKind().load(context, range(2))


@pytest.mark.parametrize(
    ("model", "is_merged"),
    [
        (dataclasses.replace(TINY, tta="none"), False),
        (dataclasses.replace(TINY, tta="hflip"), True),
        (dataclasses.replace(MODELS["frames"], pooling="mean", temporal="conv"), True),
        (dataclasses.replace(MODELS["frames"], pooling="attention"), True),
        (dataclasses.replace(MODELS["frames"], pooling="attention", time_views=1, tta="none"), False),
        (MODELS["frames"], False),
    ],
)
def test_merging_of_views_has_an_effect_where_there_are_several(model: Any, is_merged: bool) -> None:
    changed = dataclasses.replace(model, tta_merge="max")
    assert bool(setting_changes(settings_record(model), changed, prediction=True)) == is_merged


def test_changes_of_training_settings_are_refused(competition: tuple[Competition, Path], tmp_path: Path) -> None:
    model = dataclasses.replace(MODELS["frames"], pooling="mean", **FAST)
    run(competition, tmp_path, model)
    for change, message in (
        ({"pooling": "attention"}, "pooling 'mean' to 'attention'"),
        ({"moments": 3}, "moments 2 to 3"),
        ({"frames": 5}, "frames 4 to 5"),
    ):
        with pytest.raises(TrainingError, match=f"was trained with other settings; changed: {message}"):
            run(competition, tmp_path, dataclasses.replace(model, **change))


def test_fusion_settings_require_the_kind_av(competition: tuple[Competition, Path], tmp_path: Path) -> None:
    for kind in (FramesSettings, AudioSettings):
        with pytest.raises(ConfigError, match="unknown key 'modality_loss'"):
            build(kind, {"backbone": "resnet18", "modality_loss": 0.1}, "[models.a]")
    with pytest.raises(ConfigError, match="modality_dropout = 2"):
        build(AvSettings, {"backbone": "resnet18", "modality_dropout": 2.0}, "[models.a]")
    # earlier versions recorded these settings for all kinds; that does not count as a change
    model = dataclasses.replace(MODELS["frames"], **FAST)
    before = run(competition, tmp_path, model)
    for path in tmp_path.glob("trainers/m/**/*.json"):
        record = read_json(path)
        if "settings" in record:
            write_json(path, record | {"settings": record["settings"] | {"fusion": "gated", "modality_loss": 0.3}})
    assert run(competition, tmp_path, model) == before


# ---- starting from another model ------------------------------------------------

SOUND = dataclasses.replace(MODELS["audio"], **FAST)
PICTURE = dataclasses.replace(MODELS["frames"], pooling="mean", **FAST)
BOTH = dataclasses.replace(
    MODELS["av"], pretrained="model:picture", sound_pretrained="model:sound", sound_slip=0.5, **FAST
)


def job_of(competition: tuple[Competition, Path], folder: Path, **models: Any) -> TrainingJob:
    return dataclasses.replace(make_job(competition, folder), models=models)


def test_encoders_start_from_the_same_fold_of_the_named_models(
    competition: tuple[Competition, Path], tmp_path: Path
) -> None:
    job = job_of(competition, tmp_path, both=BOTH, picture=PICTURE, sound=SOUND)
    run_job(job, [0, 1])
    context = FoldRunner(job).context("both")
    for fold in (0, 1):
        network = make_fold_network(context, fold).state_dict()
        for encoder, name in (("picture", "picture"), ("sound", "sound")):
            path = tmp_path / "trainers" / name / f"fold{fold}" / "weights.safetensors"
            theirs = {key: value for key, value in load_file(path).items() if key.startswith(f"{encoder}.")}
            assert len(theirs) > 10
            assert all(np.array_equal(network[key].numpy(), value) for key, value in theirs.items())
            record = read_json(tmp_path / "trainers" / "both" / f"fold{fold}" / "history.json")["starts_from"][encoder]
            assert record == {"model": name, "sha256": file_sha256(path)}


@pytest.mark.slow
def test_workers_first_train_the_models_that_others_start_from(
    competition: tuple[Competition, Path], tmp_path: Path
) -> None:
    job = job_of(competition, tmp_path, both=BOTH, picture=PICTURE, sound=SOUND)
    results = train_in_workers(job, [0, 1], Notes(), workers=2)
    assert [(result.model, result.fold) for result in results] == [
        (name, fold) for name in ("both", "picture", "sound") for fold in (0, 1)
    ]
    for fold in (0, 1):
        record = read_json(tmp_path / "trainers" / "both" / f"fold{fold}" / "history.json")["starts_from"]
        for name in ("picture", "sound"):
            path = tmp_path / "trainers" / name / f"fold{fold}" / "weights.safetensors"
            assert record[name]["sha256"] == file_sha256(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrained": "model:other"}, "names a model that has no trained folds and is not trained by this command"),
        ({"pretrained": "model:both"}, "starts from itself"),
        ({"pretrained": "model:sound"}, "is of the kind audio, which has no picture encoder"),
        ({"sound_pretrained": "model:picture"}, "is of the kind frames, which has no sound encoder"),
        ({"backbone": "test_vit"}, "backbone = 'test_vit' here and 'test_resnet' there"),
        ({"bands": 40}, "bands = 40 here and 32 there"),
        ({"refit": True}, "has no refit, but the refit of 'both' would start from it"),
    ],
)
def test_models_that_cannot_initialise_others_are_refused_before_training(
    competition: tuple[Competition, Path], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    models = {"picture": PICTURE, "sound": SOUND, "both": dataclasses.replace(BOTH, **changes)}
    with pytest.raises(TrainingError, match=message):
        run_job(job_of(competition, tmp_path, **models), [0])
    assert not (tmp_path / "trainers").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sound_backbone": "resnot18"}, "Model 'both': sound_backbone = 'resnot18' is not a model of timm"),
        ({"sound_options": {"x": 1}}, r"sound_options, sound_pretrained\): 'test_resnet' cannot be made with"),
        ({"sound_backbone": "test_vit"}, "with frames of 32 px, sound_backbone = 'test_vit', window_s = 0.2"),
    ],
)
def test_errors_of_the_sound_encoder_name_its_settings(
    competition: tuple[Competition, Path], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    model = dataclasses.replace(MODELS["av"], **FAST, **changes)
    with pytest.raises(TrainingError, match=message):
        FoldRunner(job_of(competition, tmp_path, both=model)).check((0, 1))


def test_weights_that_depend_on_the_size_of_frames_need_frames_of_one_size(
    competition: tuple[Competition, Path], tmp_path: Path
) -> None:
    small = dataclasses.replace(PICTURE, image_size=16, pretrained="model:picture")
    FoldRunner(job_of(competition, tmp_path, picture=PICTURE, small=small)).check((0, 1))
    models = {"picture": PICTURE, "small": small}
    models = {name: dataclasses.replace(model, backbone="test_vit") for name, model in models.items()}
    message = "has frames of 32 px, and this model of 16 px, on which the weights of test_vit depend"
    with pytest.raises(TrainingError, match=message):
        FoldRunner(job_of(competition, tmp_path, **models)).check((0, 1))


def test_a_model_of_other_folds_or_without_weights_is_refused(
    competition: tuple[Competition, Path], tmp_path: Path
) -> None:
    run_job(job_of(competition, tmp_path, picture=PICTURE), [0])
    both = dataclasses.replace(BOTH, sound_pretrained=False)
    job = job_of(competition, tmp_path, both=both)
    with pytest.raises(TrainingError, match=r"no weights of fold 1. Run dfens train --model picture --fold 1 first"):
        run_job(job, [1])
    path = tmp_path / "trainers" / "picture" / "fold0" / "history.json"
    record = read_json(path)
    write_json(path, record | {"folds": "others"})
    with pytest.raises(TrainingError, match="was trained on other folds, so its fold 0 has seen rows"):
        run_job(job, [0])
    write_json(path, record | {"settings": record["settings"] | {"inputs": ["rgb", "srm"]}})
    with pytest.raises(TrainingError, match=r"inputs = \['rgb'\] here and \['rgb', 'srm'\] there"):
        run_job(job, [0])
    write_json(path, record)
    assert run_job(job, [0])[0].fold == 0
    assert read_json(tmp_path / "trainers" / "both" / RECORD)["settings"]["pretrained"] == "model:picture"


# ---- sound shifted against the video ----------------------------------------------


def talking(tmp_path: Path, rate: int = 20, seconds: float = 2.0) -> ClipRecord:
    """Return a clip of 2 s whose sound rises linearly from 0 to 1, so that each sample gives its time."""
    images = [np.full((32, 32, 3), 40 + 4 * index, np.uint8) for index in range(round(rate * seconds))]
    sound = np.linspace(0, 1, round(seconds * 16_000), dtype=np.float32)
    path = write_clip(tmp_path / "a.mkv", images, rate, sound, encoding=Encoding(audio_codec="flac"))
    settings = ExtractSettings(frames=len(images), key_frames=0, frame_size=32)
    return ClipRecord(memoryview(encode_record(extract_clip(str(path), settings), "png")), "a")


SLIPPING = AvSettings(
    backbone="test_resnet",
    frames=40,
    key_frames=0,
    frame_size=32,
    moments=6,
    window_s=0.1,
    gain_db=0.0,
    sound_noise=0.0,
    tta="none",
    sound_slip=0.5,
    sound_slip_s=(0.3, 0.6),
)


def heard_s(clip: Moments) -> NDArray[np.float64]:
    """Return the time of each moment's sound in the clip, in seconds."""
    return np.asarray(clip.sound.astype(float).mean(1) / 32_768 * 2.0)


def test_the_sound_of_some_real_clips_is_shifted_within_the_clip(tmp_path: Path) -> None:
    record, reader = talking(tmp_path), MomentReader(SLIPPING, seed=1)
    shifts = []
    for epoch in range(60):
        real, fake = (reader.drawn(record, "x", epoch, is_real=is_real) for is_real in (True, False))
        assert fake.shifted == 0
        assert np.array_equal(real.frames, fake.frames)  # frames do not reveal the shift
        assert (real.sound_mask == 1).all()
        assert real.shifted == reader.is_slipped(record, "x", epoch)
        lag = heard_s(real) - heard_s(fake)
        assert np.ptp(lag[1:-1]) < 0.01  # equal for all moments except windows that extend beyond an end
        if real.shifted:
            assert 0.29 < abs(np.median(lag)) < 0.61
            shifts.append(np.median(lag))
        else:
            assert np.array_equal(real.sound, fake.sound)
    assert 15 < len(shifts) < 45
    assert min(shifts) < 0 < max(shifts)


def test_shifted_clips_are_fakes_only_in_training(tmp_path: Path) -> None:
    record = talking(tmp_path)
    table = pd.DataFrame({"id": [f"{row}" for row in range(40)], "target": np.arange(40) % 2, "path": "a"})
    table.loc[:9, "path"] = "none"  # unreadable clips are never shifted
    rows_of_fold = TrainingRows(table, table["target"].to_numpy(np.float32))
    data = ClipFoldData(
        SLIPPING, rows_of_fold, table, lambda path: record if path == "a" else None,
        seed=3, device=torch.device("cpu"), make_network=lambda: pytest.fail("not needed"), threads=1,
    )  # fmt: skip
    rows = np.arange(40)
    reader = MomentReader(SLIPPING, seed=3)
    for epoch in range(3):
        targets = data.targets(epoch, rows).numpy()
        slipped = [row >= 10 and reader.is_slipped(record, str(row), epoch) for row in rows]
        assert targets.tolist() == [float(row % 2 or slipped[row]) for row in rows]
        assert 2 < targets.sum() - 20 < 14
    assert data.positive_share() == pytest.approx((20 + 0.5 * 15) / 40)  # 15 of the 20 reals can be moved
    assert data.target.tolist() == table["target"].tolist()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sound_slip": 1.5}, "sound_slip = 1.5"),
        ({"sound_slip": 1.0}, "sound_slip = 1 makes a fake of every real"),
        ({"sound_slip_s": [0.5, 0.2]}, "sound_slip_s = .*smaller one first"),
    ],
)
def test_shifts_out_of_range_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(AvSettings, {"backbone": "resnet18", **values}, "[models.a]")
