"""Settings of a blend: the section [blend] in dfens.toml, and the options of a fit."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from oof.errors import BlendError, ConfigError

if TYPE_CHECKING:  # dfens --help imports this module for the names of transforms, without loading numpy
    from oof.metrics import Metric

Transform = Literal["auto", "prob", "logit", "rank", "rank-logit", "geometric", "power"]
TRANSFORMS: tuple[str, ...] = get_args(Transform)
Calibrate = Literal["none", "platt", "isotonic", "beta"]
CALIBRATIONS: tuple[str, ...] = get_args(Calibrate)
SecondLevel = Literal["ridge", "boosted"]
SECOND_LEVEL: tuple[str, ...] = get_args(SecondLevel)
FEATURES: tuple[str, ...] = ("size", "quality", "blur", "bitrate", "group")
_TABLES = (".csv", ".tsv", ".txt", ".gz", ".zip", ".parquet", ".feather", ".arrow", ".npz")


@dataclass(frozen=True, kw_only=True)
class BlendSettings:
    """Section [blend].

    optimize: metric to optimise: auc, average_precision, tpr@fpr=0.001, log_loss, …; none: no weights, the plain
        average of the transform.
    transform: transform of the predictions before weighting; auto chooses by nested scores.
    members: names of the models (or earlier blends) to use; empty for all complete models.
    max_members: maximum number of members with a weight; None for no limit.
    prune: whether to drop members that the blend does not need.
    importance_weighting: whether to weight rows by their density among the test rows if that helps out of fold.
    calibrate: calibration method: none, platt, isotonic, beta.
    methods: additional blending methods to try: ridge (regression on several transforms), boosted (small trees).
    features: features of the rows for "boosted": size (width, height, bytes), quality (of JPEG), blur, bitrate (of
        clips), group (number of training rows in the group), or the path of a table (CSV, Parquet) with ids and columns
        of numbers for all training and test rows.
    seed: seed of new folds and of everything random.
    """

    optimize: str = "auc"
    transform: Transform = "auto"
    members: tuple[str, ...] = ()
    max_members: int | None = None
    prune: bool = False
    importance_weighting: bool = False
    calibrate: Calibrate = "none"
    methods: tuple[SecondLevel, ...] = ()
    features: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        _check("[blend] ", self.transform, self.max_members, self.calibrate, self.methods, ConfigError)
        check_seed("[blend] ", self.seed, ConfigError)
        for name in self.features:
            if name not in FEATURES and not name.lower().endswith(_TABLES):
                raise ConfigError(
                    f"[blend] features = {name!r} is unknown. Use {', '.join(FEATURES)}, or the path of a table (.csv, "
                    f".parquet)."
                )
        if "" in self.members:
            raise ConfigError("[blend] members has an empty name. Remove it; members = [] means all complete models.")
        if self.features and "boosted" not in self.methods:
            raise ConfigError(
                f"[blend] features = {', '.join(self.features)}: no method reads features. Add boosted to the methods "
                f'(methods = ["boosted"], or --methods boosted), or leave features out (--features none).'
            )


@dataclass(frozen=True, kw_only=True)
class BlendOptions:
    """The options of a fit, as in `BlendSettings`, with the metric as an object.

    average_only: whether to take the plain average of the transform instead of fitting weights.
    """

    metric: "Metric"
    transform: str = "auto"
    average_only: bool = False
    max_members: int | None = None
    prune: bool = False
    calibrate: str = "none"
    methods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check("", self.transform, self.max_members, self.calibrate, self.methods, BlendError)

    @property
    def selects(self) -> bool:
        """Return whether members are selected."""
        return self.prune or self.max_members is not None


def check_seed(where: str, seed: int, error: type[BlendError] | type[ConfigError]) -> None:
    """Raise an error for a seed that NumPy's and scikit-learn's generators do not take."""
    if not 0 <= seed < 2**32:
        raise error(f"{where}seed = {seed} is out of range; it must be from 0 to 4294967295.")


def _check(
    where: str,
    transform: str,
    max_members: int | None,
    calibrate: str,
    methods: tuple[str, ...],
    error: type[BlendError] | type[ConfigError],
) -> None:
    for name, value, known in (
        ("transform", transform, TRANSFORMS),
        ("calibrate", calibrate, CALIBRATIONS),
        *(("methods", method, SECOND_LEVEL) for method in methods),
    ):
        if value not in known:
            raise error(f"{where}{name} = {value!r} is unknown. Use {', '.join(known)}.")
    if max_members is not None and max_members < 1:
        raise error(f"{where}max_members = {max_members}: expected 1 or more.")
