"""The data of one fold of a timm model: augmented images with pseudo-fakes, and the network."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from oof.errors import TrainingError
from trainers.augment.mixing import mix
from trainers.augment.pipeline import AugmentParams, augment_batch, augment_image, sample_params, start_on_host
from trainers.augment.pseudo_fakes import PseudoFakes, pair_partners
from trainers.augment.random_streams import ImageRandom
from trainers.kinds.base import FoldModels
from trainers.kinds.timm.predict import ImagesOf, Predictor, TimmFoldModels
from trainers.kinds.timm.settings import TimmSettings
from trainers.kinds.training.fold_data import FoldData
from trainers.kinds.training.train_state import Batch, MakeInputs
from trainers.media.arrays import Image, Rows
from trainers.media.image_store import Subset
from trainers.media.loader import Loader, ahead
from trainers.media.process_loader import ProcessLoader, process_count
from trainers.networks.backbone import create_model
from trainers.networks.normalise import Normalise
from trainers.networks.optim import set_trainable
from trainers.runtime.device import is_out_of_memory
from trainers.runtime.device_thread import DeviceThread

_PIXELS_AT_ONCE = 1 << 24  # pixels augmented together on a device, as several arrays of 200 MB


class ImageFoldData(FoldData):
    """Images of one fold for the training loop.

    Args:
        settings: settings of the model.
        train: training rows.
        held_out: table of the held-out rows.
        images_of: returns the images of such a table.
        seed: seed of everything random.
        device: device of the network. root: base of relative paths of weights. threads: number of decoding threads.
    """

    repeats = True

    def __init__(
        self,
        settings: TimmSettings,
        train: Subset,
        held_out: pd.DataFrame,
        images_of: ImagesOf,
        *,
        seed: int,
        device: torch.device,
        root: Path = Path(),
        threads: int = 2,
    ) -> None:
        self.settings = settings
        self.train = train
        self.held_out = held_out
        self._images_of = images_of
        self.seed = seed
        self.device = device
        self.root = root
        self.threads = threads
        self.ids, self.target, self.weight = train.ids, train.target, train.weight
        self.batch_text = f"images of {settings.image_size} px"
        self._processes: ProcessLoader[AugmentParams] | None = None
        self._augmented_at_once = max(1, _PIXELS_AT_ONCE // train.images.size**2)
        partner = None if train.originals is None else pair_partners(train.ids, train.target, train.originals)
        self._pseudo_fakes = PseudoFakes(
            train.ids, train.target, seed, settings.self_blend, settings.pair_mix, settings.face_cutout, partner
        )

    def make_network(self) -> nn.Module:
        network = create_model(self.settings, self.settings.image_size, self.root)
        set_trainable(network, self.settings)
        return network

    def make_inputs(self, network: nn.Module) -> MakeInputs:
        normalise = Normalise(network, self.device)

        def normalised_and_mixed(batch: Batch, weights: Tensor, rng: np.random.Generator) -> tuple[Batch, Tensor]:
            assert isinstance(batch, Tensor)
            return mix(normalise(batch), weights, self.settings, rng)

        return normalised_and_mixed

    def batches(self, epoch: int, plan: Sequence[Rows]) -> Iterator[Batch]:
        """Yield the augmented images of each step, prefetched.

        On a CPU, threads decode and augment. On CUDA, processes decode and start the augmentation, a thread copies the
        images of the next steps to the device, and the device completes it, if anything is left. The thread that
        trains starts this itself: it takes less time than handing the interpreter lock to another thread for each
        operation.
        """
        if self.device.type == "cuda":
            yield from self._batches_on_device(epoch, plan)
            return
        loader, size = Loader(self.threads), self.settings.image_size
        try:
            yield from loader.batches(plan, (size, size, 3), lambda row: self._augmented_image(epoch, row))
        finally:
            loader.close()

    def _augmented_image(self, epoch: int, row: int) -> Image:
        image = self._pseudo_fakes.image(epoch, row, self._stored_image)
        return augment_image(image, self._params(epoch, row), self.settings.image_size)

    def _batches_on_device(self, epoch: int, plan: Sequence[Rows]) -> Iterator[Batch]:
        loader, copier = Loader(self.threads, pin=True), DeviceThread(self.device, "copy")
        try:
            decoded = self._decoded(epoch, plan, loader)

            def copied() -> tuple[Tensor, list[AugmentParams]]:
                batch, params = next(decoded)
                # memory that is not pinned is filled again as soon as this returns, so the copy is awaited
                images = batch.to(self.device, non_blocking=batch.is_pinned(), copy=True)
                return images, params

            for images, params in ahead(plan, lambda rows: copier.begin(copied), 2):
                yield self._augmented(images, params)
        finally:
            copier.close()
            loader.close()

    def _decoded(
        self, epoch: int, plan: Sequence[Rows], loader: Loader
    ) -> Iterator[tuple[Tensor, list[AugmentParams]]]:
        """Return for each step its images, and the parameters with which the device augments them."""
        edge, most = self.settings.image_size, max(map(len, plan), default=0)
        if self.settings.decode == "gpu":
            batches = loader.rows(plan, self.train, self.device)
            params = ([self._params(epoch, row) for row in rows.tolist()] for rows in plan)
            return zip(batches, params, strict=True)
        if self._processes is None:
            processes = process_count(self.threads, most * self.train.images.image_bytes)
            if processes:
                self._processes = ProcessLoader(self._fill, (most, edge, edge, 3), processes)
        if self._processes is not None:
            return self._processes.batches(epoch, plan)
        batches = loader.batches(plan, (edge, edge, 3), lambda row: self._started(epoch, row, self._params(epoch, row)))
        params = ([self._params(epoch, row).after_start for row in rows.tolist()] for rows in plan)
        return zip(batches, params, strict=True)

    def _fill(self, epoch: int, rows: Rows, batch: Tensor) -> list[AugmentParams]:
        """Write images of rows into a part of a batch; return the parameters with which the device augments them."""
        images, rest = batch.numpy(), []
        for place, row in enumerate(rows.tolist()):
            params = self._params(epoch, row)
            images[place] = self._started(epoch, row, params)
            rest.append(params.after_start)
        return rest

    def _started(self, epoch: int, row: int, params: AugmentParams) -> Image:
        """Return a row's image, with what the host does of its augmentation."""
        image = self._pseudo_fakes.image(epoch, row, self._stored_image)
        return start_on_host(image, params, self.settings.image_size)

    def _stored_image(self, row: int) -> Image:
        return self.train.images[int(self.train.positions[row])]

    def _params(self, epoch: int, row: int) -> AugmentParams:
        random = ImageRandom(self.seed, epoch, self.ids[row])
        return sample_params(self.settings, self.train.images.size, self.settings.image_size, random)

    def _augmented(self, images: Tensor, params: Sequence[AugmentParams]) -> Tensor:
        """Augment a batch on the device; in parts if memory requires it."""
        size = self.settings.image_size
        while True:
            count = self._augmented_at_once
            parts = [slice(start, start + count) for start in range(0, len(params), count)]
            try:
                batches = [augment_batch(images[part], params[part], size) for part in parts]
                return batches[0] if len(batches) == 1 else torch.cat(batches)
            except Exception as err:
                if not is_out_of_memory(err):
                    raise
                if count == 1:
                    raise TrainingError(
                        f"One image of {self.train.images.size} px cannot be augmented in the free memory of "
                        f"{self.device}. Set a smaller batch_size, or smaller inputs."
                    ) from err
            self._augmented_at_once = -(-min(count, len(params)) // 2)
            torch.cuda.empty_cache()

    def close(self) -> None:
        if self._processes is not None:
            self._processes.close()
            self._processes = None

    def targets(self, epoch: int, rows: Rows) -> Tensor:
        return torch.from_numpy(self._pseudo_fakes.labels(epoch, rows))

    def positive_share(self) -> float:
        return self.weighted_mean(self._pseudo_fakes.expected_labels())

    def fold_models(self, network: nn.Module, *, tta: bool) -> FoldModels:
        predictor = Predictor(self.settings, [network], self.device)
        return TimmFoldModels(predictor, self._images_of, self.threads, tta=tta)
