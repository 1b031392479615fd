"""The stored predictions of a member of a blend: a model, or an earlier blend."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dfens.workspace.blend_command import blend_command
from dfens.workspace.paths import Workspace
from dfens.workspace.row_features import changed_features
from ensemble.blend_store import BlendStore
from ensemble.settings import BlendSettings
from oof.errors import BlendError, DfensError
from oof.ids import join_positions
from oof.store import PredictionStore

Array = NDArray[np.float32]


def read_member(store: PredictionStore, blends: BlendStore, name: str) -> tuple[Array, Array | None]:
    """Return OOF (n_rows,) and test predictions (n_parts, n_test) of a model or blend, in the row order of the store.

    For an earlier blend these are its nested predictions, since its fitted predictions depend on the labels.
    """
    if name in store or name not in blends:
        model = store.load(name)
        test_by_fold = model.test_by_fold
        # a competition without rows to predict has predictions of none
        return model.oof, test_by_fold if test_by_fold is not None and test_by_fold.shape[1] else None
    stored = blends.load(name)
    if stored.facts.get("folds") != store.folds.fingerprint:
        raise BlendError(f"The blend '{name}' belongs to other folds. Run {blend_command(stored.facts)} first.")
    rows = join_positions(store.folds.ids, stored.ids, f"blend '{name}'")
    test = None
    if stored.test is not None and stored.test_ids is not None:
        order = join_positions(store.test_ids, stored.test_ids, f"test predictions of blend '{name}'")
        test = stored.test[order][None].astype(np.float32)
    return stored.nested_oof[rows].astype(np.float32), test


def member_fingerprint(store: PredictionStore, blends: BlendStore, name: str) -> str | None:
    """Return the fingerprint of a member's predictions, or None if they are gone or do not match the folds."""
    try:
        return store.fingerprint_of(*read_member(store, blends, name))
    except DfensError:
        return None


def changed_inputs(workspace: Workspace, name: str) -> list[str]:
    """Return the members whose predictions have changed since the blend was made, or are missing, and features.

    Among them are blends that should be made again, since their own members have changed.
    """
    store, blends = workspace.predictions, workspace.blends
    facts = blends.facts(name)
    fingerprints = facts.get("fingerprints", {})
    gone = [item["name"] for item in facts["members"] if item["name"] not in fingerprints]
    members = [
        member
        for member, fingerprint in fingerprints.items()
        if member_fingerprint(store, blends, member) != fingerprint
    ]
    members += [member for member in gone if member not in store and member not in blends]
    members += [member for member in _stale_blends(workspace, fingerprints) if member not in members]
    return members + changed_features(workspace, facts)


def check_readable(workspace: Workspace, names: Iterable[str]) -> None:
    """Check that those members of a stale blend that are still stored can be read, as blending again requires.

    Raises:
        DfensError: if a member cannot be read, with the remedy.
    """
    store, blends = workspace.predictions, workspace.blends
    for name in names:
        if name in store or name in blends:
            read_member(store, blends, name)


def again_command(workspace: Workspace, name: str, current: BlendSettings | None) -> str:
    """Return the command that makes a stale blend again; if one of its members is a stale blend, this one first.

    Args:
        name: of the blend. current: settings in dfens.toml, which need not be repeated; None without the file.
    """
    facts = workspace.blends.facts(name)
    inner = _stale_blends(workspace, [item["name"] for item in facts["members"]])
    return again_command(workspace, inner[0], current) if inner else blend_command(facts, current)


def _stale_blends(workspace: Workspace, members: Iterable[str]) -> list[str]:
    store, blends = workspace.predictions, workspace.blends
    return [name for name in members if name not in store and name in blends and changed_inputs(workspace, name)]
