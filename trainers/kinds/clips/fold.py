"""The clips of one fold for the training loop."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from trainers.kinds.base import FoldModels
from trainers.kinds.clips.moments import AnyClipSettings, MomentReader, Moments, batches
from trainers.kinds.clips.network import ToDevice
from trainers.kinds.clips.predict import ClipModels, Kept, RecordOf
from trainers.kinds.clips.settings import AvSettings
from trainers.kinds.clips.slip import has_both
from trainers.kinds.training.fold_data import FoldData
from trainers.kinds.training.train_state import Batch, MakeInputs
from trainers.kinds.training_rows import TrainingRows
from trainers.media.arrays import Rows
from trainers.networks.clip_network import ClipNetwork
from trainers.networks.optim import set_trainable


class ClipFoldData(FoldData):
    """Clips of one fold.

    Args:
        settings: settings of the model.
        train: rows to train on. held_out: table of the held-out rows.
        record_of: returns the record of a path.
        seed: seed of everything random. device: device of the network. make_network: returns it as training starts.
        threads: number of decoding threads.

    moments: of the held-out rows in the last prediction with TTA.
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
        make_network: Callable[[], ClipNetwork],
        threads: int,
    ) -> None:
        self.settings, self.held_out, self.weight = settings, held_out, train.weight
        self.ids, self.target = train.table["id"].to_numpy(object), train.target
        self.batch_text = f"clips of {settings.moments} moments"
        self.moments = Kept()
        self._paths: list[str] = train.table["path"].tolist()
        self._record_of, self._device, self._threads = record_of, device, threads
        self._make_network = make_network
        self._reader = MomentReader(settings, seed)
        self._slip_share = settings.sound_slip if isinstance(settings, AvSettings) else 0.0

    def make_network(self) -> nn.Module:
        network = self._make_network()
        set_trainable(network, self.settings)
        return network

    def make_inputs(self, network: nn.Module) -> MakeInputs:
        assert isinstance(network, ClipNetwork)
        to_device = ToDevice(network, self._device)

        def inputs(batch: Batch, weights: Tensor, rng: np.random.Generator) -> tuple[Batch, Tensor]:
            frames, frame_mask, sound, sound_mask, shifted = batch
            return to_device((frames, frame_mask, sound, sound_mask, shifted)), weights

        return inputs

    def batches(self, epoch: int, plan: Sequence[Rows]) -> Iterator[Batch]:
        def read(row: int) -> Moments:
            is_real = self.target[row] == 0
            return self._reader.drawn(self._record_of(self._paths[row]), str(self.ids[row]), epoch, is_real=is_real)

        yield from batches(plan, read, self._threads)

    def targets(self, epoch: int, rows: Rows) -> Tensor:
        target = self.target[rows].astype(np.float32)
        if self._slip_share:
            for at, row in enumerate(rows.tolist()):
                record = self._record_of(self._paths[row])
                if not target[at] and self._reader.is_slipped(record, str(self.ids[row]), epoch):
                    target[at] = 1
        return torch.from_numpy(target)

    def positive_share(self) -> float:
        expected = self.target.astype(np.float64)
        if self._slip_share:
            for row in np.flatnonzero(expected == 0).tolist():
                expected[row] = self._slip_share * has_both(self._record_of(self._paths[row]))
        return self.weighted_mean(expected)

    def fold_models(self, network: nn.Module, *, tta: bool) -> FoldModels:
        assert isinstance(network, ClipNetwork)
        rule = "mean" if self.settings.pooling in ("auto", "attention") else self.settings.pooling
        if tta:
            self.moments.clear()
        return ClipModels(
            self.settings,
            [network],
            [rule],
            self._record_of,
            self._device,
            self._threads,
            tta=tta,
            keep=self.moments.add if tta else None,
        )
