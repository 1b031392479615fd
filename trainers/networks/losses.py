"""Losses over the logits of one step.

Each row has two weights, shape (batch, 2): one as a real and one as a fake. A plain fake of
weight 1 has (0, 1), an equal mixture of a real and a fake (0.5, 0.5); class balance and row weights
multiply them. Therefore no loss needs special rules for mixing, soft labels or weights.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from trainers.networks.settings import Loss

LossFunction = Callable[[Tensor, Tensor], Tensor]
_GAMMA = 2.0
_HEAT = 2.0  # of the uniformity loss


def class_weights(target: Tensor, weight: Tensor | None, positive_weight: float) -> Tensor:
    """Return the weights of each row as a real and as a fake, shape (batch, 2).

    Args:
        target: (batch,), 0 to 1: share of the fake in the row.
        weight: (batch,) weights of the rows; None: equal weights.
        positive_weight: weight of a fake relative to a real.
    """
    shares = torch.stack([1 - target, target * positive_weight], dim=1)
    return shares if weight is None else shares * weight[:, None]


def loss_by_name(name: Loss, label_smoothing: float) -> LossFunction:
    """Return the function (logits (batch,), weights (batch, 2)) -> loss, a single number.

    bce: cross-entropy. focal: cross-entropy of each row times (1 - probability of its label)^2, so that easy rows have
    less weight (Lin et al., Focal Loss for Dense Object Detection, ICCV 2017). auc: logistic loss over all pairs of a
    real and a fake, a smooth bound of 1 - AUC (Yan et al., ICML 2003; 0 if a step has only one class). classes: mean
    over the fakes plus mean over the reals, so that neither their balance in a step nor class_weight has any effect.
    """
    smoothed = (label_smoothing / 2, 1 - label_smoothing + label_smoothing / 2)  # targets of a real and of a fake

    def cross_entropies(logits: Tensor) -> Tensor:
        """Return the cross-entropy of each row as a real and as a fake, (batch, 2)."""
        return torch.stack(
            [
                binary_cross_entropy_with_logits(logits, torch.full_like(logits, target), reduction="none")
                for target in smoothed
            ],
            dim=1,
        )

    def bce(logits: Tensor, weights: Tensor) -> Tensor:
        return (cross_entropies(logits) * weights).sum(1).mean()

    def focal(logits: Tensor, weights: Tensor) -> Tensor:
        probability = logits.sigmoid()
        missed = torch.stack([(probability - target).abs() ** _GAMMA for target in smoothed], dim=1)
        return (missed * cross_entropies(logits) * weights).sum(1).mean()

    def auc(logits: Tensor, weights: Tensor) -> Tensor:
        margin = logits[:, None] - logits[None, :]  # (fake, real)
        pair = weights[:, 1, None] * weights[None, :, 0]
        return (-logsigmoid(margin) * pair).sum() / pair.sum().clamp(min=1e-6)

    def classes(logits: Tensor, weights: Tensor) -> Tensor:
        total = weights.sum(0)
        mean = (cross_entropies(logits) * weights).sum(0) / total.clamp(min=1e-6)
        return torch.where(total > 0, mean, 0.0).sum()

    found: dict[Loss, LossFunction] = {"bce": bce, "focal": focal, "auc": auc, "classes": classes}
    return found[name]


def alignment_loss(features: Tensor, weights: Tensor) -> Tensor:
    """Return the mean squared distance of features over all pairs of one class, a single number.

    Wang and Isola, Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere, ICML 2020, with pairs of one label as in GenD (arXiv 2508.06248). 0 if no class has a pair.

    Args:
        features: (batch, n_features) of unit length.
        weights: (batch, 2), weights of each row as a real and as a fake; the weight of a pair is the product.
    """
    return _mean_over_pairs(_squared_distances(features), weights @ weights.T)


def uniformity_loss(features: Tensor, weights: Tensor) -> Tensor:
    """Return the logarithm of the mean of exp(-2 squared distance) over all pairs, lowest if rows are uniform.

    Sources and arguments as in `alignment_loss`; 0 if there is no pair.
    """
    mass = weights.sum(1, keepdim=True)
    mean = _mean_over_pairs((-_HEAT * _squared_distances(features)).exp(), mass @ mass.T)
    return torch.where(mean > 0, mean, 1.0).log()


def _squared_distances(features: Tensor) -> Tensor:
    """Return the squared distances of vectors of unit length, (batch, batch)."""
    return 2 - 2 * features @ features.T


def _mean_over_pairs(values: Tensor, pairs: Tensor) -> Tensor:
    """Return the weighted mean of values (batch, batch) over pairs of two rows; 0 without pairs."""
    pairs = pairs - pairs.diagonal().diag()
    return (values * pairs).sum() / pairs.sum().clamp(min=1e-6)
