"""Detection methods: normalised features and losses on them, residual-subspace tuning, training on reals only."""

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrize

from oof.errors import ConfigError, TrainingError
from oof.folds import make_folds
from oof.metrics.intervals import score_interval
from oof.store import PredictionStore
from tests.support.training import TINY, stored_bytes, tiny_competition, train_models
from trainers.augment.settings import DegradeSettings
from trainers.data.competition import Competition
from trainers.jobs.job import TrainingJob
from trainers.jobs.runner import FoldRunner
from trainers.kinds.clips.settings import FramesSettings
from trainers.kinds.timm.settings import TimmSettings
from trainers.kinds.training_rows import fold_weights, labelled_rows
from trainers.networks.backbone import create_model, parameter_count
from trainers.networks.feature_head import FeatureHead
from trainers.networks.losses import alignment_loss, uniformity_loss
from trainers.networks.optim import make_optimizer, set_trainable
from trainers.networks.output import NetworkOutput, as_output
from trainers.networks.residual import merged_state, residual_factors, residual_penalty
from trainers.networks.weights import load_weights

Rows = tuple[Competition, PredictionStore]
GEND: dict[str, Any] = {
    "backbone": "test_vit", "trainable": "norm", "feature_norm": "l2", "alignment": 0.1, "uniformity": 0.5,
}  # fmt: skip
EFFORT: dict[str, Any] = {"backbone": "test_vit", "trainable": "residual"}
BLEND: dict[str, Any] = {"reals_only": True, "self_blend": 0.5}
METHODS = {"gend": GEND, "effort": EFFORT, "blend": BLEND, "degrade": {"degrade": DegradeSettings(probability=0.7)}}


def settings_of(**values: Any) -> TimmSettings:
    return dataclasses.replace(TINY, **values)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return tiny_competition(tmp_path_factory.mktemp("rows"))


def check(rows: Rows, folder: Path, **values: Any) -> FoldRunner:
    """Run the trial of a model with changed settings."""
    job = TrainingJob(rows[0], rows[1].root, {"m": settings_of(**values)}, folder / "work", root=folder)
    runner = FoldRunner(job)
    runner.check((0, 1))
    return runner


# ---- losses on features ----


def unit_rows(count: int = 7, seed: int = 0) -> torch.Tensor:
    found = torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))
    return nn.functional.normalize(found, dim=1)


def one_hot(labels: list[int]) -> torch.Tensor:
    target = torch.tensor(labels, dtype=torch.float32)
    return torch.stack([1 - target, target], 1)


def test_alignment_is_the_mean_squared_distance_of_pairs_of_one_class() -> None:
    labels, features = [0, 1, 1, 0, 1, 0, 0], unit_rows()
    expected = np.mean(
        [
            float((features[i] - features[j]).square().sum())
            for i in range(7)
            for j in range(i)
            if labels[i] == labels[j]
        ]
    )
    assert float(alignment_loss(features, one_hot(labels))) == pytest.approx(expected, rel=1e-5)


def test_uniformity_is_the_log_of_the_mean_heat_of_pairs() -> None:
    features = unit_rows()
    heats = [math.exp(-2 * float((features[i] - features[j]).square().sum())) for i in range(7) for j in range(i)]
    found = uniformity_loss(features, one_hot([0, 1, 1, 0, 1, 0, 0]))
    assert float(found) == pytest.approx(math.log(np.mean(heats)), rel=1e-5)
    assert float(found) == pytest.approx(float(torch.pdist(features).square().mul(-2).exp().mean().log()), rel=1e-5)


def test_rows_of_weight_0_do_not_contribute_to_losses_on_features() -> None:
    features, weights = unit_rows(), one_hot([0, 1, 1, 0, 1, 0, 0])
    weights[4] = 0
    kept = [0, 1, 2, 3, 5, 6]
    for loss in (alignment_loss, uniformity_loss):
        torch.testing.assert_close(loss(features, weights), loss(features[kept], weights[kept]))


def test_losses_on_features_without_pairs_are_0_with_finite_gradients() -> None:
    for labels in ([1], [0, 1]):
        features = unit_rows(len(labels)).requires_grad_()
        weights = one_hot(labels)
        loss = alignment_loss(features, weights)
        assert float(loss.detach()) == 0
        loss.backward()  # type: ignore[no-untyped-call]
        assert features.grad is not None
        assert torch.isfinite(features.grad).all()
    alone = unit_rows(1).requires_grad_()
    uniformity_loss(alone, one_hot([1])).backward()  # type: ignore[no-untyped-call]
    assert alone.grad is not None
    assert float(uniformity_loss(alone, one_hot([1])).detach()) == 0
    assert torch.isfinite(alone.grad).all()


