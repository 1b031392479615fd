"""Test-time augmentation: views are distinct, and merging follows its definition (unlike ttach's)."""

import numpy as np
import pytest
import torch
from scipy.stats import gmean

from oof.errors import TrainingError
from trainers.networks.settings import Tta
from trainers.networks.tta import merge_views, predict, views


@pytest.mark.parametrize(("tta", "count"), [("none", 1), ("hflip", 2), ("flips", 4), ("d4", 8), ("ten_crop", 10)])
def test_each_view_occurs_once(tta: Tta, count: int) -> None:
    image = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    found = [view(image) for view in views(tta, 8)]
    assert [tuple(view.shape) for view in found] == [(1, 3, 8, 8)] * count
    assert len({view.contiguous().numpy().tobytes() for view in found}) == count


@pytest.mark.parametrize(("tta", "change"), [
    ("hflip", lambda x: x.flip(3)),
    ("flips", lambda x: x.flip(2)),
    ("d4", lambda x: x.rot90(1, (2, 3)).flip(3)),
])  # fmt: skip
def test_predictions_are_invariant_under_the_transformations_of_the_views(tta: Tta, change: object) -> None:
    assert callable(change)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 1))
    image = torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(
        predict(model, image, tta, "mean", 8), predict(model, change(image), tta, "mean", 8), rtol=1e-5, atol=1e-6
    )


def test_merging_follows_its_definition() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    p = 1 / (1 + np.exp(-logits.double().numpy()))
    np.testing.assert_allclose(merge_views(logits, "mean"), p.mean(0))
    np.testing.assert_allclose(merge_views(logits, "max"), p.max(0))
    positive, negative = gmean(p, axis=0), gmean(1 - p, axis=0)
    np.testing.assert_allclose(merge_views(logits, "gmean"), positive / (positive + negative))


def test_extreme_logits_give_no_nan() -> None:
    logits = torch.tensor([[-800.0, 800.0], [-900.0, 700.0]])
    for merge in ("mean", "gmean", "max"):
        assert torch.isfinite(merge_views(logits, merge)).all()


def test_ten_crop_needs_larger_images() -> None:
    with pytest.raises(TrainingError, match="Set crop above image_size"):
        predict(torch.nn.Flatten(), torch.zeros(1, 3, 8, 8), "ten_crop", "mean", 8)
