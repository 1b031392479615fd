"""Settings that cannot work are found before training, in all models at once."""

import contextlib
import dataclasses
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from torch._inductor import config as inductor_config

from oof.errors import ConfigError, DfensError, TrainingError
from oof.store import PredictionStore
from tests.support.training import TINY, tiny_competition
from trainers.data.competition import Competition
from trainers.jobs.job import TrainingJob
from trainers.jobs.ray_cluster import _Needs
from trainers.jobs.runner import FoldRunner
from trainers.kinds.clips.settings import AudioSettings, AvSettings, FramesSettings
from trainers.kinds.pseudo_labels import PseudoLabels
from trainers.kinds.repeats import PseudoSettings
from trainers.kinds.training.trial import smallest_part
from trainers.networks.hub import check_hub, unreachable

Rows = tuple[Competition, PredictionStore]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return tiny_competition(tmp_path_factory.mktemp("rows"))


def check(rows: Rows, root: Path = Path(), max_parameters: int | None = None, **settings: Any) -> FoldRunner:
    """Run the trial of a model with changed settings."""
    competition, store = rows
    models = {"m": dataclasses.replace(TINY, **settings)}
    job = TrainingJob(competition, store.root, models, root / "work", max_parameters=max_parameters, root=root)
    runner = FoldRunner(job)
    runner.check((0, 1))
    return runner


@pytest.mark.parametrize(("settings", "message"), [
    ({"backbone": "test_vit", "image_size": 100}, r"'m': 'test_vit' does not run .*= 100.*divisible by patch "
     r"size .* It runs with image_size = 96 or image_size = 112\.$"),
    ({"backbone": "xcit_nano_12_p16_224", "image_size": 250}, r"cannot be made .* image_size = 250 .*`patch_size`.* "
     r"It runs with image_size = 240 or image_size = 256\.$"),
    ({"backbone": "resnet10t", "batch_size": 1}, r"1 image in the smallest part .*Expected more than 1 value"
     r".* It runs with 2 rows in the smallest part of a step\.$"),
    ({"backbone": "resnet10t", "batch_size": 5, "accumulate": 2}, "ok"),
    ({"backbone": "resnet10t", "batch_size": 7, "accumulate": 3}, r"1 image in the smallest part of a step"),
    ({"backbone": "test_resnet.nothing", "pretrained": True}, "'test_resnet.nothing' has no such weights in timm"),
    ({"backbone_options": {"global_pool": ""}}, r"does not run .*backbone_options = {'global_pool': ''}"),
    ({"backbone_options": {"global_pool": ""}, "backbone": "test_vit"},
     r"returns \(8, 5, 1\) for 8 rows instead of one number each\. Correct backbone_options = {'global_pool': ''}\.$"),
    ({"pretrained": "none.safetensors"}, r"'m': pretrained = 'none.safetensors' is not a file"),
    ({"backbone": "resnet10t", "pretrained": True, "backbone_options": {"depht": 3}}, "cannot be made with"),
    ({"weight_column": "wieght"}, r"^Model 'm': weight_column = 'wieght' is not a column .* has id, target, path"),
    ({"weight_column": "img_name"}, "weight_column = 'img_name' contains non-numeric values"),
    ({"pair_column": "original", "pair_mix": 0.3}, "pair_column = 'original' is not a column of the training table"),
    ({"pair_column": "target", "pair_mix": 0.3}, "pair_column = 'target' names no training row for any fake"),
    ({"inputs": ("rgb", "srm", "dct", "phase")}, "ok"),
    ({"backbone": "resnet10t", "trainable": "residual"}, r'a transformer.* trainable = "norm", "head" or "all"\.$'),
])  # fmt: skip
def test_unusable_settings_are_found_by_the_trial(rows: Rows, tmp_path: Path, settings: Any, message: str) -> None:
    if message == "ok":
        check(rows, tmp_path, **settings)
        return
    with pytest.raises(DfensError, match=message):
        check(rows, tmp_path, **settings)


def test_decoding_on_a_gpu_is_refused_before_training_where_there_is_none(rows: Rows, tmp_path: Path) -> None:
    competition, store = rows
    models = {"first": TINY, "fast": dataclasses.replace(TINY, decode="gpu")}
    job = TrainingJob(competition, store.root, models, tmp_path)
    message = """'fast': decode = "gpu" needs a CUDA device, but {} has (one|none).*Set decode = "area","""
    with pytest.raises(TrainingError, match=message.format("this machine")):
        FoldRunner(job, device=torch.device("cpu")).check((0, 1))
    FoldRunner(job, device=torch.device("cuda")).check((0, 1))
    elsewhere = dataclasses.replace(job, elsewhere=True)  # the machine that starts tasks on a cluster needs no GPU
    FoldRunner(elsewhere, device=torch.device("cpu")).check((0, 1))
    _Needs.of([{"CPU": 4.0}, {"CPU": 8.0, "GPU": 1.0}]).check(elsewhere)
    with pytest.raises(TrainingError, match=message.format("no machine of the Ray cluster")):
        _Needs.of([{"CPU": 4.0}]).check(elsewhere)