# ---- normalised features ----


@pytest.mark.parametrize("backbone", ["test_vit", "test_convnext", "test_resnet", "test_efficientnet"])
@pytest.mark.parametrize("feature_norm", ["raw", "layer", "l2", "batch"])
def test_the_head_receives_features_normalised_as_requested(backbone: str, feature_norm: Any) -> None:
    settings = settings_of(backbone=backbone, feature_norm=feature_norm)
    torch.manual_seed(0)
    if feature_norm == "raw" and backbone in ("test_resnet", "test_efficientnet"):
        with pytest.raises(TrainingError, match="has no normalisation between its body and its classifier"):
            create_model(settings, 32)
        return
    model = create_model(settings, 32)
    (head,) = [module for module in model.modules() if isinstance(module, FeatureHead)]
    seen: list[torch.Tensor] = []
    head.linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    output = as_output(model.train()(images))
    assert output.logits.shape == (16, 1)
    features = seen[0].detach()
    if feature_norm == "l2":
        torch.testing.assert_close(features.norm(dim=1), torch.ones(16))
        assert output.features is not None
        torch.testing.assert_close(output.features, seen[0])
    else:
        assert output.features is None
    if feature_norm == "layer":
        torch.testing.assert_close(features.mean(1), torch.zeros(16), atol=1e-5, rtol=0)
        torch.testing.assert_close(features.var(1, correction=0), torch.ones(16), atol=2e-2, rtol=0)
    if feature_norm == "batch":
        torch.testing.assert_close(features.mean(0), torch.zeros(features.shape[1]), atol=1e-4, rtol=0)
    plain = create_model(settings_of(backbone=backbone), 32)
    names = {name for name, _ in plain.named_parameters()}
    assert ("norm.weight" in names) == (backbone == "test_vit")
    dropped = names - {name.replace(".linear", "") for name, _ in model.named_parameters()}
    assert bool(dropped) == (feature_norm in ("raw", "layer") and backbone in ("test_vit", "test_convnext"))
    assert not isinstance(model.eval()(images), NetworkOutput)


def test_feature_norm_layer_is_that_of_the_backbone_without_its_weights() -> None:
    torch.manual_seed(0)
    plain = create_model(settings_of(backbone="test_convnext"), 32).eval()
    torch.manual_seed(0)
    layer = create_model(settings_of(backbone="test_convnext", feature_norm="layer"), 32).eval()
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(layer(images), plain(images), atol=1e-4, rtol=1e-3)  # initially, scale is 1 and shift 0


def test_weights_are_loaded_before_the_head_is_replaced_and_fit_a_plain_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = create_model(settings_of(backbone="test_convnext"), 32)
    authors = {authors_name(name): value + 0.01 for name, value in plain.state_dict().items()}
    torch.save({"model": authors}, tmp_path / "dinov3.pth")
    settings = settings_of(backbone="test_convnext", pretrained="dinov3.pth", trainable="head", feature_norm="l2")
    model = create_model(settings, 32, tmp_path)
    torch.testing.assert_close(model.get_parameter("stem.0.weight"), authors["downsample_layers.0.0.weight"])
    torch.testing.assert_close(model.get_parameter("head.norm.weight"), authors["norm.weight"])
    save_file(model.state_dict(), tmp_path / "tuned.safetensors")
    again = create_model(settings_of(backbone="test_convnext", pretrained="tuned.safetensors"), 32, tmp_path)
    torch.testing.assert_close(again.get_parameter("head.norm.weight"), authors["norm.weight"])


def authors_name(name: str) -> str:
    """Return the name of a ConvNeXt weight in its authors' files, which DINOv3 also uses."""
    name = re.sub(r"^stem\.", "downsample_layers.0.", name)
    name = re.sub(r"stages\.(\d)\.downsample", r"downsample_layers.\1", name)
    name = re.sub(r"stages\.(\d)\.blocks", r"stages.\1", name)
    name = name.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
    return name.replace("head.norm", "norm").replace("head.fc", "head")


def test_feature_norm_needs_a_single_linear_classifier() -> None:
    with torch.device("meta"), pytest.raises(TrainingError, match="classifier is one linear layer; .* several layers"):
        create_model(settings_of(backbone="deit_tiny_distilled_patch16_224", feature_norm="l2"), 224)


