"""Losses, class balance and weights of rows, also in mixtures and after self-blending."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from tests.support.devices import picture_rows, settings
from trainers.augment.mixing import mix
from trainers.augment.pseudo_fakes import PseudoFakes, pair_partners
from trainers.kinds.timm.fold import ImageFoldData
from trainers.kinds.timm.settings import TimmSettings
from trainers.kinds.training.fold_trainer import FoldTrainer
from trainers.networks.losses import class_weights, loss_by_name
from trainers.networks.settings import Loss

TARGET = np.r_[np.zeros(60), np.ones(20)].astype(np.int8)
IDS = np.array([f"r{row}" for row in range(80)], object)
ORIGINALS = np.array([""] * 60 + [f"r{row}" for row in range(20)], object)


def pull(loss: Loss, target: Tensor, weights: Tensor) -> tuple[float, float]:
    """Return the gradients of the logits toward fake and toward real, at logit 0."""
    logits = torch.zeros(len(target), requires_grad=True)
    loss_by_name(loss, 0.0)(logits, weights).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    return float(-logits.grad.clamp(max=0).sum()), float(logits.grad.clamp(min=0).sum())


def share_of_fakes(loss: Loss, fakes: PseudoFakes, weight: NDArray[np.float32] | None = None) -> float:
    """Share of the loss that fakes have over 60 epochs with both classes balanced, each row by its label at logit 0."""
    expected = fakes.expected_labels()
    positives = float(np.average(expected, weights=weight))
    sums = np.zeros(2)
    for epoch in range(60):
        labels = torch.from_numpy(fakes.labels(epoch, np.arange(len(TARGET))))
        rows = None if weight is None else torch.from_numpy(weight)
        weights = class_weights(labels, rows, (1 - positives) / positives)
        sums += weights.sum(0).numpy()
    return float(sums[1] / sums.sum())


@pytest.mark.parametrize("settings", [{}, {"self_blend": 0.5}, {"pair_mix": 1.0}, {"self_blend": 0.3, "pair_mix": 0.5}])
def test_balanced_classes_have_equal_weight_also_with_modified_labels(settings: dict[str, float]) -> None:
    partner = pair_partners(IDS, TARGET, ORIGINALS)
    fakes = PseudoFakes(IDS, TARGET, 0, **settings, partner=partner)
    assert share_of_fakes("bce", fakes) == pytest.approx(0.5, abs=0.02)
    weight = np.random.default_rng(0).uniform(0, 2, len(TARGET)).astype(np.float32)
    assert share_of_fakes("bce", fakes, weight) == pytest.approx(0.5, abs=0.02)


def test_balance_counts_the_labels_that_a_fold_is_trained_on(tmp_path: Path) -> None:
    """Half of the rows are fakes, and half of the reals become fakes: three fakes weigh as much as one real."""
    chosen = settings(self_blend=0.5, class_weight="balanced")
    rows, none = picture_rows(tmp_path, 8), pd.DataFrame({"id": [], "target": []})
    data = ImageFoldData(chosen, rows, none, lambda table: rows, seed=0, device=torch.device("cpu"))
    state = FoldTrainer(chosen, 0, data, tmp_path / "state.pt", torch.device("cpu")).state
    assert state._positive_weight == pytest.approx(1 / 3)


def test_bce_of_balanced_classes_has_equal_gradients() -> None:
    target = torch.from_numpy(TARGET).float()
    toward_fake, toward_real = pull("bce", target, class_weights(target, None, 3.0))
    assert toward_fake == pytest.approx(toward_real)


def test_the_loss_of_classes_is_balanced_with_and_without_class_weights() -> None:
    target = torch.from_numpy(TARGET).float()
    for positive_weight in (1.0, 3.0):
        toward_fake, toward_real = pull("classes", target, class_weights(target, None, positive_weight))
        assert toward_fake == pytest.approx(toward_real)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_hard_and_soft_labels_have_the_cross_entropy_of_the_definition(smoothing: float) -> None:
    logits = torch.randn(6, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([0.0, 1.0, 0.3, 0.5, 1.0, 0.0])
    found = loss_by_name("bce", smoothing)(logits, class_weights(target, None, 1.0))
    smooth = target * (1 - smoothing) + smoothing / 2
    assert float(found) == pytest.approx(float(binary_cross_entropy_with_logits(logits, smooth)), rel=1e-6)


def test_auc_is_the_loss_over_pairs() -> None:
    logits, target = torch.tensor([0.3, -1.0, 2.0, 0.1]), torch.tensor([1.0, 0.0, 1.0, 0.0])
    weight = torch.tensor([1.0, 2.0, 0.5, 1.0])
    pairs = [(0, 1), (0, 3), (2, 1), (2, 3)]
    total = sum(float(weight[i] * weight[j]) for i, j in pairs)
    expected = sum(float(weight[i] * weight[j]) * np.log1p(np.exp(float(logits[j] - logits[i]))) for i, j in pairs)
    found = loss_by_name("auc", 0.0)(logits, class_weights(target, weight, 5.0))
    assert float(found) == pytest.approx(expected / total, rel=1e-5)


@pytest.mark.parametrize("settings", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_rows_of_weight_0_do_not_contribute_to_any_mixture(settings: dict[str, float]) -> None:
    chosen = TimmSettings(backbone="x", mix_share=1.0, **settings)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    weight = torch.tensor([0.0, 1, 1, 0, 1, 1, 1, 1])
    target = torch.tensor([0.0, 1, 0, 1, 0, 1, 0, 1])
    weights = class_weights(target, weight, 1.0)
    images = torch.arange(8.0)[:, None, None, None].expand(8, 3, 16, 16)
    for _ in range(200):
        mixed, counts = mix(images, weights, chosen, rng)
        assert mixed.shape == images.shape
        assert float(counts.sum()) == pytest.approx(float(weights.sum()), rel=1e-5)
        partner_weight = weight.roll(1)
        both_zero = (weight == 0) & (partner_weight == 0)
        assert (counts[both_zero] == 0).all()
        # the weight of a mixture is the sum of its shares of rows with weight
        share = (mixed.mean((1, 2, 3)) - images.roll(1, 0).mean((1, 2, 3))) / (images - images.roll(1, 0)).mean(
            (1, 2, 3)
        )
        torch.testing.assert_close(counts.sum(1), share * weight + (1 - share) * partner_weight, rtol=1e-3, atol=1e-3)
