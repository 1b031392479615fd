"""Read the rows of each part of a competition: ids, labels and paths, and report every kind of mistake."""

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oof.errors import examples
from oof.ids import data_columns
from oof.labels import KNOWN_LABELS, parse_labels
from trainers.data.competition import BrokenRow, Problem
from trainers.data.file_index import AMBIGUOUS, ESCAPES, FOUND, MISSING, FileIndex, Media, media_of
from trainers.data.name_spelling import describe, find_misspellings
from trainers.data.quarantine import read_quarantine
from trainers.data.text_tables import read_text_table, take_column

if TYPE_CHECKING:
    from trainers.data.layout_files import Source, Sources
    from trainers.data.settings import DataSettings

Mask = NDArray[np.bool_]

_MEDIA: dict[str, Media] = {"ffdi": "images", "ffdv": "clips"}
_FILE_REMEDIES = {  # by kind of problem, and whether it concerns the test set
    ("missing", True): "Each needs a prediction, so test rows are never left out: get these files again "
    "(dfens download).",
    ("missing", False): "Get these files again (dfens download), or leave the rows out with [data] skip_broken = true.",
    ("ambiguous", True): "Add the ending of the correct file to each name.",
    ("ambiguous", False): "Add the ending of the correct file to each name, or leave the rows out with [data] "
    "skip_broken = true.",
}


