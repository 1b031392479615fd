"""What a blend may be told: the section [blend] of dfens.toml."""

from dataclasses import dataclass
from typing import Literal, get_args

from oof.errors import ConfigError

Transform = Literal["auto", "prob", "logit", "rank", "rank-logit", "geometric", "power"]
TRANSFORMS: tuple[str, ...] = get_args(Transform)


@dataclass(frozen=True, kw_only=True)
class BlendSettings:
    """Section [blend].

    optimize: metric to optimise: auc, average_precision, tpr@fpr=0.001, log_loss, …; none: no weights, the plain
        average of the transform.
    transform: what is done to predictions before they are weighed; auto chooses by nested scores.
    members: names of the models (or earlier blends) to use; empty for all complete models.
    max_members: most members with a weight; None for no limit.
    prune: drop members that the blend loses nothing without.
    importance_weighting: weigh rows by how likely they are among the test rows, where that pays out of fold.
    seed: of folds that are made and of everything drawn at random.
    """

    optimize: str = "auc"
    transform: Transform = "auto"
    members: tuple[str, ...] = ()
    max_members: int | None = None
    prune: bool = False
    importance_weighting: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.transform not in TRANSFORMS:
            raise ConfigError(f"[blend] transform = {self.transform!r} is unknown. Use {', '.join(TRANSFORMS)}.")
        if self.max_members is not None and self.max_members < 1:
            raise ConfigError(f"[blend] max_members = {self.max_members}: at least 1 is needed.")
