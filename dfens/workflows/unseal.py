"""Score one blend on the sealed rows, and record the look."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfens.workflows.blend import spread_parts
from dfens.workspace.members import again_command, changed_inputs, check_readable
from dfens.workspace.paths import Workspace
from dfens.workspace.row_features import sealed_features
from ensemble.predictor import predict_by_folds
from oof.errors import BlendError, FoldError
from oof.metrics import metric_by_name
from oof.metrics.intervals import score_interval
from oof.sealed import Look, SealedRows, count_looks
from submissions.table import values_fingerprint


@dataclass(frozen=True)
class Unsealed:
    """The score of a blend on the sealed rows.

    look: the score and the time of the first look. is_new: whether this is the first look of this blend; an unchanged
    blend is not scored again. looks: all looks, including this one. count: phrase that states how often the rows were
    looked at.
    """

    look: Look
    is_new: bool
    looks: tuple[Look, ...]
    count: str

    def as_json(self) -> dict[str, Any]:
        """Return the result as JSON values, with the fields of the look at the top level."""
        return asdict(self.look) | {"is_new": self.is_new, "looks": self.looks, "count": self.count}


def unseal(workspace: Workspace, name: str | None = None, *, again: bool = False) -> Unsealed:
    """Score a blend (None: the newest) on the sealed rows and record the look; `again` for looks after the first.

    The look is recorded before the score is returned, so that no look is lost. For a blend with unchanged predictions,
    the recorded score is returned, which does not count as another look.

    Raises:
        FoldError: if no rows are sealed, or they were looked at before and `again` is false.
        BlendError: if the blend belongs to other folds, its members or features have changed, or a member does not
            predict the rows.
    """
    store, blends = workspace.predictions, workspace.blends
    sealed = store.sealed_rows()
    if sealed is None:
        raise FoldError(
            "No rows are sealed. Set [folds] sealed = 0.1 in dfens.toml and run dfens folds, before models are trained."
        )
    name = blends.newest() if name is None else name
    predictions = sealed_predictions(workspace, name)
    fingerprint = values_fingerprint(sealed.ids, predictions)
    with store.looks.turn():
        looks = store.looks.read()
        known = [look for look in looks if (look.fingerprint, look.sealed) == (fingerprint, sealed.fingerprint)]
        if known:
            return Unsealed(known[0], False, looks, count_looks(looks, sealed.fingerprint))
        if looks and not again:
            raise FoldError(_seen_before(looks, sealed))
        look = _score(blends.facts(name), name, fingerprint, sealed, predictions)
        looks = (*looks, look)
        store.looks.write(looks)
    return Unsealed(look, True, looks, count_looks(looks, sealed.fingerprint))


def _seen_before(looks: tuple[Look, ...], sealed: SealedRows) -> str:
    last = looks[-1]
    return (
        f"The sealed rows were {count_looks(looks, sealed.fingerprint)}, last on {last.time} (blend '{last.blend}', "
        f"{last.metric} {last.score:.5f}). Choosing between scores on the same rows inflates the chosen one. To "
        f"look again, add --again; every look is counted and shown in the report."
    )


def _score(
    facts: dict[str, Any], name: str, fingerprint: str, sealed: SealedRows, predictions: NDArray[np.float64]
) -> Look:
    metric = metric_by_name(facts["metric"])
    found = score_interval(metric, sealed.target, predictions, sealed.groups)
    return Look(
        time=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        blend=name,
        fingerprint=fingerprint,
        sealed=sealed.fingerprint,
        rows=len(sealed.ids),
        metric=metric.name,
        score=found.score,
        low=found.low,
        high=found.high,
        nested_score=float(facts["nested_score"]),
    )


def sealed_predictions(workspace: Workspace, name: str) -> NDArray[np.float64]:
    """Return a blend's predictions of the sealed rows, (n_sealed,), computed by its fold models as for test rows.

    Raises:
        BlendError: as `unseal` does.
    """
    store, blends = workspace.predictions, workspace.blends
    facts = blends.facts(name)
    again = again_command(workspace, name, workspace.config.blend)
    if facts.get("folds") != store.folds.fingerprint:
        raise BlendError(f"The blend '{name}' belongs to other folds. Run {again} first.")
    changed = changed_inputs(workspace, name)
    if changed:
        check_readable(workspace, changed)
        raise BlendError(f"The blend '{name}' is stale: {', '.join(changed)} changed since it was made. Run {again}.")
    found = [_of_member(workspace, member["name"]) for member in facts["members"]]  # (n_parts, n_sealed) each
    parts = max(map(len, found))
    stacked = np.stack([spread_parts(values, parts) for values in found], axis=2)
    averaged = np.array([len(values) < parts for values in found], bool)
    return predict_by_folds(blends.load_predictor(name), stacked, averaged, sealed_features(workspace, facts))


def _of_member(workspace: Workspace, name: str) -> NDArray[np.float32]:
    store = workspace.predictions
    if name not in store:
        return sealed_predictions(workspace, name)[None].astype(np.float32)
    found = store.load_sealed(name)
    if found is None:
        raise BlendError(
            f"The model '{name}' does not predict the sealed rows, so a blend with it has no score on them. Blend "
            f"without it (dfens blend --members A,B,…), or import it again with all of its predictions (dfens oof "
            f"import {name} --oof FILE --test FILE --sealed FILE)."
        )
    return found
