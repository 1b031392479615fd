"""Summary of a blend as values, for the command, its JSON, the store and the report."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ensemble.calibration import CalibrationReport
from oof.typed import typed

SCORE_OF = "the rows that the weights were fitted on"
_NESTED_SCORE_OF = "each fold, with the weights fitted without it"
_NO_WEIGHTS = "no weights were fitted"


@dataclass(frozen=True)
class MethodScore:
    """One of the blending methods compared.

    score: on the rows on which its weights were fitted. nested_score: with weights fitted without the
    fold that is scored. share: share of this method in the blend. seconds: run time.
    """

    name: str
    transform: str
    score: float
    nested_score: float
    share: float
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """Comparison of the blend with another one, by nested scores on the same rows.

    other: name of the other one. gain: positive if the blend is better, also for losses.
    interval: 95 %. p_value: two-sided, for the null hypothesis of no difference.
    """

    other: str
    gain: float
    interval: tuple[float, float]
    p_value: float


@dataclass(frozen=True)
class MemberScore:
    """A member with its weight in the blend and its own score on the rows that it predicts.

    fold_weights: (k,) its weight in the fit without each fold; empty if no weights are fitted.
    """

    name: str
    weight: float
    score: float
    fold_weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class BlendSummary:
    """A blend without its predictions.

    score: metric on the training rows, `score_of`. nested_score: each fold with weights fitted without
    it; the score to expect on new rows. nested_interval: (low, high), 95 %.
    references: name -> (score, nested score) of the best single model and the plain averages.
    methods: all methods compared, best nested score first. calibration: its effect, or None.
    verdict: sentence on whether the gain is significant. warnings: sentences.
    fitted: what was fitted or chosen by the labels of the training rows: weights, members, imputation, calibration.
    """

    metric: str
    method: str
    transform: str
    score: float
    nested_score: float
    nested_interval: tuple[float, float]
    members: tuple[MemberScore, ...]
    comparisons: tuple[Comparison, ...]
    methods: tuple[MethodScore, ...]
    references: Mapping[str, tuple[float, float]]
    calibration: CalibrationReport | None
    verdict: str
    warnings: tuple[str, ...]
    fitted: tuple[str, ...] = ("weights",)

    @property
    def score_of(self) -> str:
        """The rows of `score`, and what was fitted or chosen on them."""
        if "weights" in self.fitted:
            return SCORE_OF
        rows = f"the rows used for choosing {' and '.join(self.fitted)}" if self.fitted else "all training rows"
        return f"{rows}; {_NO_WEIGHTS}"

    @property
    def nested_score_of(self) -> str:
        """The rows of `nested_score`, and what was fitted or chosen without them."""
        if "weights" in self.fitted:
            return _NESTED_SCORE_OF
        repeated = [name for name in self.fitted if name != "imputation"]  # which is chosen once, on all rows
        return (
            f"each fold, with {' and '.join(repeated)} chosen without it; {_NO_WEIGHTS}" if repeated else self.score_of
        )

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON values, with a description of each score."""
        return asdict(self) | {
            "score_of": self.score_of,
            "nested_score_of": self.nested_score_of,
            "references": {
                name: {"score": score, "nested_score": nested} for name, (score, nested) in self.references.items()
            },
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "BlendSummary":
        """Return the summary written by `to_json`; other keys are ignored."""
        names = [field.name for field in fields(BlendSummary)]
        known = {"calibration": None} | {name: value[name] for name in names if name in value}
        references = {name: (item["score"], item["nested_score"]) for name, item in value["references"].items()}
        return typed(BlendSummary, known | {"references": references, "fitted": _fitted(value)})


def _fitted(value: Mapping[str, Any]) -> tuple[str, ...]:
    if "fitted" in value:
        return tuple(value["fitted"])
    # blends of earlier versions
    weights = () if dict(value.get("settings") or {}).get("optimize") == "none" else ("weights",)
    return weights if value.get("calibration") is None else (*weights, "calibration")
