"""Panel "clips": the ablation per modality and the leak audit, read from the results that other commands stored."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModalityScore:
    """AUC of models of one modality, on all clips and on clips without sound; NaN where it cannot be computed."""

    modality: str
    models: str
    auc: float
    low: float
    high: float
    auc_without_sound: float


@dataclass(frozen=True)
class LeakRow:
    """One property of the files, scored alone against the target."""

    name: str
    auc: float
    low: float
    high: float
    rows: int
    warning: str


@dataclass(frozen=True)
class ClipsPanel:
    """Modalities and leaks; either may be empty."""

    modalities: tuple[ModalityScore, ...]
    leaks: tuple[LeakRow, ...]
