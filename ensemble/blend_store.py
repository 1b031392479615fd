"""The store of blends: `work/ensemble/`, one folder for each, whole or absent, nothing ever overwritten."""

import builtins
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensemble.result import BlendResult
from oof import files
from oof.errors import StoreError, examples
from oof.ids import Ids, check_name, ids_fingerprint

FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class StoredBlend:
    """A blend as it lies on disk.

    ids: (n_rows,) training ids. oof: (n_rows,) the blend on the rows its weights were fitted on.
    nested_oof: (n_rows,) with weights fitted without the row's fold; what another blend may learn from.
    test_ids, test: (n_test,) or None. facts: blend.json as a mapping: members, weights, scores, settings.
    """

    name: str
    ids: Ids
    oof: NDArray[np.float64]
    nested_oof: NDArray[np.float64]
    test_ids: Ids | None
    test: NDArray[np.float64] | None
    facts: Mapping[str, Any]

    @property
    def score(self) -> float:
        """Metric on the rows that the weights were fitted on."""
        return float(self.facts["score"])

    @property
    def nested_score(self) -> float:
        """Metric with the weights fitted without the fold that is scored."""
        return float(self.facts["nested_score"])


class BlendStore:
    """Blends with their predictions, so that others read them as plain arrays.

        root/
        ├── NAME/
        │   ├── blend.json              members with fingerprints, weights, formula, scores, settings
        │   ├── oof.parquet             id, prediction (weights fitted on these rows), nested_prediction
        │   ├── test.parquet            id, prediction; absent where a member has no test predictions
        │   └── distributions.parquet   model, knot, cdf: the stored distribution functions of the members
        └── archive/                    earlier blends of the same names, by time

    A blend is written to a hidden folder and moved into place; a blend of the same name is
    moved to the archive first. Two processes may write at once.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    @property
    def archive_dir(self) -> Path:
        return self.root / "archive"

    def path(self, name: str) -> Path:
        """The folder of a blend."""
        return self.root / check_name(name, "blend name")

    def list(self) -> list[str]:
        """Names of the blends, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(path.parent.name for path in self.root.glob("*/blend.json") if path.parent.name[0] != ".")

    def overview(self) -> "builtins.list[dict[str, Any]]":
        """Name, members, fitted and nested score of each blend, oldest first."""
        found = []
        for name in sorted(self.list(), key=self._written):
            facts = self.facts(name)
            found.append(
                {
                    "blend": name,
                    "members": len(facts["members"]),
                    "metric": facts["metric"],
                    "score_on_the_rows_fitted": facts["score"],
                    "nested_score": facts["nested_score"],
                }
            )
        return found

    def newest(self) -> str:
        """Name of the blend that was made last.

        Raises:
            StoreError: if there is none.
        """
        names = self.list()
        if not names:
            raise StoreError("There is no blend yet. Run dfens blend.")
        return max(names, key=self._written)

    def _written(self, name: str) -> int:
        return (self.path(name) / "blend.json").stat().st_mtime_ns

    def __contains__(self, name: str) -> bool:
        return name in self.list()

    def save(
        self,
        name: str,
        result: BlendResult,
        ids: Ids,
        *,
        test_ids: Ids | None = None,
        test: NDArray[np.float64] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Path | None:
        """Write a blend; returns where an earlier one of the same name lies now, or None.

        Args:
            name: of the blend; `archive` is taken.
            result: the fit.
            ids: (n_rows,) training ids in the order of `result.oof`.
            test_ids, test: (n_test,) the blended test predictions, or None.
            details: more facts for blend.json: member fingerprints, fold fingerprint, settings.
        """
        path = self.path(name)
        if name == self.archive_dir.name:
            raise StoreError("A blend cannot be named 'archive': replaced blends lie there. Choose another --name.")
        facts = {"version": FORMAT_VERSION, "kind": "blend", "name": name, "ids": ids_fingerprint(ids)}
        facts |= result.facts() | dict(details or {})
        header = {"version": FORMAT_VERSION, "kind": "blend", "blend": name}
        with files.temporary_folder(path) as part:
            table = pd.DataFrame({"id": ids, "prediction": result.oof, "nested_prediction": result.nested_oof})
            files.write_parquet(part / "oof.parquet", table, header | {"ids": facts["ids"]})
            if test_ids is not None and test is not None:
                facts["test_ids"] = ids_fingerprint(test_ids)
                table = pd.DataFrame({"id": test_ids, "prediction": test})
                files.write_parquet(part / "test.parquet", table, header | {"test_ids": facts["test_ids"]})
            files.write_parquet(part / "distributions.parquet", result.distributions(), header)
            files.write_json(part / "blend.json", facts)
            with files.file_lock(self.root / ".lock"):
                archived = files.archive(path, self.archive_dir) if path.exists() else None
                part.rename(path)
        return archived

    def facts(self, name: str) -> dict[str, Any]:
        """What blend.json says of a blend, without reading its predictions.

        Raises:
            StoreError: if there is no such blend, or another version of dfens wrote it.
        """
        if name not in self:
            raise StoreError(
                f"There is no blend '{name}'; there are {examples(self.list(), 10) or 'none'}. "
                f"Run dfens blend --name {name}."
            )
        path = self.path(name) / "blend.json"
        facts: dict[str, Any] = files.read_json(path)
        if facts.get("version") != FORMAT_VERSION:
            raise StoreError(
                f"{path} has format version {facts.get('version')}; this dfens reads {FORMAT_VERSION}. "
                f"Run dfens blend --name {name} to make it anew."
            )
        return facts

    def load(self, name: str) -> StoredBlend:
        """Read a blend with its predictions."""
        facts = self.facts(name)
        folder = self.path(name)
        oof = files.read_parquet(folder / "oof.parquet")[0]
        test_path = folder / "test.parquet"
        test = files.read_parquet(test_path)[0] if test_path.exists() else None
        return StoredBlend(
            name,
            oof["id"].to_numpy(object),
            oof["prediction"].to_numpy(np.float64),
            oof["nested_prediction"].to_numpy(np.float64),
            None if test is None else test["id"].to_numpy(object),
            None if test is None else test["prediction"].to_numpy(np.float64),
            facts,
        )
