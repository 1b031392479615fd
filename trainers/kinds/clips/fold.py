"""The clips of one fold for the training loop."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from trainers.kinds.base import FoldModels, Probabilities
from trainers.kinds.clips.moments import AnyClipSettings, MomentReader, Moments, batches
from trainers.kinds.clips.network import ToDevice, make_clip_network
from trainers.kinds.clips.predict import ClipModels, RecordOf
from trainers.kinds.training.fold_data import FoldData, Rows
from trainers.kinds.training.train_state import Batch, MakeInputs
from trainers.kinds.training_rows import TrainingRows
from trainers.networks.clip_network import ClipNetwork
from trainers.networks.optim import set_trainable


class ClipFoldData(FoldData):
    """Clips of one fold.

    Args:
        settings: settings of the model.
        train: rows to train on. held_out: table of the held-out rows.
        record_of: returns the record of a path.
        seed: seed of everything random. device: device of the network. root: base of relative paths of weights.
        threads: number of decoding threads.

    moments: probabilities and weights of the moments of the held-out rows in the last prediction with TTA.
    """

    def __init__(
        self,
        settings: AnyClipSettings,
        train: TrainingRows,
        held_out: pd.DataFrame,
        record_of: RecordOf,
        *,
        seed: int,
        device: torch.device,
        root: Path,
        threads: int,
    ) -> None:
        self.settings, self.held_out, self.weight = settings, held_out, train.weight
        self.ids, self.target = train.table["id"].to_numpy(object), train.target
        self.batch_text = f"clips of {settings.moments} moments"
        self.moments: list[tuple[Probabilities, Probabilities]] = []
        self._paths: list[str] = train.table["path"].tolist()
        self._record_of, self._device, self._root, self._threads = record_of, device, root, threads
        self._reader = MomentReader(settings, seed)

    def make_network(self) -> nn.Module:
        network = make_clip_network(self.settings, self._root)
        set_trainable(network, self.settings)
        return network

    def make_inputs(self, network: nn.Module) -> MakeInputs:
        assert isinstance(network, ClipNetwork)
        to_device = ToDevice(network, self._device)

        def inputs(batch: Batch, weights: Tensor, rng: np.random.Generator) -> tuple[Batch, Tensor]:
            frames, seen, sound, heard = batch
            return to_device((frames, seen, sound, heard)), weights

        return inputs

    def batches(self, epoch: int, plan: Sequence[Rows]) -> Iterator[Batch]:
        def read(row: int) -> Moments:
            return self._reader.drawn(self._record_of(self._paths[row]), str(self.ids[row]), epoch)

        yield from batches(plan, read, self._threads)

    def fold_models(self, network: nn.Module, *, tta: bool) -> FoldModels:
        assert isinstance(network, ClipNetwork)
        rule = "mean" if self.settings.pooling in ("auto", "attention") else self.settings.pooling
        if tta:
            self.moments = []
        return ClipModels(
            self.settings,
            [network],
            [rule],
            self._record_of,
            self._device,
            self._threads,
            tta=tta,
            keep=self._keep if tta else None,
        )

    def held_out_moments(self) -> tuple[Probabilities, Probabilities]:
        """Return probabilities and weights of the moments in the last prediction with TTA, (n_held_out, moments)."""
        if not self.moments:
            return np.zeros((0, 0)), np.zeros((0, 0))
        probabilities, weight = zip(*self.moments, strict=True)
        return np.concatenate(probabilities), np.concatenate(weight)

    def _keep(self, probabilities: Probabilities, weight: Probabilities) -> None:
        self.moments.append((probabilities, weight))
