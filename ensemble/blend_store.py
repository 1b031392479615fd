"""The blend store in `work/ensemble/`: one folder per blend, written atomically and never overwritten."""

import builtins
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensemble.predictor import Predictor, predictor_from_json
from ensemble.result import BlendResult
from ensemble.summary import BlendSummary
from oof import files
from oof.errors import PredictionError, StoreError, examples
from oof.ids import Ids, check_case, check_name, ids_fingerprint
from oof.metrics import Metric
from oof.replacing import replace_folder
from oof.typed import typed

FORMAT_VERSION = 2
_READABLE = (1, 2)  # version 1 has no predictor
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True)
class _FeatureColumn:
    feature: str
    column: str


@dataclass(frozen=True)
class _Features:
    """Types of the key `features` of blend.json (docs/formats.md)."""

    columns: tuple[_FeatureColumn, ...]
    fingerprints: Mapping[str, str]
    files: Mapping[str, Any] | None
    sealed: Mapping[str, str | None] | None = None


@dataclass(frozen=True, eq=False)
class StoredBlend:
    """A blend read from disk.

    ids: (n_rows,) training ids. oof: (n_rows,) the blend on the rows on which its weights were fitted.
    nested_oof: (n_rows,) with weights fitted without the row's fold; the input for further blends.
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
        """Return the metric on the rows on which the weights were fitted."""
        return float(self.facts["score"])

    @property
    def nested_score(self) -> float:
        """Return the metric with weights fitted without the fold that is scored."""
        return float(self.facts["nested_score"])

    @property
    def summary(self) -> BlendSummary:
        """Return the summary for display."""
        return BlendSummary.from_json(self.facts)


def scores_by(
    metric: Metric,
    facts: Mapping[str, Any],
    target: NDArray[Any],
    oof: NDArray[np.float64],
    nested_oof: NDArray[np.float64],
) -> tuple[float, float] | None:
    """Return score and nested score of a blend by a metric, which may differ from the one that the blend optimised.

    Args:
        metric: any metric. facts: blend.json. target, oof, nested_oof: (n_rows,).

    Returns:
        None if the predictions are not suitable for the metric, such as logits for log loss.
    """
    if facts["metric"] == metric.name:
        return float(facts["score"]), float(facts["nested_score"])
    known = np.isfinite(oof) & np.isfinite(nested_oof)
    try:
        return metric(target[known], oof[known]), metric(target[known], nested_oof[known])
    except PredictionError:
        return None


def better_blend(metric: Metric, nested_scores: Mapping[str, float], newest: str) -> str | None:
    """Return the blend with the best nested score if it is better than that of the newest blend, which is submitted.

    Args:
        metric: metric of the scores. nested_scores: by name of the blend; NaN is worse than any score.
        newest: name of the newest blend; without a score of its own, no other is better.
    """
    gains = {name: metric.gain(score) for name, score in nested_scores.items() if score == score}
    best = max(gains, key=lambda name: gains[name], default=newest)
    return best if newest in gains and gains[best] > gains[newest] else None


class BlendStore:
    """Blends with their predictions, which others read as plain arrays.

        root/
        ├── NAME/
        │   ├── blend.json              when it was made, members with fingerprints, weights, scores, settings
        │   ├── predictor.json          the function from the members' predictions to the blend's
        │   ├── distributions.parquet   fold, model, knot, cdf: the part of the function with many numbers
        │   ├── oof.parquet             id, prediction (weights fitted on these rows), nested_prediction
        │   └── test.parquet            id, prediction; absent if a member has no test predictions
        └── archive/                    earlier blends of the same names, by time

    A blend is written to a hidden folder and moved into place; an existing blend with the same name is
    moved to the archive in the same step. A lock (`.lock`) ensures that a reader gets a consistent blend;
    if the folder is read-only, nobody writes and no lock is needed.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    @property
    def archive_dir(self) -> Path:
        return self.root / "archive"

    def path(self, name: str) -> Path:
        """Return the folder of a blend."""
        return self.root / check_name(name, "blend name")

    def list(self) -> list[str]:
        """Return the names of the blends, sorted."""
        with self._turn():
            return self._names()

    def _names(self) -> "builtins.list[str]":
        if not self.root.is_dir():
            return []
        return sorted(path.parent.name for path in self.root.glob("*/blend.json") if path.parent.name[0] != ".")

    def overview(self) -> "builtins.list[dict[str, Any]]":
        """Return name, members, and score and nested score with their rows, of each blend, oldest first."""
        return [
            {
                "blend": name,
                "members": len(summary.members),
                "metric": summary.metric,
                "score": summary.score,
                "nested_score": summary.nested_score,
                "score_of": summary.score_of,
                "nested_score_of": summary.nested_score_of,
            }
            for name, facts in self._by_time(verified=True)
            for summary in [BlendSummary.from_json(facts)]
        ]

    def newest(self) -> str:
        """Return the name of the most recent blend.

        Raises:
            StoreError: if there is none.
        """
        found = self._by_time()
        if not found:
            raise StoreError("There is no blend yet. Run dfens blend.")
        return found[-1][0]

    def _by_time(self, *, verified: bool = False) -> "builtins.list[tuple[str, dict[str, Any]]]":
        """Return name and facts of each blend, oldest first, by the recorded time.

        File times cannot be used, since they change when a project is copied or cloned.

        Args:
            verified: whether to check that the files of each blend are those of its blend.json.
        """
        with self._turn():
            found = [(name, self._facts(name)) for name in self._names()]
            for name, facts in found if verified else ():
                _check_unchanged(self.path(name), facts)
        return sorted(found, key=lambda item: (item[1]["made_at"], item[0]))

    def __contains__(self, name: str) -> bool:
        return name in self.list()

    def check_new(self, name: str) -> None:
        """Check that a blend can be stored under a name.

        Raises:
            ConfigError: if it cannot be a folder name, or differs from another folder's only in case.
            StoreError: if it is `archive`.
        """
        check_name(name, "blend name")
        if name == self.archive_dir.name:
            raise StoreError(
                "A blend cannot be named 'archive', which is the folder of earlier blends. Choose another --name."
            )
        check_case([name], [*self.list(), self.archive_dir.name])

    def _turn(self) -> contextlib.AbstractContextManager[None]:
        """Return a context that keeps writers out."""
        return files.shared_lock(self.root / ".lock")

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
        """Write a blend; return the new path of an archived blend with the same name, or None.

        Args:
            name: name of the blend; `archive` is reserved.
            result: the fit.
            ids: (n_rows,) training ids in the order of `result.oof`.
            test_ids, test: (n_test,) the blended test predictions, or None.
            details: further facts for blend.json: member fingerprints, fold fingerprint, settings.
        """
        self.check_new(name)
        path = self.path(name)
        facts = {"version": FORMAT_VERSION, "kind": "blend", "name": name, "ids": ids_fingerprint(ids)}
        facts |= result.summary.to_json() | dict(details or {})
        facts["made_at"] = datetime.now(UTC).strftime(_TIME)
        predictor, distributions = _split(result.predictor.to_json(), result.names)
        header = {"version": FORMAT_VERSION, "kind": "blend", "blend": name}
        with files.temporary_folder(path) as part:
            table = pd.DataFrame({"id": ids, "prediction": result.oof, "nested_prediction": result.nested_oof})
            files.write_parquet(part / "oof.parquet", table, header | {"ids": facts["ids"]})
            if test_ids is not None and test is not None:
                facts["test_ids"] = ids_fingerprint(test_ids)
                table = pd.DataFrame({"id": test_ids, "prediction": test})
                files.write_parquet(part / "test.parquet", table, header | {"test_ids": facts["test_ids"]})
            files.write_parquet(part / "distributions.parquet", distributions, header)
            files.write_json(part / "predictor.json", header | predictor)
            facts["sha256"] = {path.name: files.file_sha256(path) for path in part.iterdir()}
            files.write_json(part / "blend.json", facts)
            with files.file_lock(self.root / ".lock"):
                return replace_folder(part, path, self.archive_dir)

    def archive_all(self) -> "builtins.list[Path]":
        """Move all blends, also damaged ones, to the archive, and return their new paths."""
        if not self.root.is_dir():
            return []
        with files.file_lock(self.root / ".lock"):
            folders = [path for path in sorted(self.root.iterdir()) if path.is_dir() and path.name[0] != "."]
            return [files.archive(path, self.archive_dir) for path in folders if path != self.archive_dir]

    def facts(self, name: str) -> dict[str, Any]:
        """Return blend.json of a blend, without reading its predictions.

        Raises:
            StoreError: if there is no such blend, or a newer version of dfens wrote it.
        """
        with self._turn():
            return self._facts(name)

    def _facts(self, name: str) -> dict[str, Any]:
        if name not in self._names():
            listed = examples(self._names(), 10)
            raise StoreError(
                f"There is no blend '{name}'; existing blends: {listed or 'none'}. "
                f"{'Choose one of them, or run' if listed else 'Run'} dfens blend --name {name}."
            )
        path = self.path(name) / "blend.json"
        facts = files.read_json(path, "version")
        if facts["version"] not in _READABLE:
            raise StoreError(
                f"{path} has format version {facts['version']}; this dfens reads {FORMAT_VERSION}. "
                f"Run dfens blend --name {name} with its options to create it again."
            )
        with _named_damage(path, name):
            if facts["version"] == 1:
                facts["methods"] = facts.pop("attempts")
                written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                facts |= {"made_at": written.strftime(_TIME), "calibration": None}
            datetime.strptime(facts["made_at"], _TIME)
            BlendSummary.from_json(facts)  # checks types
            prints = {key: facts[key] for key in ("fingerprints", "contains") if key in facts}
            typed(dict[str, dict[str, str]], prints)
            typed(dict[str, Any], facts.get("settings", {}))
            typed(dict[str, str], facts.get("sha256", {}))
            if facts.get("features"):
                typed(_Features, facts["features"])
        return facts

    def models_of(self, name: str) -> dict[str, str]:
        """Return everything that a blend was made of: its members, and the members of blends among them.

        Returns:
            Fingerprint of the OOF predictions by name, as they were then. Blends of earlier versions have recorded only
            the names of their own members; others are looked up, and all fingerprints are "".
        """
        found: dict[str, str] = {}
        waiting = [name]
        while waiting:
            facts = self.facts(waiting.pop())
            for member, fingerprint in facts.get("contains", {item["name"]: "" for item in facts["members"]}).items():
                if member not in found:
                    found[member] = fingerprint
                    waiting += [member] if "contains" not in facts and member in self else []
        return found

    def load(self, name: str) -> StoredBlend:
        """Read a blend with its predictions.

        Raises:
            StoreError: if there is no such blend, or one of its files is truncated.
        """
        with self._turn():
            facts = self._facts(name)
            folder = self.path(name)
            with _named_damage(folder, name):
                oof = _read_part(folder / "oof.parquet", facts, "ids", "nested_prediction")
                test = _read_part(folder / "test.parquet", facts, "test_ids") if "test_ids" in facts else None
            _check_unchanged(folder, facts, "oof.parquet", "test.parquet")
        return StoredBlend(
            name,
            oof["id"].to_numpy(object),
            oof["prediction"].to_numpy(np.float64),
            oof["nested_prediction"].to_numpy(np.float64),
            None if test is None else test["id"].to_numpy(object),
            None if test is None else test["prediction"].to_numpy(np.float64),
            facts,
        )

    def load_predictor(self, name: str) -> Predictor:
        """Read the predictor of a blend; members are in the order of `facts["members"]`.

        Raises:
            StoreError: if there is no such blend, or an earlier dfens wrote it without its predictor.
        """
        with self._turn():
            facts = self._facts(name)
            folder = self.path(name)
            if facts["version"] == 1:
                raise StoreError(
                    f"The blend '{name}' has no stored predictor. Run dfens blend --name {name} with its options."
                )
            with _named_damage(folder, name):
                value = files.read_json(folder / "predictor.json", "predictor")
                parts = folder / "distributions.parquet"
                table, header = files.read_parquet(parts, "fold", "model", "knot", "cdf")
                _check_owner(folder / "predictor.json", value, facts)
                _check_owner(parts, header, facts)
                _check_unchanged(folder, facts, "predictor.json", "distributions.parquet")
                return predictor_from_json(_joined(value, table, [member["name"] for member in facts["members"]]))


