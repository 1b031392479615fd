"""Predict clips: views in time and image, pooled over moments."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from oof.errors import TrainingError
from trainers.kinds.base import Probabilities
from trainers.kinds.clips.moments import AnyClipSettings, ClipBatch, MomentReader, Moments, batches
from trainers.kinds.clips.network import ToDevice
from trainers.kinds.clips.pooling import RULES
from trainers.media.clip_record import ClipRecord
from trainers.media.loader import batch_plan
from trainers.networks.clip_network import ClipNetwork
from trainers.networks.tta import merge_views
from trainers.runtime.device import amp_type, is_out_of_memory, set_up

RecordOf = Callable[[str], ClipRecord | None]


class Kept:
    """Probabilities and weights of the moments of all rows that were predicted, batch by batch."""

    def __init__(self) -> None:
        self._parts: list[tuple[Probabilities, Probabilities]] = []

    def add(self, probabilities: Probabilities, weight: Probabilities) -> None:
        """Add a batch, (n_batch, moments) each."""
        self._parts.append((probabilities, weight))

    def clear(self) -> None:
        """Discard all batches."""
        self._parts.clear()

    def joined(self) -> tuple[Probabilities, Probabilities]:
        """Return probabilities and weights of all rows, (n_rows, moments) each; (0, 0) if there are none."""
        if not self._parts:
            return np.zeros((0, 0)), np.zeros((0, 0))
        probabilities, weight = zip(*self._parts, strict=True)
        return np.concatenate(probabilities), np.concatenate(weight)


class ClipModels:
    """Fold models on clips.

    Args:
        settings: settings of the model.
        networks: networks on the device.
        rules: pooling rule of each network; ignored by networks that pool logits themselves.
        record_of: returns the record of a path.
        device: device of the networks. threads: number of decoding threads.
        tta: whether to use all views, or one.
        keep: called with the probabilities and weights of the moments of each batch by the first network; the
            moments are in the order of `moment_places`.
    """

    def __init__(
        self,
        settings: AnyClipSettings,
        networks: Sequence[ClipNetwork],
        rules: Sequence[str],
        record_of: RecordOf,
        device: torch.device,
        threads: int,
        *,
        tta: bool,
        keep: Callable[[Probabilities, Probabilities], None] | None = None,
    ) -> None:
        set_up(device)
        self._settings, self._networks, self._rules = settings, list(networks), list(rules)
        self._record_of, self._device, self._threads, self._keep = record_of, device, threads, keep
        self._time_views = settings.time_views if tta else 1
        self._picture_views = settings.views // settings.time_views if tta else 1
        self._reader = MomentReader(settings)
        self._to_device = ToDevice(networks[0], device)
        self._amp = amp_type(device, settings.precision)
        self._micro_batch = max(1, settings.step_rows // settings.accumulate)
        self.count = len(networks)
        self.batch_rows = settings.step_rows

    def predict(self, rows: pd.DataFrame) -> Iterator[Probabilities]:
        paths, views = rows["path"].tolist(), self._time_views
        # each batch of clips is read once per view in time; a job encodes the index of a clip and of its view
        plan = [
            part * views + view for part in batch_plan(len(paths), self._settings.step_rows) for view in range(views)
        ]

        def read(job: int) -> Moments:
            row, view = divmod(job, views)
            return self._reader.view(self._record_of(paths[row]), view, views)

        found: list[tuple[Tensor, Tensor]] = []
        for batch in batches(plan, read, self._threads):
            with self._evaluating():
                found += self._views(batch)
            if len(found) == views * self._picture_views:
                yield self._pooled(found)
                found = []

    def _evaluating(self) -> torch.inference_mode:
        for network in self._networks:
            network.eval()
        return torch.inference_mode()

    def _views(self, batch: ClipBatch) -> list[tuple[Tensor, Tensor]]:
        """Return logits and weights of the moments in each image view, (n_models, batch, moments) on the CPU."""
        views = [batch]
        if self._picture_views == 2:
            frames, *others = batch
            views.append((frames.flip(3), others[0], others[1], others[2], others[3]))
        return [self._logits(view) for view in views]

    def _logits(self, batch: ClipBatch) -> tuple[Tensor, Tensor]:
        """Return the same for one view, in smaller parts if memory requires it."""
        while True:
            try:
                parts = [
                    self._part(part) for part in zip(*(torch.split(v, self._micro_batch) for v in batch), strict=True)
                ]
                return torch.cat([part[0] for part in parts], 1), torch.cat([part[1] for part in parts], 1)
            except Exception as err:
                if not is_out_of_memory(err):
                    raise
                if self._micro_batch == 1:
                    raise TrainingError(
                        f"One clip of {self._settings.moments} moments does not fit into the memory of {self._device} "
                        f"with {self.count} fold models. Predict fewer folds at once (--fold), or set a smaller "
                        f"image_size or moments."
                    ) from err
            self._micro_batch = -(-self._micro_batch // 2)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _part(self, batch: ClipBatch) -> tuple[Tensor, Tensor]:
        inputs = self._to_device(batch)
        with torch.autocast(self._device.type, dtype=self._amp, enabled=self._amp is not None):
            found = [network.moments(*inputs[:4]) for network in self._networks]
        return torch.stack([a for a, _ in found]).double().cpu(), torch.stack([b for _, b in found]).double().cpu()

    def _pooled(self, views: list[tuple[Tensor, Tensor]]) -> Probabilities:
        """Return the probability of each clip, (n_models, batch), from the logits of all its moments in all views."""
        settings = self._settings
        # the rules use all moments of a clip, from all views together
        probabilities = torch.cat([logits.sigmoid() for logits, _ in views], 2).numpy()
        weight = torch.cat([part for _, part in views], 2).numpy()
        if self._keep is not None:
            self._keep(probabilities[0], weight[0])
        # moments were processed together: mean logits
        if settings.temporal != "none" or settings.pooling == "attention":
            clips = torch.stack([(logits * weight).sum(2) / weight.sum(2) for logits, weight in views])
            merged = [merge_views(clips[:, model], settings.tta_merge) for model in range(self.count)]
            found: Probabilities = torch.stack(merged).numpy()
            return found
        return np.stack([RULES[rule](p, w) for rule, p, w in zip(self._rules, probabilities, weight, strict=True)])
