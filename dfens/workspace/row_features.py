"""Features of the rows of the store, read by boosted trees in a blend: of files, groups, and tables of the user."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dfens.workspace.blend_command import blend_command
from dfens.workspace.feature_table import Parts, read_feature_table
from dfens.workspace.paths import Workspace
from ensemble.settings import FEATURES
from oof.cpus import cpu_count
from oof.errors import BlendError, DfensError, examples
from oof.ids import Ids, text_fingerprint
from oof.metrics import roc_auc
from oof.progress import SILENT, Progress
from submissions.table import values_fingerprint
from trainers.runtime.provenance import files_fingerprint

if TYPE_CHECKING:
    from trainers.data.competition import Competition

Matrix = NDArray[np.float32]
Columns = dict[str, Matrix]  # column -> (n_rows,) values of all parts, one part after another

_OF_FILES = tuple(name for name in FEATURES if name != "group")
_MOST_LABELS = 20  # different values of a column of labels or of kinds of fakes
_LABELS_AUC = 0.99


@dataclass(frozen=True, eq=False)
class RowFeatures:
    """Features of the training and test rows, in the row order of the store.

    names: of the columns. oof: (n_rows, n_columns). test: (n_test, n_columns), or None if there are
    no rows to predict. Both are float32, NaN for unknown. facts: provenance for blend.json. notes: what is unknown.
    """

    names: tuple[str, ...]
    oof: Matrix
    test: Matrix | None
    facts: Mapping[str, Any]
    notes: tuple[str, ...]


def read_features(
    workspace: Workspace,
    names: Sequence[str],
    progress: Progress = SILENT,
    *,
    only: Mapping[str, Sequence[str]] | None = None,
) -> RowFeatures | None:
    """Return the features with some names (`[blend] features`) of the training and test rows; None without names.

    A column that is unknown for all training rows, or for all test rows, is left out with a note: trees that read it
    would have a nested score that test predictions cannot reach. With `only`, other columns of a feature are ignored.

    Raises:
        BlendError: if a table lacks rows or has values that are not numbers, files of the competition are needed and
            cannot be found, a feature does not exist for this kind of files, or none is known.
        PredictionError: if a table cannot be read.
    """
    if not names:
        return None
    rows = _Rows(workspace, _training_and_test(workspace))
    table: dict[str, Columns] = {}
    notes: list[str] = []
    for name, found in rows.read(names, progress).items():
        columns = found if only is None else {key: found[key] for key in only.get(name, ()) if key in found}
        kept = {column: values for column, values in columns.items() if not rows.unknown_parts(values)}
        notes += [
            f"Feature {column} is left out: it is unknown for all {rows.unknown_parts(columns[column])[0]} rows."
            for column in columns
            if column not in kept
        ]
        if name not in _OF_FILES:  # sizes that separate the classes are properties of the files, also of test rows
            _refuse_labels(name, kept, workspace.predictions.folds.target)
        table |= {name: kept} if kept else {}
    if not table:
        raise BlendError(
            f"No feature can be used. {' '.join(notes)} Leave them out ([blend] features, --features), or give a table "
            f"(.csv, .parquet) with their values for training and test rows."
        )
    flat = {column: values for columns in table.values() for column, values in columns.items()}
    stacked = dict(rows.by_part(np.stack(list(flat.values()), axis=1)))
    return RowFeatures(
        tuple(flat),
        stacked["training"],
        stacked.get("test"),
        rows.facts(table),
        (*notes, *rows.partly_unknown(flat)),
    )


def read_again(workspace: Workspace, facts: Mapping[str, Any], progress: Progress = SILENT) -> RowFeatures | None:
    """Return the features with which a blend was fitted, for fitting it again; None if it uses none.

    Args:
        facts: blend.json, or the provenance of a submission.

    Raises:
        BlendError: if they cannot be read, or have changed since.
    """
    names = dict(facts.get("settings") or {}).get("features") or ()
    recorded = facts.get("features") or {"columns": [], "fingerprints": {}}
    # a table may have got further columns, or its columns another order
    found = read_features(workspace, names, progress, only=_by_feature(recorded))
    if found is not None and found.facts["fingerprints"] != recorded["fingerprints"]:
        raise BlendError(
            f"The features {', '.join(names)} have changed since the blend '{facts.get('name')}' was made. Run "
            f"{blend_command(facts, workspace.config.blend)}."
        )
    return found


def sealed_features(workspace: Workspace, facts: Mapping[str, Any]) -> Matrix | None:
    """Return the features of the sealed rows, (n_sealed, n_columns), for a blend with features; otherwise None."""
    recorded = facts.get("features")
    if not recorded:
        return None
    return _of_sealed(workspace, [(item["feature"], item["column"]) for item in recorded["columns"]])


def _of_sealed(workspace: Workspace, columns: Sequence[tuple[str, str]]) -> Matrix:
    """Return some columns, each with its feature, of the sealed rows, (n_sealed, n_columns)."""
    # with the other rows, by which the id column of a table is found
    rows = _Rows(workspace, {**_training_and_test(workspace), "sealed": workspace.predictions.sealed_ids})
    found = rows.read([feature for feature, _ in columns], SILENT)
    missing = [column for feature, column in columns if column not in found[feature]]
    if missing or not columns:
        raise BlendError(f"Features of the blend are missing: {examples(missing) or 'all'}. Blend again.")
    stacked = np.stack([found[feature][column] for feature, column in columns], axis=1)
    return dict(rows.by_part(stacked))["sealed"]


def sealed_fingerprints(workspace: Workspace, recorded: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the fingerprint of each feature of the sealed rows; None if it cannot be read; empty without such rows.

    The blend does not depend on them, but its predictions of the sealed rows do. Features of files are not among them,
    since the fingerprint of the files covers those of the sealed rows.
    """
    ids = workspace.predictions.sealed_ids
    found: dict[str, str | None] = {}
    for name, columns in _by_feature(recorded).items() if len(ids) else ():
        if name not in _OF_FILES:
            try:
                found[name] = values_fingerprint(ids, _of_sealed(workspace, [(name, column) for column in columns]))
            except DfensError:
                found[name] = None
    return found