@contextlib.contextmanager
def _named_damage(path: Path, name: str) -> Iterator[None]:
    """Turn the errors caused by a file that was deleted or edited by hand into a StoreError."""
    try:
        yield
    except (FileNotFoundError, LookupError, TypeError, ValueError, AttributeError) as err:
        what = f"{err.filename} is missing" if isinstance(err, FileNotFoundError) else f"{path} is damaged ({err!r})"
        raise StoreError(
            f"{what}: it was deleted or edited by hand. Restore it, or run dfens blend --name {name} with its options."
        ) from err


def _read_part(path: Path, facts: Mapping[str, Any], ids: str, *columns: str) -> pd.DataFrame:
    table, header = files.read_parquet(path, "id", "prediction", *columns)
    if header.get(ids) != facts[ids]:
        raise StoreError(f"{path} has other ids than blend.json: it belongs to another blend. Restore it.")
    _check_owner(path, header, facts)
    return table


def _check_owner(path: Path, header: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Raise StoreError if a file was written for another blend than blend.json."""
    if header.get("blend") != facts["name"]:
        raise StoreError(
            f"{path} belongs to the blend '{header.get('blend')}', but blend.json to '{facts['name']}': one of them "
            f"was copied from another folder. Restore it, or run dfens blend --name {facts['name']} with its options."
        )


def _check_unchanged(folder: Path, facts: Mapping[str, Any], *names: str) -> None:
    """Raise StoreError if a file (of `names`, if given) is not the one that was stored with blend.json.

    Blends of earlier versions have not recorded their files.
    """
    for name, sha256 in facts.get("sha256", {}).items():
        if names and name not in names:
            continue
        path = folder / name
        with _named_damage(folder, folder.name):
            try:
                is_same = files.file_sha256(path) == sha256
            except FileNotFoundError:
                raise
            except OSError as err:
                raise StoreError(files.read_error(path, err)) from err
        if not is_same:
            raise StoreError(
                f"{path} is not the file that was stored with blend.json: one of them was edited by hand, copied from "
                f"another blend, or put back from the archive. Restore it, or run dfens blend --name {folder.name} "
                f"with its options."
            )


def _split(predictor: dict[str, Any], names: tuple[str, ...]) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the predictor without distributions, and these as a table: fold (-1: all folds), model, knot, cdf."""
    found = predictor.pop("distributions", [])
    sizes = [len(item["knots"]) for item in found]
    table = pd.DataFrame(
        {
            "fold": np.repeat(np.array([item["fold"] for item in found], np.int64), sizes),
            "model": np.repeat(np.array([names[item["model"]] for item in found], object), sizes),
            "knot": np.concatenate([np.empty(0), *(item["knots"] for item in found)]),
            "cdf": np.concatenate([np.empty(0), *(item["cdf"] for item in found)]),
        }
    )
    return {"predictor": predictor}, table


def _joined(value: Mapping[str, Any], table: pd.DataFrame, names: Sequence[str]) -> dict[str, Any]:
    """Return the predictor with its distributions, by fold and model."""
    position = {name: index for index, name in enumerate(names)}
    distributions = []
    models = table["model"].map(position)
    for fold in sorted(set(table["fold"])):
        for model in range(len(names)):
            part = table[(table["fold"] == fold) & (models == model)]
            knots, cdf = part["knot"].to_numpy(), part["cdf"].to_numpy()
            distributions.append({"fold": int(fold), "model": model, "knots": knots, "cdf": cdf})
    return dict(value["predictor"]) | {"distributions": distributions}
