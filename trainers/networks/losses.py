"""Losses over the logits of one step.

A row counts for two numbers, shape (batch, 2): its weight as a real and its weight as a fake. A plain fake of
weight 1 has (0, 1); a mixture of a real and a fake by halves (0.5, 0.5); class balance and the weights of rows
multiply them. So mixing, soft labels and weights need no rules of their own in any loss.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from trainers.networks.settings import Loss

LossFunction = Callable[[Tensor, Tensor], Tensor]
_GAMMA = 2.0


def class_weights(target: Tensor, weight: Tensor | None, positive_weight: float) -> Tensor:
    """Return what each row counts for as a real and as a fake, shape (batch, 2).

    Args:
        target: (batch,), 0 to 1: share of the fake in the row.
        weight: (batch,) what the row counts for; None: all alike.
        positive_weight: what a fake counts for, relative to a real.
    """
    shares = torch.stack([1 - target, target * positive_weight], dim=1)
    return shares if weight is None else shares * weight[:, None]


def loss_by_name(name: Loss, label_smoothing: float) -> LossFunction:
    """Return the function (logits (batch,), weights (batch, 2)) -> loss, a single number.

    bce: cross-entropy. focal: cross-entropy of each row times (1 - probability of its label)^2, so that
    easy rows count less (Lin et al., Focal Loss for Dense Object Detection, ICCV 2017). auc: logistic
    loss over all pairs of a real and a fake, a smooth bound of 1 - AUC (Yan et al., ICML 2003; 0 where
    a step holds one class). classes: mean over the fakes plus mean over the reals, so that their
    balance in a step has no say, nor has class_weight.
    """
    smoothed = (label_smoothing / 2, 1 - label_smoothing + label_smoothing / 2)  # targets of a real and of a fake

    def cross_entropies(logits: Tensor) -> Tensor:
        """Cross-entropy of each row taken as a real and as a fake, (batch, 2)."""
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
