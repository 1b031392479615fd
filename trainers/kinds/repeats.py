"""Settings of every kind that say which trainings make one model: seeds, a refit on all rows, pseudo-labels."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from oof.errors import ConfigError
from trainers.runtime.settings import check_range


@dataclass(frozen=True, kw_only=True)
class PseudoSettings:
    """Test rows in training, with labels from a blend: `pseudo = { weight = 0.5, confidence = 0.9, rounds = 1 }`.

    weight: what a test row counts for in the loss, a training row counting 1.
    confidence: least confidence of a label whose row enters, 0.5 (all rows) to 1; labels stay probabilities.
    rounds: how often labels may come from a blend that was itself trained with pseudo-labels, and once more.
    """

    weight: float = 0.5
    confidence: float = 0.9
    rounds: int = 1

    def __post_init__(self) -> None:
        check_range(self, 1e-6, 1e3, "weight")
        check_range(self, 0.5, 1, "confidence")
        check_range(self, 1, 100, "rounds")


@dataclass(frozen=True, kw_only=True)
class RepeatSettings:
    """Several trainings as one model.

    Changing these never makes a training wrong that is there: what is missing is trained, what is no longer wanted is
    kept and not used.

    seeds: trainings of each fold that differ in the seed alone, averaged as one model (mean of logits).
    refit: one more training on all rows after the folds, for the test predictions; the OOF score stays that of the
        folds.
    refit_weight: share of the refit in the test predictions, above 0 (fold models alone) to 1 (refit alone).
    pseudo: what `dfens train --pseudo BLEND` does with the test rows: weight (what one counts for in the loss),
        confidence (the least that its label must have, 0.5 to 1), rounds (how often at most).
    """

    seeds: int = 1
    refit: bool = False
    refit_weight: float = 0.5
    pseudo: PseudoSettings | None = None

    def check_repeats(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: naming the first setting out of range.
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
    """Return settings as JSON values without those that only say which trainings make the model."""
    return {key: value for key, value in record.items() if key not in REPEAT_NAMES}


def repeats_of(settings: Any) -> RepeatSettings:
    """Return which trainings make a model; of a kind without these settings, one training of each fold."""
    return settings if isinstance(settings, RepeatSettings) else _ONCE