def test_passwords_in_the_address_of_the_hub_are_not_shown(no_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = constants.ENDPOINT.replace("://", "://me:SEKRET@")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    assert unreachable().startswith("127.0.0.1 cannot be reached (")
    with pytest.raises(TrainingError) as caught:
        check_hub("me/x", "")
    assert "SEKRET" not in str(caught.value)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A hub that does not answer, with an empty cache."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_hub_that_does_not_answer_is_told_before_training(rows: Rows, tmp_path: Path, no_hub: Path) -> None:
    message = r"'m': 'timm/test_resnet\.r160_in1k' could not be fetched .*127\.0\.0\.1.* Set pretrained = "
    with pytest.raises(TrainingError, match=message):
        check(rows, tmp_path, pretrained=True)
    competition, store = rows
    job = TrainingJob(competition, store.root, {"m": dataclasses.replace(TINY, pretrained=True)}, tmp_path)
    FoldRunner(dataclasses.replace(job, elsewhere=True)).check((0, 1))  # the machines of a cluster may reach it
    with pytest.raises(TrainingError, match=r"'me/x@main' could not be fetched .* Choose a model of timm"):
        check(rows, tmp_path, backbone="hf-hub:me/x@main")
    cached = no_hub / "models--timm--test_resnet.r160_in1k"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    (cached / "snapshots" / ("0" * 40)).mkdir(parents=True)
    check(rows, tmp_path, pretrained=True)


def test_the_hub_is_asked_for_the_weights_of_sound(rows: Rows, tmp_path: Path, no_hub: Path) -> None:
    settings = AvSettings(backbone="test_resnet", pretrained=False, sound_backbone="test_resnet", frame_size=32)
    job = TrainingJob(rows[0], rows[1].root, {"m": settings}, tmp_path)
    with pytest.raises(TrainingError, match=r"'timm/test_resnet\.r160_in1k' could not .* Set sound_pretrained = "):
        FoldRunner(job).check((0, 1))


def test_a_missing_compiler_is_found_before_training(rows: Rows, tmp_path: Path) -> None:
    with inductor_config.patch({"cpp.cxx": (None, str(tmp_path / "g++"))}):
        check(rows, tmp_path)
        with pytest.raises(TrainingError, match=r"'m': compile = true needs the C\+\+ .*g\+\+, .*compile = false"):
            check(rows, tmp_path, compile=True)
        (tmp_path / "g++").touch(0o755)
        check(rows, tmp_path, compile=True)


def test_the_last_part_of_a_step_is_considered(rows: Rows, tmp_path: Path) -> None:
    runner = check(rows, tmp_path, batch_size=8, accumulate=3)
    assert smallest_part(runner.context("m")) == 2  # 3, 3 and 2 rows
    assert smallest_part(check(rows, tmp_path, batch_size=64).context("m")) == 20  # all rows of a fold


def test_the_fold_with_the_smallest_part_is_considered(tmp_path: Path) -> None:
    rows = tiny_competition(tmp_path, k=3)  # folds of 14, 13 and 13 rows
    with pytest.raises(TrainingError, match="1 image in the smallest part of a step"):
        check(rows, tmp_path, batch_size=64, accumulate=25)  # 27 rows in twos, and one more; 26 rows in twos


def test_the_parts_of_a_refit_and_of_pseudo_labels_are_considered(tmp_path: Path) -> None:
    rows = tiny_competition(tmp_path, train_rows=41)
    check(rows, tmp_path, batch_size=64, accumulate=9)  # 20 or 21 rows in threes, and two or none more
    with pytest.raises(TrainingError, match="1 image in the smallest part of a step"):
        check(rows, tmp_path, batch_size=64, accumulate=9, refit=True)  # 41 rows in fives, and one more
    labels = PseudoLabels(np.full((3, 8), 1, np.float32))
    settings = dataclasses.replace(TINY, batch_size=64, accumulate=9, pseudo=PseudoSettings())
    job = TrainingJob(rows[0], rows[1].root, {"m": settings}, tmp_path, pseudo=labels)
    with pytest.raises(TrainingError, match="1 image in the smallest part of a step"):
        FoldRunner(job).check((0, 1))  # with 8 test rows 29 in fours, and one more


FRAMES = {"kind": "frames", "pretrained": False, "frame_size": 32, "moments": 2, "batch_size": 8}
SOUND = {"kind": "audio", "pretrained": False, "window_s": 0.3, "bands": 32, "batch_size": 8}
BOTH = {**FRAMES, "kind": "av", "sound_pretrained": False, "window_s": 0.2, "bands": 32}


@pytest.mark.parametrize(("values", "message"), [
    ({**FRAMES, "backbone": "test_resnet"}, "ok"),
    ({**FRAMES, "backbone": "test_resnet", "temporal": "transformer", "pooling": "attention"}, "ok"),
    ({**SOUND, "backbone": "test_resnet"}, "ok"),
    ({**SOUND, "backbone": "aasist-l", "window_s": 0.5}, "ok"),
    ({**BOTH, "backbone": "test_resnet", "sound_backbone": "test_resnet"}, "ok"),
    ({**FRAMES, "backbone": "test_vit", "frame_size": 40}, r"'test_vit' does not run .*frames of 40 px, moments = "
     r"2.* It runs with frame_size = 32 or frame_size = 48\.$"),
    ({**FRAMES, "backbone": "resnet10t", "moments": 1, "batch_size": 1}, r"and 1 clip in the smallest part of a step"),
    ({**FRAMES, "backbone": "test_resnet", "weight_column": "wieght"}, "weight_column = 'wieght' is not a column"),
    ({**FRAMES, "backbone": "test_resnet", "pretrained": "none.pt"}, "pretrained = 'none.pt' is not a file"),
    ({**FRAMES, "backbone": "test_resnet.nothing", "pretrained": True}, "has no such weights in timm"),
    ({**FRAMES, "backbone": "test_resnet", "faces": "none.onnx"}, "none.onnx"),
    ({**FRAMES, "backbone": "test_resnet", "faces": "~/none.onnx"}, re.escape(str(Path.home() / "none.onnx"))),
    ({**SOUND, "backbone": "test_resnet", "backbone_options": {"features_only": True}}, "Remove features_only"),
    ({**BOTH, "backbone": "test_resnet", "sound_backbone": "test_vit", "sound_options": {"features_only": True}},
     "'test_vit' with features_only = true returns maps"),
    ({**FRAMES, "backbone": "test_resnet", "backbone_options": {"checkpoint_path": "none.pt"}},
     r"'test_resnet' has the option checkpoint_path, .* pretrained = \"path/to/weights"),
    ({**BOTH, "backbone": "test_resnet", "sound_backbone": "test_vit", "sound_options": {"pretrained_cfg": "a"}},
     r"sound_options.* 'test_vit' has the option pretrained_cfg"),
    ({**FRAMES, "backbone": "test_resnet", "pretrained": "model:"}, r'"model:": expected "model:NAME"'),
    ({**FRAMES, "backbone": "test_resnet", "pretrained": "model:../m"}, r'"model:../m": expected "model:NAME"'),
    ({**BOTH, "backbone": "test_resnet", "sound_backbone": "test_resnett"}, "'test_resnett' is not a model of timm"),
    ({**BOTH, "backbone": "test_resnet", "sound_backbone": "test_resnet", "sound_pretrained": "none.pt"},
     "sound_pretrained = 'none.pt' is not a file"),
])  # fmt: skip
def test_unusable_settings_of_models_on_clips_are_found_by_the_trial(
    rows: Rows, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    competition, store = rows
    kinds = {"frames": FramesSettings, "audio": AudioSettings, "av": AvSettings}
    job = TrainingJob(competition, store.root, {"m": kinds[values["kind"]](**values)}, tmp_path, root=tmp_path)
    if message == "ok":
        FoldRunner(job).check((0, 1))
        with pytest.raises(TrainingError, match=r"'m' has [\d,]+ parameters; the competition allows 1,000"):
            FoldRunner(dataclasses.replace(job, max_parameters=1000)).check((0, 1))
        return
    with pytest.raises(DfensError, match=message):
        FoldRunner(job).check((0, 1))


def test_all_models_are_tried_before_the_first_is_trained(rows: Rows, tmp_path: Path) -> None:
    competition, store = rows
    models = {
        "good": TINY,
        "size": dataclasses.replace(TINY, backbone="test_vit", image_size=100),
        "large": dataclasses.replace(TINY, backbone="resnet10t"),
    }
    job = TrainingJob(competition, store.root, models, tmp_path, max_parameters=1_000_000)
    with pytest.raises(TrainingError, match=r"'size': 'test_vit' does not(.|\n)*'large' has 4,.* competition allows"):
        FoldRunner(job).check((0, 1))


def test_the_number_of_parameters_is_checked_again_for_another_limit(rows: Rows, tmp_path: Path) -> None:
    check(rows, tmp_path)
    with pytest.raises(TrainingError, match=r"'m' has [\d,]+ parameters; the competition allows 1,000"):
        check(rows, tmp_path, max_parameters=1000)


def test_the_trial_does_not_change_random_numbers(rows: Rows, tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    check(rows, tmp_path, inputs=("rgb", "phase"), lr=1e-5)  # needs values
    assert torch.equal(torch.rand(1), expected)


def test_ten_crops_need_a_larger_image() -> None:
    with pytest.raises(ConfigError, match=r'tta = "ten_crop" needs images larger than image_size = 32'):
        dataclasses.replace(TINY, tta="ten_crop")
    assert dataclasses.replace(TINY, tta="ten_crop", crop=40).stored_size == 40
