"""The kind `timm`: timm networks trained on images."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from trainers.kinds.base import WEIGHTS_FILE, CachedImages, FoldModels, FoldOutcome, ModelContext, ModelKind, Resources
from trainers.kinds.images import fill_images, note_repeated_decoding, originals, subset
from trainers.kinds.timm.fold import ImageFoldData
from trainers.kinds.timm.predict import Predictor, TimmFoldModels
from trainers.kinds.timm.settings import TimmSettings
from trainers.kinds.timm.trial import try_model
from trainers.kinds.training.outcome import device_of, fold_seed, train_network
from trainers.kinds.training_rows import training_rows
from trainers.networks.backbone import check_backbone
from trainers.networks.settings import PREDICTION_SETTINGS


class TimmKind(ModelKind[TimmSettings]):
    """timm backbones on images, with augmentation and test-time augmentation."""

    soft_labels = True

    def resources(self, settings: TimmSettings) -> Resources:
        only_gpu = ('decode = "gpu"', 'decode = "area"') if settings.decode == "gpu" else None
        return Resources(gpu=True, only_gpu=only_gpu, joint=True)

    def cached_images(self, settings: TimmSettings) -> CachedImages | None:
        return None if settings.decode == "gpu" else CachedImages(settings.stored_size, settings.host_decode)

    def only_predicts(self, setting: str, before: object, now: object) -> bool:
        return setting in PREDICTION_SETTINGS

    def check(self, context: ModelContext[TimmSettings]) -> None:
        try_model(context)
        note_repeated_decoding(context)

    def train_fold(self, context: ModelContext[TimmSettings], fold: int) -> FoldOutcome:
        settings = context.settings
        fill_images(context)
        rows = training_rows(context, fold)
        train = replace(
            subset(context, rows.table, weight=rows.weight),
            originals=originals(context, rows.table, settings.pair_column),
        )
        data = ImageFoldData(
            settings,
            train,
            context.split(fold)[1],
            partial(subset, context),
            seed=fold_seed(settings, fold),
            device=device_of(context),
            root=context.root,
            threads=context.threads,
        )
        outcome = train_network(context, fold, data)
        facts = {"images_from": train.images.source, "timm_model": check_backbone(settings.backbone)}
        return replace(outcome, history={**outcome.history, **facts})

    def load(self, context: ModelContext[TimmSettings], folds: Sequence[int], *, tta: bool = True) -> FoldModels:
        files = [context.fold_folder(fold) / WEIGHTS_FILE for fold in folds]
        predictor = Predictor.load(context.settings, files, device_of(context))
        return TimmFoldModels(predictor, partial(subset, context), context.threads, tta=tta)
