"""Settings of a blend: the section [blend] of dfens.toml, and what a fit reads of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from oof.errors import BlendError, ConfigError

if TYPE_CHECKING:  # dfens --help reads the names of transforms here, and does not load numpy for them
    from oof.metrics import Metric

Transform = Literal["auto", "prob", "logit", "rank", "rank-logit", "geometric", "power"]
TRANSFORMS: tuple[str, ...] = get_args(Transform)
Calibrate = Literal["none", "platt", "isotonic", "beta"]
CALIBRATIONS: tuple[str, ...] = get_args(Calibrate)


@dataclass(frozen=True, kw_only=True)
class BlendSettings:
    """Section [blend].

    optimize: metric to optimise: auc, average_precision, tpr@fpr=0.001, log_loss, …; none: no weights, the plain
        average of the transform.
    transform: transform of the predictions before they are weighted; auto chooses by nested scores.
    members: names of the models (or earlier blends) to use; empty for all complete models.
    max_members: largest number of members with a weight; None for no limit.
    prune: drop members that the blend does not need.
    importance_weighting: weight rows by how likely they are among the test rows, where that pays out of fold.
    calibrate: how predictions are made probabilities: none, platt, isotonic, beta.
    seed: of folds that are made and of everything drawn at random.
    """

    optimize: str = "auc"
    transform: Transform = "auto"
    members: tuple[str, ...] = ()
    max_members: int | None = None
    prune: bool = False
    importance_weighting: bool = False
    calibrate: Calibrate = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        _check("[blend] ", self.transform, self.max_members, self.calibrate, ConfigError)


@dataclass(frozen=True, kw_only=True)
class BlendOptions:
    """What a fit is asked for; as `BlendSettings`, with the metric itself.

    average_only: no weights, the plain average of the transform.
    """

    metric: "Metric"
    transform: str = "auto"
    average_only: bool = False
    max_members: int | None = None
    prune: bool = False
    calibrate: str = "none"

    def __post_init__(self) -> None:
        _check("", self.transform, self.max_members, self.calibrate, BlendError)

    @property
    def selects(self) -> bool:
        """Whether members are chosen."""
        return self.prune or self.max_members is not None


def _check(
    where: str,
    transform: str,
    max_members: int | None,
    calibrate: str,
    error: type[BlendError] | type[ConfigError],
) -> None:
    for name, value, known in (
        ("transform", transform, TRANSFORMS),
        ("calibrate", calibrate, CALIBRATIONS),
    ):
        if value not in known:
            raise error(f"{where}{name} = {value!r} is unknown. Use {', '.join(known)}.")
    if max_members is not None and max_members < 1:
        raise error(f"{where}max_members = {max_members}: expected 1 or more.")
