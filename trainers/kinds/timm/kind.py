"""The kind `timm`: a network of timm trained on images."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from oof.errors import TrainingError
from trainers.kinds.base import WEIGHTS_FILE, CachedImages, FoldModels, FoldOutcome, ModelContext, ModelKind, Resources
from trainers.kinds.images import fill_images, originals, row_weights, subset
from trainers.kinds.timm.fold import ImageFoldData
from trainers.kinds.timm.predict import Predictor, TimmFoldModels
from trainers.kinds.timm.settings import TimmSettings
from trainers.kinds.training.outcome import device_of, fold_seed, train_network
from trainers.networks.backbone import check_backbone


class TimmKind(ModelKind[TimmSettings]):
    """Backbones of timm on images, with augmentation and test-time augmentation."""

    def resources(self, settings: TimmSettings) -> Resources:
        return Resources(gpu=True, joint=True)

    def cached_images(self, settings: TimmSettings) -> CachedImages | None:
        return None if settings.decode == "gpu" else CachedImages(settings.stored_size, settings.host_decode)

    def check(self, context: ModelContext[TimmSettings]) -> None:
        settings, processes = context.settings, context.group.size
        if settings.step_rows % processes:
            raise TrainingError(
                f"Model '{context.name}': batch_size = {settings.step_rows} rows cannot be split evenly among "
                f"{processes} processes. Set a multiple of {processes}."
            )
        name = check_backbone(settings.backbone)
        if name != settings.backbone:
            context.progress.note(f"Model '{context.name}': timm calls {settings.backbone!r} {name!r} today.")

    def train_fold(self, context: ModelContext[TimmSettings], fold: int) -> FoldOutcome:
        settings = context.settings
        fill_images(context)
        train_table, held_out = context.split(fold)
        train = replace(
            subset(context, train_table, weight=row_weights(context, fold, settings.weight_column)),
            originals=originals(context, train_table, settings.pair_column),
        )
        data = ImageFoldData(
            settings,
            train,
            held_out,
            partial(subset, context),
            seed=fold_seed(settings, fold),
            device=device_of(context),
            root=context.root,
            threads=context.threads,
        )
        outcome = train_network(context, fold, data)
        history = {"images_from": train.images.source, "timm_model": check_backbone(settings.backbone)}
        return replace(outcome, history={**outcome.history, **history})

    def load(self, context: ModelContext[TimmSettings], folds: Sequence[int], *, tta: bool = True) -> FoldModels:
        files = [context.fold_folder(fold) / WEIGHTS_FILE for fold in folds]
        predictor = Predictor.load(context.settings, files, device_of(context))
        return TimmFoldModels(predictor, partial(subset, context), context.threads, tta=tta)