def test_losses_on_features_need_features_of_unit_length_and_images() -> None:
    with pytest.raises(ConfigError, match='alignment and uniformity .* Set feature_norm = "l2"'):
        settings_of(alignment=0.1)
    for values in ({"alignment": 0.1}, {"uniformity": 0.1}, {"feature_norm": "l2"}):
        with pytest.raises(ConfigError, match="for clips"):
            FramesSettings(backbone="test_vit", **values)


# ---- residual subspaces ----


def effort_model(rank: int = 1, seed: int = 0) -> tuple[nn.Module, nn.Module]:
    """Return a network split for residual tuning, and the same network unsplit."""
    settings = settings_of(**EFFORT, residual_rank=rank)
    models = []
    for trainable in ("residual", "all"):
        torch.manual_seed(seed)
        model = create_model(settings, 32)
        set_trainable(model, dataclasses.replace(settings, trainable=trainable))
        models.append(model)
    return models[0], models[1]


@pytest.mark.parametrize("rank", [1, 4])
def test_only_the_last_singular_directions_of_attention_and_the_head_are_trainable(rank: int) -> None:
    split, plain = effort_model(rank)
    trainable_sizes = {name: value.numel() for name, value in split.named_parameters() if value.requires_grad}
    assert {name for name in trainable_sizes if "parametrizations" not in name} == {"head.weight", "head.bias"}
    width, depth = 64, 6
    assert sum(trainable_sizes.values()) == depth * (3 + 1) * rank * (2 * width + 1) + width + 1
    assert parameter_count(split) == parameter_count(plain)
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(split.eval()(images), plain.eval()(images), atol=1e-5, rtol=1e-4)
    penalty = residual_penalty(split)
    assert penalty is not None
    assert 0 <= float(penalty.detach()) < 1e-4
    assert residual_penalty(plain) is None
    groups = make_optimizer(split, settings_of(**EFFORT), torch.device("cpu")).param_groups
    decayed = {value for group in groups if group["weight_decay"] for value in group["params"]}
    assert decayed.isdisjoint(residual_factors(split))


def test_the_frozen_part_has_the_main_directions_of_each_projection() -> None:
    split, plain = effort_model(3)
    weight = plain.get_parameter("blocks.0.attn.qkv.weight").detach()
    layer: Any = split.get_submodule("blocks.0.attn.qkv")
    main = layer.parametrizations.weight[0].get_buffer("main")
    for part, block in enumerate(weight.reshape(3, -1, weight.shape[1])):  # query, key and value separately
        left, values, right = np.linalg.svd(block.double().numpy())
        expected = left[:, :-3] * values[:-3] @ right[:-3]
        np.testing.assert_allclose(main[part].numpy(), expected, atol=1e-5)


def test_the_penalty_equals_that_of_the_paper() -> None:
    split, _ = effort_model(2)
    rng = torch.Generator().manual_seed(1)
    for factor in residual_factors(split):
        factor.data += 0.05 * torch.randn(factor.shape, generator=rng)
    expected = []
    for module in split.modules():
        if not isinstance(module, parametrize.ParametrizationList):
            continue
        layer: Any = module
        left, values, right = (
            factor.detach().double() for factor in (layer.original0, layer.original1, layer.original2)
        )
        main, norm = (layer[0].get_buffer(name).double() for name in ("main", "norm"))
        total = 0.0
        for part in range(len(left)):
            kept = main.shape[1] - left.shape[2]
            u, _, v = torch.linalg.svd(main[part])
            for frozen, trained in ((u[:, :kept], left[part]), (v[:kept].T, right[part].T)):
                joined = torch.cat([frozen, trained], 1)
                total += float((joined.T @ joined - torch.eye(joined.shape[1])).square().sum())
            weight = main[part] + left[part] * values[part] @ right[part]
            total += abs(float(weight.square().sum() - norm[part]))
        expected.append(total)
    penalty = residual_penalty(split)
    assert penalty is not None
    assert float(penalty.detach()) == pytest.approx(np.mean(expected), rel=1e-3)


def test_the_penalty_keeps_the_factors_in_the_free_directions() -> None:
    ends = {}
    for weight in (0.0, 1.0):
        split, _ = effort_model(2)
        head = nn.functional.mse_loss
        optimizer = make_optimizer(split, settings_of(**EFFORT), torch.device("cpu"))
        images, target = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.ones(8, 1)
        for _ in range(15):
            loss = head(split.train()(images), target)
            penalty = residual_penalty(split)
            assert penalty is not None
            (loss + weight * penalty).backward()  # type: ignore[no-untyped-call]
            optimizer.found_inf = torch.zeros(())  # type: ignore[attr-defined]
            optimizer.step()
            optimizer.zero_grad()
        end = residual_penalty(split)
        assert end is not None
        ends[weight] = float(end.detach())
    assert ends[1.0] < 0.2 * ends[0.0]