def changed_features(workspace: Workspace, facts: Mapping[str, Any]) -> list[str]:
    """Return the features of a blend that have changed since it was made, without reading the content of media.

    Features of files count as changed if names or sizes of files have changed; if files are missing, which
    `dfens check` lists, nothing can be compared.
    """
    recorded = facts.get("features")
    if not recorded:
        return []
    rows = _Rows(workspace, _training_and_test(workspace))
    changed = []
    for name, columns in _by_feature(recorded).items():
        if name in _OF_FILES:
            is_changed = rows.files_now not in (None, recorded["files"])
        else:
            is_changed = rows.fingerprint_now(name, columns) != recorded["fingerprints"].get(name)
        changed += [f"feature {name}"] if is_changed else []
    of_sealed = recorded.get("sealed")  # absent without sealed rows, and from blends of earlier versions
    now = sealed_fingerprints(workspace, recorded) if of_sealed else {}
    return changed + [
        f"feature {name} of sealed rows"
        for name, fingerprint in now.items()
        if fingerprint != of_sealed.get(name) and f"feature {name}" not in changed
    ]


def _by_feature(recorded: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the columns of each recorded feature."""
    found: dict[str, list[str]] = {}
    for item in recorded["columns"]:
        found.setdefault(item["feature"], []).append(item["column"])
    return found


def _training_and_test(workspace: Workspace) -> Parts:
    store = workspace.predictions
    has_test = store.test_ids_path.exists() and len(store.test_ids) > 0
    return {"training": store.folds.ids} | ({"test": store.test_ids} if has_test else {})


class _Rows:
    """Rows of the store, in one or several parts, and the sources of their features."""

    def __init__(self, workspace: Workspace, parts: Parts) -> None:
        self.workspace, self.parts = workspace, parts

    @cached_property
    def competition(self) -> "Competition":
        return self.workspace.competition()

    def read(self, names: Sequence[str], progress: Progress) -> dict[str, Columns]:
        """Return each feature as columns of all parts."""
        of_files = [name for name in names if name in _OF_FILES]
        found = self._of_files(of_files, progress) if of_files else {}
        owners: dict[str, str] = {}
        for name in dict.fromkeys(names):
            if name == "group":
                found[name] = {"group": self._group_sizes()}
            elif name not in _OF_FILES:
                found[name] = read_feature_table(self.workspace.resolve(name), self.parts)
            for column in found[name]:
                if owners.setdefault(column, name) != name:
                    raise BlendError(
                        f"Both '{owners[column]}' and '{name}' have a feature '{column}'. Rename that of the table."
                    )
        return {name: found[name] for name in dict.fromkeys(names)}

    def _of_files(self, names: Sequence[str], progress: Progress) -> dict[str, Columns]:
        # imported here, since status and report need it only for blends with features
        from trainers.features.file_properties import file_properties

        try:
            competition = self.competition
            tables = {"training": competition.train, "test": competition.test, "sealed": competition.sealed}
            return file_properties(
                [path for part, ids in self.parts.items() for path in _paths(tables[part], ids, part)],
                names,
                competition.media,
                root=competition.root,
                cache_dir=self.workspace.trainers_dir,
                threads=cpu_count(),
                progress=progress,
            )
        except DfensError as err:
            raise BlendError(f"Features of files ({', '.join(names)}) cannot be read. {err}") from err

    def _group_sizes(self) -> Matrix:
        """Return the number of rows that share the group of each row; NaN for test rows, which have no groups."""
        sizes = []
        for part, ids in self.parts.items():
            groups = self._groups(part)
            if groups is None:
                sizes.append(np.full(len(ids), np.nan, np.float32))
            else:
                _, of, counts = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
                sizes.append(counts[of].astype(np.float32))
        return np.concatenate(sizes)

    def _groups(self, part: str) -> Ids | None:
        store = self.workspace.predictions
        if part == "training":
            return store.folds.groups
        sealed = store.sealed_rows() if part == "sealed" else None
        return None if sealed is None else sealed.groups

    def by_part(self, values: Matrix) -> Iterator[tuple[str, Matrix]]:
        """Yield each part with its values."""
        begin = 0
        for part, ids in self.parts.items():
            yield part, values[begin : begin + len(ids)]
            begin += len(ids)

    def unknown_parts(self, values: Matrix) -> list[str]:
        """Return the parts for all of whose rows a column is unknown."""
        return [part for part, rows in self.by_part(values) if np.isnan(rows).all()]

    def partly_unknown(self, columns: Columns) -> Iterator[str]:
        """Yield a note for each set of columns with the same number of unknown values."""
        by_counts: dict[tuple[str, ...], list[str]] = {}
        for column, values in columns.items():
            counts = [(int(np.isnan(rows).sum()), len(rows), part) for part, rows in self.by_part(values)]
            texts = tuple(f"{count} of {most} {part} rows" for count, most, part in counts if count)
            if texts:
                by_counts.setdefault(texts, []).append(column)
        for texts, names in by_counts.items():
            yield f"Feature {', '.join(names)} is unknown for {' and '.join(texts)}."

    def facts(self, table: Mapping[str, Columns]) -> dict[str, Any]:
        """Return the provenance: columns and fingerprint of each feature, and the fingerprint of the files."""
        return {
            # a list, since their order is that of the predictor, and the keys of blend.json are sorted
            "columns": [{"feature": name, "column": column} for name, columns in table.items() for column in columns],
            "fingerprints": {name: self._fingerprint(columns) for name, columns in table.items()},
            "files": self.files_now if set(table) & set(_OF_FILES) else None,
        }

    def _fingerprint(self, columns: Columns) -> str:
        """Return a fingerprint of columns that does not depend on the order of the rows."""
        texts = []
        for column in sorted(columns):
            of = dict(self.by_part(columns[column]))
            test = of["test"][None] if "test" in of else None
            texts.append(f"{column}:{self.workspace.predictions.fingerprint_of(of['training'], test)}")
        return text_fingerprint(texts)

    def fingerprint_now(self, name: str, columns: Sequence[str]) -> str | None:
        """Return the fingerprint of some columns of a feature; None if they cannot be read."""
        try:
            found = self.read([name], SILENT)[name]
            return self._fingerprint({column: found[column] for column in columns})
        except (DfensError, KeyError):
            return None

    @cached_property
    def files_now(self) -> dict[str, Any] | None:
        """The fingerprint of names and sizes of files; None if a file, or the whole data folder, is missing."""
        try:
            return files_fingerprint(self.competition.paths)
        except DfensError:
            return None


def _paths(rows: "pd.DataFrame | None", ids: Ids, part: str) -> list[str]:
    """Return the path of each row of a part."""
    known = np.empty(0, object) if rows is None else rows["id"].to_numpy(object)
    at = pd.Index(known).get_indexer(pd.Index(ids))
    if rows is None or (at < 0).any():
        raise BlendError(
            f"{int((at < 0).sum())} of {len(ids)} {part} rows have no file in the competition: "
            f"{examples(list(ids[at < 0]))}. Run dfens check, which lists how the rows have changed."
        )
    paths: list[str] = rows["path"].iloc[at].tolist()
    return paths


def _refuse_labels(name: str, columns: Columns, target: NDArray[np.int8]) -> None:
    """Raise BlendError for a column of labels, of kinds of fakes, or one that is known for one class only.

    With these, trees would have a perfect nested score.
    """
    for column, values in columns.items():
        inside = values[: len(target)]
        known = ~np.isnan(inside)
        of_one = len(np.unique(target[known])) < len(np.unique(target))
        of_all = not np.isin(target[~known], target[known]).any()  # known for all rows of the class
        if of_one and (known.sum() > 10 or (of_all and len(target) > 10)):
            raise BlendError(
                f"{name}: column '{column}' has values for only one of the classes, which reveals the labels. Add the "
                f"values of the others, or remove it."
            )
        if known.sum() > 10 and _tells(inside[known], target[known]):
            raise BlendError(
                f"{name}: column '{column}' contains the labels, or what is known only with them, which no feature "
                f"may: its few values separate the classes with an AUC of {_LABELS_AUC} or more. Remove it."
            )


def _tells(values: NDArray[Any], target: NDArray[np.int8]) -> bool:
    """Return whether at most 20 different values separate the classes almost perfectly."""
    if len(np.unique(values)) > _MOST_LABELS or len(np.unique(target)) < 2:
        return False
    share = pd.Series(target).groupby(values).transform("mean").to_numpy(np.float64)
    return roc_auc(target, share) >= _LABELS_AUC
