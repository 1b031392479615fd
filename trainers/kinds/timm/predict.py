"""Predict with test-time augmentation; each image is decoded once for all views and fold models."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from oof.errors import TrainingError
from trainers.kinds.base import Probabilities
from trainers.kinds.timm.settings import TimmSettings
from trainers.media.arrays import Images
from trainers.media.image_store import Subset
from trainers.media.loader import Loader, batch_plan
from trainers.networks.backbone import create_model
from trainers.networks.normalise import Normalise
from trainers.networks.tta import predict
from trainers.networks.weights import load_fold_weights
from trainers.runtime.device import amp_type, default_device, is_out_of_memory, set_up

ImagesOf = Callable[[pd.DataFrame], Subset]
# The output of a layer for 8 images of 224 px is still in the CPU caches when the next layer reads it: measured
# 1.1 to 1.3 times as fast as 32 at once (resnet18, efficientnet_b0, convnext_tiny, vit_small).
_PIXELS_AT_ONCE_CPU = 8 * 224 * 224


class Predictor:
    """Networks of one backbone with their weights, ready to predict.

    Args:
        settings: settings of the model.
        models: one or more networks on the device, for instance of all folds.
        device: device of the networks.
    """

    def __init__(self, settings: TimmSettings, models: Sequence[nn.Module], device: torch.device) -> None:
        set_up(device)
        self.settings = settings
        self._models = list(models)
        self._device = device
        self._amp = amp_type(device, settings.precision)
        self._normalise = Normalise(models[0], device)
        self._micro_batch = max(1, -(-settings.step_rows // settings.accumulate))
        if device.type == "cpu":
            self._micro_batch = min(self._micro_batch, max(1, _PIXELS_AT_ONCE_CPU // settings.image_size**2))

    @classmethod
    def load(cls, settings: TimmSettings, weights: Sequence[Path], device: torch.device | None = None) -> Self:
        """Load one network for each file of weights."""
        device = device or default_device()
        scratch = replace(settings, pretrained=False)
        models = []
        for path in weights:
            model = create_model(scratch, settings.image_size)
            load_fold_weights(model, path)
            models.append(model.to(device=device, memory_format=torch.channels_last))  # type: ignore[call-overload]
        return cls(settings, models, device)

    @property
    def count(self) -> int:
        """Return the number of networks."""
        return len(self._models)

    def subset(self, subset: Subset, threads: int, *, tta: bool = True) -> Iterator[Probabilities]:
        """Yield the probabilities of images by each network, batch after batch, shape (n_models, n_batch) each.

        Args:
            subset: the images, which are prefetched.
            threads: number of decoding threads.
            tta: whether to use test-time augmentation.
        """
        loader = Loader(threads, pin=self._device.type == "cuda")
        try:
            plan = batch_plan(len(subset.positions), self.settings.step_rows)
            # fetched after the next batch has been launched, so that the device never waits
            working: Tensor | None = None
            for images in loader.rows(plan, subset, self._device):
                with self._evaluating():
                    found = self._batch(images, tta)
                if working is not None:
                    yield working.cpu().numpy()
                working = found
            if working is not None:
                yield working.cpu().numpy()
        finally:
            loader.close()

    def images(self, images: Images, *, tta: bool = True) -> Probabilities:
        """Return the probabilities of images (n_images, size, size, 3) by each model, shape (n_models, n_images)."""
        with self._evaluating():
            found = [
                self._batch(torch.from_numpy(np.ascontiguousarray(images[rows])), tta)
                for rows in batch_plan(len(images), self.settings.step_rows)
            ]
        return _joined(found, len(self._models))

    def _evaluating(self) -> torch.inference_mode:
        for model in self._models:
            model.eval()
        return torch.inference_mode()

    def _batch(self, images: Tensor, tta: bool) -> Tensor:
        """Return the probabilities of one batch, (n_models, batch), on the device; in parts if memory requires it."""
        while True:
            try:
                return torch.cat([self._part(part, tta) for part in torch.split(images, self._micro_batch)], 1)
            except Exception as err:
                if not is_out_of_memory(err):
                    raise
                if self._micro_batch == 1:
                    raise TrainingError(
                        f"One image of {self.settings.image_size} px does not fit into the memory of {self._device} "
                        f"with {len(self._models)} models of {self.settings.backbone!r}. Predict fewer folds at once "
                        f"(--fold), or set a smaller image_size."
                    ) from err
            self._micro_batch = -(-self._micro_batch // 2)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _part(self, images: Tensor, tta: bool) -> Tensor:
        settings = self.settings
        with torch.autocast(self._device.type, dtype=self._amp, enabled=self._amp is not None):
            batch = self._normalise(images)
            views = settings.tta if tta else "none"
            return torch.stack(
                [predict(model, batch, views, settings.tta_merge, settings.image_size) for model in self._models]
            )


def _joined(found: list[Tensor], models: int) -> Probabilities:
    if not found:
        return np.zeros((models, 0))
    joined: Probabilities = torch.cat(found, 1).cpu().numpy()
    return joined


class TimmFoldModels:
    """Fold models as the jobs use them.

    Args:
        predictor: predictor with their networks.
        images_of: returns the images of a table of rows.
        threads: number of decoding threads.
        tta: whether to use test-time augmentation.
    """

    def __init__(self, predictor: Predictor, images_of: ImagesOf, threads: int, *, tta: bool) -> None:
        self._predictor, self._images_of, self._threads, self._tta = predictor, images_of, threads, tta
        self.count = predictor.count
        self.batch_rows = predictor.settings.step_rows

    def predict(self, rows: pd.DataFrame) -> Iterator[Probabilities]:
        return self._predictor.subset(self._images_of(rows), self._threads, tta=self._tta)
