"""Train one fold of a network and return its `FoldOutcome`, for all kinds of networks."""

from pathlib import Path
from typing import Any

import torch

from oof.errors import TrainingError
from trainers.kinds.base import WEIGHTS_FILE, FoldOutcome, ModelContext
from trainers.kinds.training.fold_data import FoldData
from trainers.kinds.training.fold_trainer import FoldTrainer, TrainedFold
from trainers.networks.backbone import parameter_count
from trainers.networks.settings import OptimSettings
from trainers.networks.weights import save_fold_weights
from trainers.runtime.device import amp_type, default_device, device_name, peak_memory, reset_peak


def fold_seed(settings: OptimSettings, fold: int) -> int:
    """Return the seed of everything random in a fold."""
    return settings.seed * 1000 + fold


def device_of(context: ModelContext[Any]) -> torch.device:
    """Return the device of a process."""
    return context.device or default_device()


def train_network(context: ModelContext[Any], fold: int, data: FoldData) -> FoldOutcome:
    """Train the network of one fold, and predict its held-out rows.

    Args:
        context: context of the model; its settings include OptimSettings.
        fold: index of the fold.
        data: rows and network of the fold.

    Raises:
        TrainingError: if the network is larger than the competition allows, or the training fails.
    """
    settings: OptimSettings = context.settings
    title, device = context.title(fold), device_of(context)
    reset_peak(device)
    trainer = FoldTrainer(
        settings,
        fold_seed(settings, fold),
        data,
        context.fold_folder(fold) / "state.pt",
        device,
        progress=context.progress,
        title=title,
        group=context.group,
        epochs=context.epochs,
    )
    parameters = parameter_count(trainer.model)
    check_parameters(context, parameters)
    trained = trainer.run()

    def save_weights(path: Path) -> None:
        save_fold_weights(trained.weights, path)

    return FoldOutcome(
        oof=trained.oof,
        files={WEIGHTS_FILE: save_weights},
        epoch=trained.epoch,
        epochs=settings.epochs,
        optimistic=settings.checkpoint == "best" and len(data.held_out) > 0,
        seconds=trained.seconds,
        history=_history(trainer, trained)
        | {"parameters": parameters, "energy_joules": None if trained.joules is None else round(trained.joules)},
    )


def check_parameters(context: ModelContext[Any], parameters: int) -> None:
    """Check the size of a network against the limit of the competition.

    Raises:
        TrainingError: if it has more parameters than allowed.
    """
    most = context.max_parameters
    if most is not None and parameters > most:
        raise TrainingError(
            f"Model '{context.name}' has {parameters:,} parameters; the competition allows {most:,} "
            f"([competition] max_parameters). Choose a smaller backbone."
        )


def _history(trainer: FoldTrainer, trained: TrainedFold) -> dict[str, Any]:
    device = trainer.device
    return {
        "loss": trained.history.loss,
        "auc": trained.history.auc,
        "steps_skipped": trained.history.skipped,
        "returns_to_good_state": trained.history.returns,
        "parts_of_a_step": trainer.state.parts,
        "images_per_s": round(trained.rows_per_s, 1),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "precision": str(amp_type(device, trainer.settings.precision) or torch.float32).removeprefix("torch."),
        "peak_memory_bytes": peak_memory(device),
    }
