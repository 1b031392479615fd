"""The interface between a kind of network and the training loop of a fold: batches, targets and network."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainers.kinds.base import FoldModels
from trainers.kinds.training.train_state import Batch, MakeInputs
from trainers.media.arrays import Rows


class FoldData(ABC):
    """The rows of one fold for `trainers.kinds.training.fold_trainer.FoldTrainer`.

    Everything random is drawn from (seed, epoch, id), independent of earlier draws, so that a
    resumed training gets the same batches.

    ids: (n_rows,) ids of the training rows. target: (n_rows,) 0 or 1, between for pseudo-labels.
    weight: (n_rows,) float32 row weights with mean 1; None for equal weights.
    held_out: table of the held-out rows; empty for a refit.
    batch_text: description of the rows for messages, such as "images of 224 px".
    repeats: whether the network runs the same operations in each step, so that a CUDA graph may repeat them.
    """

    ids: NDArray[np.object_]
    target: NDArray[np.int8] | NDArray[np.float32]
    weight: NDArray[np.float32] | None = None
    held_out: pd.DataFrame
    batch_text: str = "rows"
    repeats: bool = False

    @abstractmethod
    def make_network(self) -> nn.Module:
        """Return the network at the start of training, on the CPU; torch's generator is seeded just before."""

    @abstractmethod
    def make_inputs(self, network: nn.Module) -> MakeInputs:
        """Return the function that turns a part of a batch into inputs of the network: normalised, mixed."""

    @abstractmethod
    def batches(self, epoch: int, plan: Sequence[Rows]) -> Iterator[Batch]:
        """Yield the augmented batch of each step of an epoch, prefetched; on the CPU or on the device."""

    def close(self) -> None:  # noqa: B027  # most have nothing to release
        """Release what prepares the batches; called after the last epoch."""

    def targets(self, epoch: int, rows: Rows) -> Tensor:
        """Return the targets of a step, (n,) float32 from 0 to 1."""
        return torch.from_numpy(self.target[rows].astype(np.float32))

    def positive_share(self) -> float:
        """Return the share of fakes in training, from which `class_weight = "balanced"` computes its weights.

        It is weighted by row weights, and targets that vary between epochs are averaged.
        """
        return self.weighted_mean(self.target.astype(np.float64))

    def weighted_mean(self, targets: NDArray[np.float64]) -> float:
        """Return the mean of one target per training row, by the weights of the rows; 0.5 without rows."""
        return float(np.average(targets, weights=self.weight)) if len(targets) else 0.5

    @abstractmethod
    def fold_models(self, network: nn.Module, *, tta: bool) -> FoldModels:
        """Return the network in its current state, ready to predict."""
