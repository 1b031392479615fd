"""Pseudo-labels: test rows as training rows, each fold with labels from models that have not seen its held-out rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.errors import TrainingError
from oof.ids import Ids, text_fingerprint
from trainers.kinds.repeats import PseudoSettings


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """Probabilities of the test rows, one vector for the training of each fold.

    Row f contains the labels for the training of fold f. They must come from models that have not seen the held-out
    rows of fold f: otherwise the labels of these rows would leak through the test rows into the model that predicts
    them, and the OOF score would rise without any improvement of the model.

    probabilities: (k + 1, n_test), 0 to 1, in the order of the test ids; the last row is for the refit, which has no
        held-out rows.
    source: their origin as JSON values: blend, round.
    """

    probabilities: NDArray[np.float32]
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.probabilities.ndim != 2:
            raise TrainingError(
                f"Pseudo-labels of shape {self.probabilities.shape} are one label for each test row, made by a whole "
                f"blend: its models have seen the held-out rows of every fold, whose labels would leak into the OOF "
                f"score. Pass (k + 1, n_test), row f by models that have not seen fold f."
            )

    def fingerprint_of(self, ids: Ids) -> str:
        """Return the fingerprint of the labels of test rows with these ids, independent of the order of the rows."""
        order = np.argsort(ids.astype(str), kind="stable")
        labels = np.ascontiguousarray(self.probabilities[:, order])
        return text_fingerprint([*ids[order].tolist(), labels.tobytes().hex()])

    def chosen(self, fold: int, settings: PseudoSettings) -> NDArray[np.intp]:
        """Return the positions of the test rows that the training of a fold uses.

        Raises:
            TrainingError: if no label is confident enough.
        """
        label = self.probabilities[fold]
        rows = np.flatnonzero(np.maximum(label, 1 - label) >= settings.confidence)
        if not len(rows):
            highest = float(np.maximum(label, 1 - label).max()) if len(label) else 0.5
            whose = "the refit" if fold == len(self.probabilities) - 1 else f"fold {fold}"
            raise TrainingError(
                f"No pseudo-label of {whose} reaches confidence = {settings.confidence:g}; the highest is "
                f"{highest:.3f}. Lower it (pseudo = {{ confidence = … }}), or improve the models first."
            )
        return rows


def pseudo_record(labels: PseudoLabels, settings: PseudoSettings, ids: Ids) -> dict[str, Any]:
    """Return everything that training with pseudo-labels depends on besides the settings, as JSON values.

    Args:
        labels: of the test rows. settings: of the model. ids: (n_test,) ids of the test rows.
    """
    used = {"weight": settings.weight, "confidence": settings.confidence}
    return {**labels.source, "labels": labels.fingerprint_of(ids), **used}
