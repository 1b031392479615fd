"""Models on clips: training, interruption, workers, test predictions and robustness."""

import dataclasses
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfens.workspace.config import build
from oof.errors import ConfigError, DfensError, TrainingError
from oof.files import read_json
from oof.metrics import roc_auc
from oof.store import PredictionStore
from tests.support.clip_training import MODELS, clip_competition, make_job, moving, train
from tests.support.formats import documented
from tests.support.ray_cluster import ray_cluster
from tests.support.training import Notes, stored_bytes, train_models
from trainers.analysis.plots import plot_curves
from trainers.analysis.robustness import robustness_curves
from trainers.data.competition import Competition
from trainers.jobs.multiprocess import train_in_workers
from trainers.jobs.ray_cluster import train_on_ray
from trainers.jobs.runner import FoldRunner
from trainers.kinds.clips.deciding import moment_places, read_deciding
from trainers.kinds.clips.moments import MomentReader, spread_places
from trainers.kinds.clips.settings import AudioSettings, AvSettings, FramesSettings
from trainers.kinds.linear.settings import LinearSettings
from trainers.media.clip_writer import Encoding, write_clip

pytestmark = pytest.mark.slow  # trains models on clips


@pytest.fixture(scope="module")
def competition(tmp_path_factory: pytest.TempPathFactory) -> tuple[Competition, Path]:
    return clip_competition(tmp_path_factory.mktemp("clips"))


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_predicts_all_rows_reproducibly(
    competition: tuple[Competition, Path], tmp_path: Path, name: str
) -> None:
    first = train(competition, tmp_path / "a", name)
    model = first.load(name)
    assert model.test is not None
    assert np.isfinite(model.oof).all()
    assert np.isfinite(model.test).all()
    assert ((model.oof >= 0) & (model.oof <= 1)).all()
    assert stored_bytes(train(competition, tmp_path / "b", name), name) == stored_bytes(first, name)


@pytest.mark.parametrize("name", ["frames", "av"])
def test_the_decisive_moment_of_each_held_out_clip_is_stored(
    competition: tuple[Competition, Path], tmp_path: Path, name: str
) -> None:
    store = train(competition, tmp_path, name)
    found = [read_deciding(tmp_path / "trainers" / name / f"fold{fold}" / "deciding.parquet") for fold in (0, 1)]
    for fold, moments in enumerate(found):
        assert set(moments) == set(store.folds.ids[store.folds.rows(fold)])
    places, probabilities = zip(*(found[0] | found[1]).values(), strict=True)
    assert set(places) <= {float(np.float32(place)) for place in moment_places(MODELS[name])}
    oof = store.load(name).oof
    surest = int(np.argmax(oof))
    assert (found[0] | found[1])[str(store.folds.ids[surest])][1] == pytest.approx(max(probabilities), abs=0.2)


def test_the_pooling_rule_is_chosen_and_stored_with_the_weights(
    competition: tuple[Competition, Path], tmp_path: Path
) -> None:
    train(competition, tmp_path, "frames")
    folder = tmp_path / "trainers" / "frames" / "fold0"
    history = read_json(folder / "history.json")
    assert read_json(folder / "pooling.json")["rule"] == history["pooling_rule"]
    assert history["pooling_rule"] in ("mean", "top_k", "confidence", "dfdc")
    assert set(history) - documented("`history.json`, version 1:", "`state.pt` and") == {"version"}
    assert history["views"] == 4  # two views in time, each also mirrored


ROOT = Path(__file__).parents[2]

# Train one model in a process that can be killed; arguments: DATA FOLDER
TRAIN_AV = """
import sys
from pathlib import Path

import torch

from tests.support.clip_training import make_job
from trainers.data.layouts import read_competition
from trainers.data.settings import DataSettings
from trainers.jobs.runner import FoldRunner
from trainers.kinds.training import fold_trainer

torch.set_num_threads(1)
fold_trainer._SAVE_EVERY_S = 0.0
plain = fold_trainer.FoldTrainer._step


def step(self, *arguments):
    plain(self, *arguments)
    print("step", flush=True)


fold_trainer.FoldTrainer._step = step
root = Path(sys.argv[1])
competition = read_competition(DataSettings(layout="table", root=root / "data"))
FoldRunner(make_job((competition, root), Path(sys.argv[2]), "av", epochs=6)).all([0, 1])
"""


