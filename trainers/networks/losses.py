"""Losses over the logits of one step."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from trainers.networks.settings import Loss

_GAMMA = 2.0


def loss_by_name(name: Loss, label_smoothing: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The function (logits, target, weight) -> loss, a single number.

    logits, target, weight: (batch,); targets may lie between 0 and 1 (mixed images); weight counts a row
    that many times, relative to a mean of 1.

    bce: cross-entropy. focal: cross-entropy of each row times (1 - probability of its label)^2, so that
    easy rows count less (Lin et al., Focal Loss for Dense Object Detection, ICCV 2017). auc: logistic
    loss over all pairs of a fake and a real, a smooth bound of 1 - AUC (Yan et al., ICML 2003; 0 where
    a step holds one class). classes: mean over the fakes plus mean over the reals, so that their
    balance in a step has no say.
    """

    def smooth(target: Tensor) -> Tensor:
        return target * (1 - label_smoothing) + label_smoothing / 2

    def rows(logits: Tensor, target: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(logits, smooth(target), reduction="none")

    def bce(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        return (rows(logits, target) * weight).mean()

    def focal(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        probability = logits.sigmoid()
        missed = (probability - smooth(target)).abs() ** _GAMMA
        return (missed * rows(logits, target) * weight).mean()

    def auc(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        margin = logits[:, None] - logits[None, :]  # (fake, real)
        pair = ((target[:, None] > 0.5) & (target[None, :] < 0.5)) * weight[:, None] * weight[None, :]
        return (-logsigmoid(margin) * pair).sum() / pair.sum().clamp(min=1e-6)

    def classes(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        row_loss = rows(logits, target) * weight
        return sum_by_share(row_loss, target) + sum_by_share(row_loss, 1 - target)

    found: dict[Loss, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
        "bce": bce, "focal": focal, "auc": auc, "classes": classes,
    }  # fmt: skip
    return found[name]


def sum_by_share(values: Tensor, share: Tensor) -> Tensor:
    """Mean of values weighted by share; 0 where the shares sum to 0."""
    total = share.sum()
    return torch.where(total > 0, (values * share).sum() / total.clamp(min=1e-6), 0.0)
