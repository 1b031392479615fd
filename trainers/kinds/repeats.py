"""Settings of every kind that define the trainings of one model: seeds, a refit on all rows, pseudo-labels."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from oof.errors import ConfigError
from trainers.runtime.settings import check_range


@dataclass(frozen=True, kw_only=True)
class PseudoSettings:
    """Test rows in training, labelled by a blend: `pseudo = { weight = 0.5, confidence = 0.9, rounds = 1 }`.

    weight: weight of a test row in the loss, relative to a training row.
    confidence: minimum confidence of the label of a row that is used, 0.5 (all rows) to 1; labels remain probabilities.
    rounds: maximum number of rounds; from the second on, the blend that labels was itself trained with pseudo-labels.
    """

    weight: float = 0.5
    confidence: float = 0.9
    rounds: int = 1

    def __post_init__(self) -> None:
        check_range(self, 1e-6, 1e3, "weight", table="pseudo.")
        check_range(self, 0.5, 1, "confidence", table="pseudo.")
        check_range(self, 1, 100, "rounds", table="pseudo.")


@dataclass(frozen=True, kw_only=True)
class RepeatSettings:
    """Several trainings that form one model.

    Changing these settings never invalidates finished trainings: missing ones are run, and those no longer needed are
    kept but not used.

    seeds: number of trainings of each fold that differ only in the seed, averaged as one model (mean of logits).
    refit: one additional training on all rows after the folds, for the test predictions; the OOF score is still that
        of the folds.
    refit_weight: weight of the refit in the test predictions, above 0 (fold models only) to 1 (refit only).
    pseudo: how `dfens train --pseudo BLEND` uses the test rows: weight (of a test row in the loss), confidence
        (minimum of a label, 0.5 to 1), rounds (maximum number of rounds).
    """

    seeds: int = 1
    refit: bool = False
    refit_weight: float = 0.5
    pseudo: PseudoSettings | None = None

    def check_repeats(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: if a setting is out of range; the message names the first one.
        """
        check_range(self, 1, 1000, "seeds")
        if not 0 < self.refit_weight <= 1:
            raise ConfigError(
                f"refit_weight = {self.refit_weight:g} is out of range; it must be above 0, up to 1. Set refit = false "
                f"for the fold models alone."
            )


REPEAT_NAMES = frozenset(item.name for item in fields(RepeatSettings))
_ONCE = RepeatSettings()


def without_repeats(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as JSON values without those that only define which trainings form the model."""
    return {key: value for key, value in record.items() if key not in REPEAT_NAMES}


def repeats_of(settings: Any) -> RepeatSettings:
    """Return the trainings that form a model; for kinds without these settings, one training of each fold."""
    return settings if isinstance(settings, RepeatSettings) else _ONCE
