"""The data of one fold of a timm model: augmented images with pseudo-fakes, and the network."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from trainers.augment.mixing import mix
from trainers.augment.pipeline import AugmentParams, augment_batch, augment_image, sample_params
from trainers.augment.pseudo_fakes import PseudoFakes, pair_partners
from trainers.augment.random_streams import ImageRandom
from trainers.kinds.base import FoldModels
from trainers.kinds.timm.predict import ImagesOf, Predictor, TimmFoldModels
from trainers.kinds.timm.settings import TimmSettings
from trainers.kinds.training.fold_data import FoldData
from trainers.kinds.training.train_state import Batch, MakeInputs
from trainers.media.arrays import Image, Rows
from trainers.media.image_store import Subset
from trainers.media.loader import Loader
from trainers.networks.backbone import create_model
from trainers.networks.normalise import Normalise
from trainers.networks.optim import set_trainable


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
        # by epoch and row, until they have been applied on the device
        self._drawn: dict[tuple[int, int], AugmentParams] = {}
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
        """Yield the images of each step; on a CPU they are already augmented, on CUDA `on_device` augments them."""

        def image_on_host(row: int) -> Image:
            return self._image_on_host(epoch, row)

        self._drawn.clear()
        edge = self.train.images.size if self.device.type == "cuda" else self.settings.image_size
        loader = Loader(self.threads, pin=self.device.type == "cuda")
        try:
            if self.settings.decode == "gpu":
                yield from loader.rows(plan, self.train, self.device)
            else:
                yield from loader.batches(plan, (edge, edge, 3), image_on_host)
        finally:
            loader.close()

    def _image_on_host(self, epoch: int, row: int) -> Image:
        """Return a row's image as processed by the loader; on CUDA, only by operations without a batched version."""
        image, size = self._pseudo_fakes.image(epoch, row, self._stored_image), self.settings.image_size
        params = self._params(epoch, row)
        if self.device.type != "cuda":
            return augment_image(image, params, size)
        self._drawn[epoch, row] = params  # here and not in the main thread, which keeps the network busy
        if not params.needs_host:
            return image
        place = np.zeros_like(image)  # for these images the device uses the top left window
        place[:size, :size] = augment_image(image, params, size)
        return place

    def _stored_image(self, row: int) -> Image:
        return self.train.images[int(self.train.positions[row])]

    def _params(self, epoch: int, row: int) -> AugmentParams:
        random = ImageRandom(self.seed, epoch, self.ids[row])
        return sample_params(self.settings, self.train.images.size, self.settings.image_size, random)

    def on_device(self, batch: Batch, epoch: int, rows: Rows) -> Batch:
        if self.device.type != "cuda":
            return batch
        assert isinstance(batch, Tensor)
        drawn = [self._drawn.pop((epoch, row), None) for row in rows.tolist()]
        params = [one or self._params(epoch, row) for one, row in zip(drawn, rows.tolist(), strict=True)]
        return augment_batch(batch.to(self.device, non_blocking=True), params, self.settings.image_size)

    def targets(self, epoch: int, rows: Rows) -> Tensor:
        return torch.from_numpy(self._pseudo_fakes.labels(epoch, rows))

    def positive_share(self) -> float:
        return self.weighted_mean(self._pseudo_fakes.expected_labels())

    def fold_models(self, network: nn.Module, *, tta: bool) -> FoldModels:
        predictor = Predictor(self.settings, [network], self.device)
        return TimmFoldModels(predictor, self._images_of, self.threads, tta=tta)