class Kill(Exception):
    """Simulates a kill."""


def test_killed_fold_resumes_to_the_same_bits(
    competition: tuple[Competition, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(competition, tmp_path / "whole", "av")
    from trainers.kinds.training.fold_trainer import FoldTrainer

    monkeypatch.setattr("trainers.kinds.training.fold_trainer._SAVE_EVERY_S", 0.0)
    plain, steps = FoldTrainer._step, []

    def dying(self: Any, *arguments: Any) -> None:
        plain(self, *arguments)
        steps.append(1)
        if len(steps) == 2:
            raise Kill

    job = make_job(competition, tmp_path / "killed", "av")
    with monkeypatch.context() as patch:
        patch.setattr(FoldTrainer, "_step", dying)
        with pytest.raises(Kill):
            FoldRunner(job).all([0, 1])
    assert (tmp_path / "killed" / "trainers" / "av" / "fold0" / "state.pt").exists()
    FoldRunner(job).all([0, 1])
    assert stored_bytes(PredictionStore(tmp_path / "killed" / "oof"), "av") == stored_bytes(whole, "av")


def test_two_workers_give_the_predictions_of_one_process(competition: tuple[Competition, Path], tmp_path: Path) -> None:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = train(competition, tmp_path / "one", "av")
    finally:
        torch.set_num_threads(threads)
    job = make_job(competition, tmp_path / "two", "av")
    train_in_workers(job, [0, 1], Notes(), workers=2)
    there = PredictionStore(tmp_path / "two" / "oof").load("av")
    assert there.oof == pytest.approx(alone.load("av").oof, abs=1e-6)


@pytest.mark.parametrize("name", ["frames", "audio", "av"])
def test_seeds_and_refits_of_clip_models_are_the_same_with_two_workers(
    name: str, competition: tuple[Competition, Path], tmp_path: Path
) -> None:
    changes = {"seeds": 2, "refit": True, "epochs": 1}
    jobs = [make_job(competition, tmp_path / place, name, **changes) for place in ("one", "two")]
    results = FoldRunner(jobs[0]).all([0, 1])
    done = train_in_workers(jobs[1], [0, 1], Notes(), workers=2)
    assert sorted((item.seed, item.fold) for item in done) == sorted((item.seed, item.fold) for item in results)
    assert {(item.seed, item.refit) for item in done} == {(0, False), (1, False), (0, True), (1, True)}
    alone, there = (PredictionStore(job.store_root).load(name) for job in jobs)
    assert alone.test_by_fold is not None
    assert np.ptp([PredictionStore(jobs[0].store_root).load(name, seed=seed).oof for seed in (0, 1)], axis=0).max() > 0
    # the number of threads differs
    assert there.oof == pytest.approx(alone.oof, abs=1e-5)
    assert there.test_by_fold == pytest.approx(alone.test_by_fold, abs=1e-5)


def test_av_fold_killed_at_random_moments_gives_the_bits_of_an_undisturbed_one(
    competition: tuple[Competition, Path], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", TRAIN_AV, str(competition[1])]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    kills, moments, resumed = 0, random.Random(0), []
    while True:
        with subprocess.Popen([*command, str(tmp_path / "killed")], cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            if kills < 4:  # after some steps, at a random point
                for _ in range(moments.randint(2, 4)):
                    process.stdout.readline()
                process.kill()
            process.stdout.read()
        if process.returncode == 0:
            break
        kills += 1
        resumed.append(any((tmp_path / "killed" / "trainers" / "av").glob("fold*/state.pt")))
    assert kills >= 3
    assert any(resumed)
    stores = [PredictionStore(tmp_path / name / "oof") for name in ("whole", "killed")]
    assert stored_bytes(stores[0], "av") == stored_bytes(stores[1], "av")


def test_torchrun_of_one_process_and_ray_give_the_same_bits(
    competition: tuple[Competition, Path], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", TRAIN_AV, str(competition[1]), str(tmp_path / "whole")]
    subprocess.run(command, check=True, cwd=ROOT)
    script = tmp_path / "train_av.py"
    script.write_text(TRAIN_AV)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]
    arguments = [str(script), str(competition[1]), str(tmp_path / "torchrun")]
    subprocess.run([*torchrun, *arguments], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    stores = [PredictionStore(tmp_path / name / "oof") for name in ("whole", "torchrun")]
    assert stored_bytes(stores[0], "av") == stored_bytes(stores[1], "av")
    with ray_cluster() as cluster:
        job = make_job(competition, tmp_path / "ray", "av", epochs=6)
        train_on_ray(job, [0, 1], Notes(), address=cluster.address)
    there = PredictionStore(tmp_path / "ray" / "oof").load("av")
    # the number of threads may differ between machines
    assert there.oof == pytest.approx(stores[0].load("av").oof, abs=1e-6)


def test_a_broken_test_clip_is_reported_and_a_broken_training_clip_is_an_error(
    competition: tuple[Competition, Path], tmp_path: Path
) -> None:
    found, root = competition
    broken = tmp_path / "broken.mp4"
    broken.write_text("no clip")
    test = found.test.copy()
    test.loc[0, "path"] = str(broken)
    notes = Notes()
    job = make_job((dataclasses.replace(found, test=test), root), tmp_path, "audio")
    FoldRunner(job, notes).all([0, 1])
    assert any("Test clips that cannot be read (1)" in line and "broken.mp4" in line for line in notes.lines)
    train_table = found.train.copy()
    train_table.loc[1, "path"] = str(broken)
    job = make_job((dataclasses.replace(found, train=train_table), root), tmp_path / "other", "audio")
    with pytest.raises(TrainingError, match=r"Training clips that cannot be read \(1\): .*broken\.mp4: is not a clip"):
        FoldRunner(job).all([0])


def test_models_share_extracted_clips(competition: tuple[Competition, Path], tmp_path: Path) -> None:
    job = make_job(competition, tmp_path, "av", "linear")
    train_models(job.competition, PredictionStore(job.store_root), job.models, [0], job.work_dir, root=job.root)
    assert len(list((tmp_path / "trainers" / "clips").iterdir())) == 1


def test_robustness_is_measured_on_changed_clips(competition: tuple[Competition, Path], tmp_path: Path) -> None:
    job = make_job(competition, tmp_path, "linear")
    FoldRunner(job).all([0, 1])
    points = robustness_curves(job, corruptions=("size", "silence trimmed"))
    assert [(point.corruption, point.severity) for point in points] == [
        ("none", 0.0),
        ("size", 0.5),
        ("silence trimmed", 1),
    ]
    oof = PredictionStore(tmp_path / "oof").load("linear").oof
    assert points[0].auc == pytest.approx(roc_auc(job.competition.train["target"].to_numpy(), oof))
    picture = plot_curves(tmp_path / "curves.png", points)
    assert picture.stat().st_size > 5_000


# ---- moments -----------------------------------------------------------------


def test_views_in_time_have_different_moments_that_cover_the_clip() -> None:
    views = [spread_places(4, view, 3) for view in range(3)]
    everything = np.sort(np.concatenate(views))
    assert np.diff(everything) == pytest.approx(1 / 12)
    assert everything[0] == pytest.approx(1 / 24)


def test_window_of_sound_is_centered_on_its_frame(competition: tuple[Competition, Path], tmp_path: Path) -> None:
    from trainers.features.extract import extract_clip
    from trainers.media.clip_record import ClipRecord, encode_record

    settings = MODELS["av"]
    click = np.zeros(8_000, np.float32)
    click[4_000:4_100] = 0.8  # at 0.25 s
    path = write_clip(tmp_path / "a.mkv", moving(0, fake=False), 16, click, encoding=Encoding(audio_codec="flac"))
    parts = extract_clip(str(path), settings.extraction)
    record = ClipRecord(memoryview(encode_record(parts, "png")), "a")
    found = MomentReader(dataclasses.replace(settings, moments=4)).view(record, 0, 1)
    times = record.tensor("times_s")[record.spread]
    assert found.frame_mask.tolist() == [1, 1, 1, 1]
    for time_s, window in zip(times, found.sound, strict=True):
        loud = np.flatnonzero(np.abs(window.astype(int)) > 10_000)
        if abs(time_s - 0.25) < 0.09:
            assert (time_s - 0.1) * 16_000 + loud[0] == pytest.approx(4_000, abs=40)
        elif abs(time_s - 0.25) > 0.12:
            assert not len(loud)


def test_moments_for_training_are_drawn_from_seed_epoch_and_id(competition: tuple[Competition, Path]) -> None:
    from trainers.features.extract import extract_clip
    from trainers.media.clip_record import ClipRecord, encode_record

    settings = MODELS["av"]
    parts = extract_clip(competition[0].train["path"].iloc[0], settings.extraction)
    record = ClipRecord(memoryview(encode_record(parts, "png")), "a")
    reader = MomentReader(settings, seed=3)
    first, again, other = (reader.drawn(record, "x", epoch) for epoch in (0, 0, 1))
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.sound, again.sound)
    assert not np.array_equal(first.sound, other.sound)


NAN, INF = float("nan"), float("inf")  # valid in TOML


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (FramesSettings, {"backbone": "resnet18", "cutmix": 1.0}, "cutmix changes single images"),
        (FramesSettings, {"backbone": "resnet18", "tta": "d4"}, 'tta = "d4" is not supported for clips'),
        (FramesSettings, {"backbone": "resnet18", "image_size": 500}, "image_size = 500 must be from 0"),
        (FramesSettings, {"backbone": "resnet18", "pooling": "dfdc", "temporal": "conv"}, "processes all together"),
        (AudioSettings, {"backbone": "aasist", "sample_rate": 22_050}, "backbone = .aasist. needs waveforms of 16,000"),
        (
            AvSettings,
            {"backbone": "test_vit", "sound_backbone": "aasist-l", "window_s": 0.3},
            "sound_backbone = .* 0.4 s",
        ),
        (AudioSettings, {"backbone": "aasist", "backbone_options": {"drop_rate": 0.1}}, "no options. Set backbone_opt"),
        (
            AvSettings,
            {"backbone": "test_vit", "sound_backbone": "aasist", "sound_pretrained": "a.pt"},
            "file of weights 'a.pt'. Set sound_pretrained = false",
        ),
        (AudioSettings, {"backbone": "resnet18", "fmax": 9_000.0}, "fmax = 9000"),
        (AudioSettings, {"backbone": "resnet18", "fmin": 7_999.999999999999}, "fmin = 8000 and fmax = 8000"),
        (AudioSettings, {"backbone": "resnet18", "n_fft": 10**9}, "n_fft = 1000000000 is out of range"),
        (AudioSettings, {"backbone": "resnet18", "bands": 10**9}, "bands = 1000000000 is out of range"),
        (LinearSettings, {"sample_rate": 10**9}, "sample_rate = 1000000000 is out of range"),
        (LinearSettings, {"frame_size": 10**9}, "frame_size = 1000000000 is out of range"),
        (FramesSettings, {"backbone": "resnet18", "frames": 10**9}, "frames = 1000000000 is out of range"),
        (AvSettings, {"backbone": "resnet18", "fusion": "sum"}, "fusion = 'sum'"),
        (AudioSettings, {"backbone": "resnet18", "sound_seconds": NAN}, "sound_seconds = nan: expected a finite"),
        (AudioSettings, {"backbone": "resnet18", "sound_seconds": 1e-5}, "sound_seconds = 1e-05: expected a finite"),
        (AudioSettings, {"backbone": "resnet18", "sound_seconds": 1e308}, "sound_seconds = 1e.308: expected a finite"),
        (FramesSettings, {"backbone": "resnet18", "face_margin": NAN}, "face_margin = nan: expected a finite"),
        (FramesSettings, {"backbone": "resnet18", "face_margin": INF}, "face_margin = inf: expected a finite"),
        (AvSettings, {"backbone": "resnet18", "sound_slip_s": [0.2, INF]}, "sound_slip_s = inf: expected a finite"),
        (AvSettings, {"backbone": "resnet18", "sound_slip_s": [0.8, 0.2]}, "expected two finite numbers above 0"),
    ],
)
def test_settings_that_cannot_work_are_named(kind: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(kind, values, "[models.a]")


@pytest.mark.parametrize("values", [{"n_fft": 1}, {"n_fft": 2}, {"fmin": 7_990.0}])
def test_spectrograms_without_any_frequency_are_refused_before_training(
    competition: tuple[Competition, Path], tmp_path: Path, values: dict[str, Any]
) -> None:
    for name in ("audio", "raw", "frames", "linear"):  # the spectrogram is stored for all of them
        with pytest.raises(DfensError, match=r"No frequency of a Fourier transform of n_fft = .* Increase n_fft"):
            FoldRunner(make_job(competition, tmp_path / name, name, **values)).check((0, 1))