def test_merged_weights_fit_a_plain_network(tmp_path: Path) -> None:
    split, plain = effort_model()
    for factor in residual_factors(split):
        factor.data += 0.1
    state = merged_state(split)
    assert state.keys() == plain.state_dict().keys()
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "a.safetensors")
    load_weights(plain, tmp_path / "a.safetensors")
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(plain.eval()(images), split.eval()(images), rtol=0, atol=0)


@pytest.mark.parametrize(("values", "message"), [
    ({"trainable": "residual"}, 'tunes the attention of a transformer, but this backbone has none'),
    ({**EFFORT, "residual_rank": 64}, "residual_rank = 64 leaves nothing to freeze in layers of 64 directions"),
    ({"feature_norm": "raw"}, 'has no normalisation between its body .* "raw" would change nothing'),
    ({"feature_norm": "batch", "batch_size": 1}, "1 image in the smallest part"),
])  # fmt: skip
def test_methods_that_cannot_work_are_found_by_a_trial(
    rows: Rows, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        check(rows, tmp_path, **values)


# ---- reals only ----


def test_reals_only_trains_on_reals_and_scores_all_rows(rows: Rows, tmp_path: Path) -> None:
    competition, _ = rows
    store = PredictionStore(tmp_path / "oof")
    store.save_folds(rows[1].folds)
    store.save_test_ids(rows[1].test_ids)
    runner = check(rows, tmp_path, **BLEND)
    folds = store.folds
    for fold in (0, 1):
        np.testing.assert_array_equal(
            labelled_rows(runner.context("m"), fold), (folds.fold != fold) & (folds.target == 0)
        )
    train_models(competition, store, {"m": settings_of(**BLEND)}, [0, 1], tmp_path / "work")
    assert np.isfinite(store.load("m").oof).all()  # fakes too
    assert len(store.load("m").oof) == len(folds.ids)


def test_row_weights_of_reals_have_mean_1(rows: Rows, tmp_path: Path) -> None:
    competition, store = rows
    weight = np.where(store.folds.target == 0, 5.0, 1.0)
    changed = dataclasses.replace(competition, train=competition.train.assign(weight=weight))
    for values, expected in ((BLEND, 1.0), ({}, 5 / weight.mean())):
        job = TrainingJob(changed, store.root, {"m": settings_of(weight_column="weight", **values)}, tmp_path)
        context = FoldRunner(job).context("m")
        chosen = labelled_rows(context, 0)
        found = fold_weights(context, "weight", chosen)
        assert found is not None
        np.testing.assert_allclose(found[store.folds.target[chosen] == 0], expected, rtol=1e-6)
    for label, what in enumerate(("reals", "fakes")):
        zeros = competition.train.assign(weight=(store.folds.target != label).astype(float))
        one_class = dataclasses.replace(competition, train=zeros)
        job = TrainingJob(one_class, store.root, {"m": settings_of(weight_column="weight")}, tmp_path)
        with pytest.raises(TrainingError, match=f"weight_column = 'weight' is 0 for all {what} that a fold is trained"):
            FoldRunner(job).check((0, 1))
    blended = TrainingJob(one_class, store.root, {"m": settings_of(weight_column="weight", self_blend=0.5)}, tmp_path)
    FoldRunner(blended).check((0, 1))
    none = dataclasses.replace(competition, train=competition.train.assign(weight=store.folds.target.astype(float)))
    job = TrainingJob(none, store.root, {"m": settings_of(weight_column="weight", **BLEND)}, tmp_path)
    with pytest.raises(
        TrainingError, match="reals_only = true, but weight_column = 'weight' is 0 for all reals that a fold"
    ):
        FoldRunner(job).check((0, 1))


@pytest.mark.parametrize(("values", "message"), [
    ({"reals_only": True}, r"self_blend = 0 must be above 0 and below 1. Set self_blend = 0.5"),
    ({"reals_only": True, "self_blend": 1.0}, "self_blend = 1 must be above 0 and below 1"),
    ({"self_blend": 1.0}, "self_blend = 1 makes a fake of every real, so none is left in training"),
    ({"label_smoothing": 1.0}, r"label_smoothing = 1.0 is out of range; it must be from 0 to 0.99"),
    ({**BLEND, "pair_mix": 0.2, "pair_column": "x"}, "leaves no fakes that pair_mix could mix"),
])  # fmt: skip
def test_settings_that_leave_nothing_to_learn_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(**values)
    with pytest.raises(ConfigError, match="changes single images and cannot be used on clips|self_blend = 0"):
        FramesSettings(backbone="test_resnet", **{"reals_only": True, "self_blend": 0.5})  # type: ignore[arg-type]


# ---- all methods ----


@pytest.mark.parametrize("method", METHODS)
def test_every_method_resumes_and_is_reproducible(rows: Rows, tmp_path: Path, method: str) -> None:
    """A run that is stopped after its first epoch ends with the same bits as an uninterrupted one."""
    competition, base = rows
    settings = settings_of(**METHODS[method], epochs=2)
    stores = []
    for name in ("whole", "stopped"):
        store = PredictionStore(tmp_path / name / "oof")
        store.save_folds(base.folds)
        store.save_test_ids(base.test_ids)
        stores.append(store)
        if name == "stopped":
            with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
                stop_after_an_epoch(patch)
                train_models(competition, store, {"m": settings}, [0, 1], tmp_path / name / "work")
            assert list((tmp_path / name / "work").rglob("state.pt"))
        train_models(competition, store, {"m": settings}, [0, 1], tmp_path / name / "work")
    assert stored_bytes(stores[0], "m") == stored_bytes(stores[1], "m")
    weights = load_file(tmp_path / "whole" / "work" / "m" / "fold0" / "weights.safetensors")
    assert not any("parametrizations" in name for name in weights)
    history = json.loads((tmp_path / "whole" / "work" / "m" / "fold0" / "history.json").read_text())
    assert history["parameters"] == parameter_count(create_model(settings, 32))


def stop_after_an_epoch(patch: pytest.MonkeyPatch) -> None:
    """Interrupt the next training at the end of its first epoch, after it was saved."""
    from trainers.kinds.training.fold_trainer import FoldTrainer

    end = FoldTrainer._end_epoch

    def end_and_stop(self: FoldTrainer, request: Any) -> None:
        end(self, request)
        raise KeyboardInterrupt

    patch.setattr(FoldTrainer, "_end_epoch", end_and_stop)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_random_labels_keep_a_score_of_one_half(tmp_path: Path, method: str) -> None:
    """The mean OOF AUC over three draws of labels is 0.5 within its 95 % interval."""
    competition, store = tiny_competition(tmp_path, train_rows=96, k=3)
    scores, errors = [], []
    for draw in range(3):
        noise = np.random.default_rng(draw).permutation(store.folds.target)
        shuffled = PredictionStore(tmp_path / str(draw) / "oof")
        table = competition.train.set_index("id").loc[list(store.folds.ids)].assign(target=noise).reset_index()
        # otherwise similar faces that happen to share a label are in two folds
        groups = table["column:person"].to_numpy(object)
        shuffled.save_folds(make_folds(store.folds.ids, noise, k=3, seed=0, groups=groups))
        shuffled.save_test_ids(store.test_ids)
        settings = settings_of(**{**METHODS[method], "epochs": 3})
        work = tmp_path / str(draw) / "work"
        train_models(dataclasses.replace(competition, train=table), shuffled, {"m": settings}, [0, 1, 2], work)
        interval = score_interval("auc", noise, shuffled.load("m").oof)
        scores.append(interval.score)
        errors.append(interval.standard_error)
    reach = 1.96 * np.sqrt(np.mean(np.square(errors)) / len(errors))
    assert abs(np.mean(scores) - 0.5) < reach


def test_a_record_without_a_newer_setting_has_its_default(rows: Rows, tmp_path: Path) -> None:
    competition, base = rows
    store = PredictionStore(tmp_path / "oof")
    store.save_folds(base.folds)
    store.save_test_ids(base.test_ids)
    train_models(competition, store, {"m": settings_of(epochs=1)}, [0, 1], tmp_path / "work")
    for path in [tmp_path / "work" / "m" / "settings.json", *(tmp_path / "work" / "m").glob("fold*/history.json")]:
        record = json.loads(path.read_text())
        for name in ("degrade", "reals_only", "feature_norm", "alignment", "uniformity", "residual_rank"):
            del record["settings"][name]
        path.write_text(json.dumps(record))
    again = train_models(competition, store, {"m": settings_of(epochs=1)}, [0, 1], tmp_path / "work")
    assert all(result.skipped for result in again)
    with pytest.raises(TrainingError, match=r"changed: degrade \{.*'probability': 0.0.* to \{.*'probability': 0.5"):
        train_models(
            competition,
            store,
            {"m": settings_of(epochs=1, degrade=DegradeSettings(probability=0.5))},
            [0],
            tmp_path / "work",
        )