class RowReader:
    """Reads the parts of one competition, and collects problems and rows that skip_broken leaves out."""

    def __init__(self, settings: "DataSettings", quarantine: Path | None) -> None:
        self.problems: list[Problem] = []
        self.broken: list[BrokenRow] = []
        self.notes: list[str] = []
        self.group_column: str | None = None
        self.media: Media | None = _MEDIA.get(settings.layout, settings.media)
        self._settings = settings
        self._quarantine = quarantine
        self._index: FileIndex | None = None

    def read_labelled(self, source: "Source") -> pd.DataFrame:
        """Return rows with valid labels: id, target, path[, group] and `column:NAME`; other rows are left out."""
        assert source.table is not None
        assert source.target is not None
        table = self._read_table(source)
        # the records of a metadata.json use different names: {"a.mp4": {"label": "FAKE", "original": "b.mp4"}}
        is_metadata = table.attrs["format"] == "JSON"
        is_named = source.target in table or not is_metadata or "label" not in table
        target = source.target if is_named else "label"
        labels = take_column(table, target, source.table, "[data] target")
        rows = self._rows(table, source)
        rows.insert(1, "target", parse_labels(labels))
        group = "original" if source.group is None and is_metadata and "original" in table else source.group
        if group is not None:
            rows["group"] = [
                unicodedata.normalize("NFC", str(value).strip())
                for value in take_column(table, group, source.table, "[data] group")
            ]
            self.group_column = group
        for name in table.columns:
            rows[f"column:{name}"] = table[name]
        wrong = rows["target"].to_numpy() < 0
        if wrong.any():
            self._add_labels_problem(rows, labels, wrong, source, target)
        rows = self._find_files(rows, source)
        return _without(rows, rows["target"].to_numpy() < 0) if wrong.any() else rows

    def _add_labels_problem(
        self, rows: pd.DataFrame, labels: NDArray[np.object_], wrong: Mask, source: "Source", target: str
    ) -> None:
        pairs = [f"{id_} ({label!r})" for id_, label in zip(rows["id"][wrong], labels[wrong], strict=True)]
        distinct = sorted({str(label).strip() for label in labels.tolist()})
        self._add(
            "labels",
            source.part,
            f"{source.table}: {len(pairs)} of {len(rows)} labels are neither 0 (real) nor 1 (fake): "
            f"{examples(pairs)}. The column '{target}' has the values {examples(distinct)}.",
            f"Valid labels are {KNOWN_LABELS}: write 0 and 1 for other values, or name the correct column "
            f"([data] target).",
            list(rows["id"][wrong]),
        )

    def join(self, train: pd.DataFrame, validation: pd.DataFrame) -> pd.DataFrame:
        """Return both sets of rows in one table; a column that one of them lacks is empty there."""
        self.notes.append(f"{len(validation)} validation rows are added to {len(train)} training rows.")
        joined = pd.concat([train, validation], ignore_index=True)
        texts = [name for name in joined.columns if name != "target"]
        joined[texts] = joined[texts].fillna("")
        return joined

    def check_training(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the training rows without duplicate ids, after checking that both classes are present."""
        rows = self._drop_duplicate(rows, "train")
        rows = self._drop_quarantined(rows)
        self._check_classes(rows, "train")
        return rows

    def check_validation(self, train: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the validation rows without duplicate ids; report ids that are also in the training set."""
        rows = self._drop_duplicate(rows, "validation")
        shared = rows["id"].isin(train["id"]).to_numpy()
        if shared.any():
            self._add(
                "shared",
                "validation",
                f"{int(shared.sum())} of {len(rows)} validation ids are in the training set too: "
                f"{examples(list(rows['id'][shared]))}.",
                "Scores on the validation set include training rows.",
                list(rows["id"][shared]),
                is_error=False,
            )
        self._check_classes(rows, "validation")
        return rows

    def read_test(self, sources: "Sources") -> tuple[pd.DataFrame, Path | None]:
        """Return the rows to predict in the order of the sample submission, and that file."""
        source, sample = sources.test, sources.sample
        if source is None:
            return pd.DataFrame({"id": [], "path": []}, dtype=object), None
        wanted = None if sample is None else self._sample_ids(sample, source.id)
        if source.table is None or (source.table == sample and source.path is None):
            assert wanted is not None
            rows = pd.DataFrame({"id": wanted, "path": wanted}, dtype=object)
        else:
            rows = self._rows(self._read_table(source), source)
        duplicate = rows["id"].duplicated().to_numpy()
        if duplicate.any():
            names = sorted(set(rows["id"][duplicate]))
            self._add(
                "duplicate",
                "test",
                f"{len(names)} test ids appear more than once: {examples(names)}.",
                "Each row needs a unique id: get the file again.",
                names,
            )
            rows = _without(rows, duplicate)
        if wanted is not None and source.table is not None and source.table != sample:
            rows, sample = self._match_sample(rows, wanted, sample, source, sources.sample_is_certain)
        return self._find_files(rows, source)[["id", "path"]], sample

    def unlabelled(self, sources: "Sources") -> dict[str, list[str]]:
        """Return the files in each part's folder that have no row in any part."""
        folders: dict[Path, str] = {}
        for source in (sources.train, sources.validation, sources.test):
            if source is not None:
                folders.setdefault(source.folder, source.part)
        index = self._index
        return {part: names for folder, part in folders.items() if index and (names := index.unnamed(folder))}

    # ---- steps --------------------------------------------------------------

    def _read_table(self, source: "Source") -> pd.DataFrame:
        assert source.table is not None
        what = "list of test rows" if source.target is None else "label file"
        return read_text_table(source.table, what, key=source.id)

    def _rows(self, table: pd.DataFrame, source: "Source") -> pd.DataFrame:
        """Return id and file name of each row; a test table without the path column names files by id."""
        assert source.table is not None
        ids = take_column(table, source.id, source.table, "[data] id")
        names = ids
        if source.path is not None and (source.target is not None or source.path in table):
            names = take_column(table, source.path, source.table, "[data] path")
        return pd.DataFrame({"id": ids, "path": names}, dtype=object)

    def _sample_ids(self, sample: Path, column: str) -> NDArray[np.object_]:
        table = read_text_table(sample, "sample submission", key=column)
        if column not in table and len(table.columns) >= 2:
            column = data_columns([str(name) for name in table.columns])[0]  # Kaggle's convention: the id comes first
        return take_column(table, column, sample, "[data] id")

    def _match_sample(
        self, rows: pd.DataFrame, wanted: NDArray[np.object_], sample: Path | None, source: "Source", certain: bool
    ) -> tuple[pd.DataFrame, Path | None]:
        """Return the test rows in the order of the sample submission, which must have the same ids."""
        position = pd.Index(rows["id"]).get_indexer(pd.Index(wanted).unique())
        if not certain and (position < 0).all():
            self.notes.append(
                f"{sample} has none of the test ids: it is probably the template of another phase and is not used."
            )
            return rows, None
        missing = list(pd.Index(wanted).difference(pd.Index(rows["id"])))
        extra = list(pd.Index(rows["id"]).difference(pd.Index(wanted)))
        if missing or extra:
            parts = [f"{len(missing)} of its ids are not in {source.table}: {examples(missing)}"] if missing else []
            parts += [f"{len(extra)} of {source.table} are not in it: {examples(extra)}"] if extra else []
            self._add(
                "sample",
                "test",
                f"The sample submission {sample} and the test rows have different ids: {'; '.join(parts)}.",
                "Both must belong to the same phase: correct [data] test or sample_submission.",
                missing + extra,
            )
            return rows, sample
        return rows.iloc[position].reset_index(drop=True), sample

    def _find_files(self, rows: pd.DataFrame, source: "Source") -> pd.DataFrame:
        """Replace names by paths; missing files are a problem or, with skip_broken, left out of the training rows."""
        names = rows["path"].to_numpy(object)
        if self._index is None:  # the training rows are read first and determine the kind of media
            self.media = self.media or media_of(names, source.folder)
            self._index = FileIndex(self.media)
        paths, state = self._index.find(source.folder, names)
        rows = rows.assign(path=pd.Series(paths, rows.index, object))
        misspelled = self._check_spelling(rows, names, state, source)
        escapes = (state == ESCAPES) & ~misspelled
        if escapes.any():
            self._add(
                "escape",
                source.part,
                f"{int(escapes.sum())} of {len(rows)} file names of {source.table or 'the sample submission'} are "
                f"empty or lead out of {source.folder}: {examples([repr(name) for name in names[escapes]])}.",
                "Expected names inside that folder: correct them, or name the correct column ([data] path).",
                list(rows["id"][escapes]),
            )
        for code, kind, words in (
            (MISSING, "missing", "have no file"),
            (AMBIGUOUS, "ambiguous", "match several files"),
        ):
            concerned = (state == code) & ~misspelled
            if not concerned.any():
                continue
            if source.target is not None and self._settings.skip_broken:
                self._leave_out(rows, concerned, f"{kind} file")
                continue
            found = (
                f"{int(concerned.sum())} of {len(rows)} {source.part} rows {words} in {source.folder}: "
                f"{examples(list(names[concerned]))}."
            )
            self._add(
                kind, source.part, found, _FILE_REMEDIES[kind, source.target is None], list(rows["id"][concerned])
            )
        keep = (state == FOUND) if source.target is not None else ~escapes
        rows = rows if keep.all() else _without(rows, ~keep)
        return rows if source.target is None or source.path is not None else self._drop_same_file(rows, source.part)

    def _check_spelling(
        self, rows: pd.DataFrame, names: NDArray[np.object_], state: NDArray[np.int8], source: "Source"
    ) -> Mask:
        """Report names that match a file except for their spelling, and return the mask of their rows."""
        assert self._index is not None
        # a name with `..` is ambiguous; an absolute path may be that of another machine
        has_steps = np.array([".." in name for name in names], bool)
        lost = np.flatnonzero(((state == MISSING) | (state == ESCAPES)) & ~has_steps)
        misspelled: Mask = np.zeros(len(rows), bool)
        found = find_misspellings(names[lost].tolist(), self._index.below(source.folder)) if len(lost) else []
        if not found:
            return misspelled
        self._index.mark_named(source.folder, [one.file for one in found])
        misspelled[lost] = np.isin(names[lost].astype(str), [one.name for one in found])
        remedy = f"Correct these names in {source.table or 'the sample submission'}, or rename the files."
        settings = self._settings
        if settings.layout == "table" and all((settings.root / one.name).is_file() for one in found[:100]):
            setting = "test_dir" if source.target is None else "train_dir"
            remedy = f'Set [data] {setting} = ".", since the names are relative to {settings.root}.'
        elif settings.layout == "table" and all(one.file.endswith(f"/{one.name}") for one in found):
            column = f"Add a column with the folder and the name, such as {found[0].file}, and name it with [data]"
            remedy = f"{column} path; or move the files into {source.folder}."
            if rows["id"].duplicated().any():
                remedy = f"{column} id, since several rows have the same name."
        self._add(
            "spelling",
            source.part,
            f"{len(found)} of {len(rows)} {source.part} rows have no file with exactly their name in {source.folder}: "
            f"{describe(found)}",
            remedy,
            [f"{one.name} -> {one.file}" for one in found],
        )
        return misspelled

    def _drop_same_file(self, rows: pd.DataFrame, part: str) -> pd.DataFrame:
        """Leave out rows with different ids for the same file, such as `a.jpg` and `./a.jpg`."""
        copies: Mask = rows["path"].duplicated().to_numpy() & ~rows["id"].duplicated().to_numpy()
        if not copies.any():
            return rows
        first = rows.drop_duplicates("path").set_index("path")["id"]
        pairs = [f"{first[path]} = {id_}" for id_, path in zip(rows["id"][copies], rows["path"][copies], strict=True)]
        if self._settings.skip_broken:
            self._leave_out(rows, copies, "second id of a file")
        else:
            self._add(
                "same-file",
                part,
                f"{len(pairs)} files of the {part} rows have two ids: {examples(pairs)}.",
                "In different folds they would be used for both training and scoring. Remove the duplicates, or leave "
                "them out with [data] skip_broken = true.",
                pairs,
            )
        return _without(rows, copies)

    def _drop_duplicate(self, rows: pd.DataFrame, part: str) -> pd.DataFrame:
        """Leave out duplicates of an id, and all rows of an id with two labels."""
        ids = rows["id"]
        if not ids.duplicated().any():
            return rows
        labels = rows.groupby("id", sort=False)["target"].transform("nunique").to_numpy()
        contradictory: Mask = labels > 1
        copies: Mask = ids.duplicated().to_numpy() & ~contradictory
        for mask, kind, words in (
            (copies, "duplicate", "appear more than once, with one label"),
            (contradictory, "contradictory", "appear more than once, with different labels"),
        ):
            if not mask.any():
                continue
            names = sorted(set(ids[mask]))
            if self._settings.skip_broken:
                self._leave_out(rows, mask, "duplicate id" if kind == "duplicate" else "id has two labels")
            else:
                self._add(
                    kind,
                    part,
                    f"{len(names)} ids of the {part} rows {words}: {examples(names)}.",
                    "Remove the duplicates, or leave them out with [data] skip_broken = true.",
                    names,
                )
        return _without(rows, copies | contradictory)

    def _drop_quarantined(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Leave out rows that an earlier check found unreadable."""
        if not self._settings.skip_broken or self._quarantine is None:
            return rows
        reasons = read_quarantine(self._quarantine, self._settings.root)
        if not reasons:
            return rows
        mask = rows["path"].isin(list(reasons)).to_numpy()
        for id_, path in zip(rows["id"][mask], rows["path"][mask], strict=True):
            self.broken.append(BrokenRow(id_, path, reasons[path]))
        return _without(rows, mask)

    def _check_classes(self, rows: pd.DataFrame, part: str) -> None:
        counts = np.bincount(rows["target"].to_numpy(np.int64), minlength=2)
        if counts.min() > 0 or (not len(rows) and any(problem.part == part for problem in self.problems)):
            return  # if no row is left, the reason is among the problems
        what = f"all {len(rows)} labels are {int(counts.argmax())}" if len(rows) else "no usable row is left"
        self._add(
            "classes",
            part,
            f"The {part} rows have at most one class: {what}.",
            "Both 0 (real) and 1 (fake) are needed: check the label file, or name the correct column ([data] target).",
            is_error=part == "train",
        )

    def _leave_out(self, rows: pd.DataFrame, mask: Mask, reason: str) -> None:
        pairs: Any = zip(rows["id"][mask], rows["path"][mask], strict=True)
        self.broken.extend(BrokenRow(id_, path, reason) for id_, path in pairs)

    def _add(
        self, kind: str, part: str, found: str, remedy: str, items: "list[str] | None" = None, *, is_error: bool = True
    ) -> None:
        self.problems.append(Problem(kind, part, found, remedy, tuple(items or ()), is_error))


def _without(rows: pd.DataFrame, mask: Mask) -> pd.DataFrame:
    return rows[~mask].reset_index(drop=True)
