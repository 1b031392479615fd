"""Rows of one part of a competition: ids, labels and paths, each kind of mistake found by name."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oof.errors import examples
from trainers.data.file_index import AMBIGUOUS, ESCAPES, FOUND, MISSING, Listing
from trainers.data.label_tables import parse_labels, read_text_table, take_column
from trainers.data.layouts import BrokenRow, Problem
from trainers.data.quarantine import read_quarantine

if TYPE_CHECKING:
    import pandas as pd

    from trainers.data.layout_files import Source, Sources
    from trainers.data.layouts import DataSettings

Mask = NDArray[np.bool_]


class RowReader:
    """Reads the parts of one competition; collects problems, and rows that skip_broken leaves out."""

    def __init__(self, settings: "DataSettings", quarantine: Path | None) -> None:
        self.problems: list[Problem] = []
        self.broken: list[BrokenRow] = []
        self.notes: list[str] = []
        self._settings = settings
        self._quarantine = quarantine
        self._listing = Listing()

    def read_labelled(self, source: "Source") -> "pd.DataFrame":
        """Rows with labels: id, target, path[, group] and `column:NAME`; rows with an unusable label are left out."""
        assert source.table is not None
        assert source.target is not None
        table = self._read_table(source)
        labels = take_column(table, source.target, source.table, "[data] target")
        rows = self._rows(table, source)
        rows.insert(1, "target", parse_labels(labels))
        if source.group is not None:
            rows["group"] = take_column(table, source.group, source.table, "[data] group")
        for name in table.columns:
            rows[f"column:{name}"] = table[name]
        wrong = rows["target"].to_numpy() < 0
        if wrong.any():
            pairs = [f"{id_} ({label!r})" for id_, label in zip(rows["id"][wrong], labels[wrong], strict=True)]
            self._add(
                "labels",
                source.part,
                f"{source.table}: {len(pairs)} of {len(rows)} labels are neither 0 (real) nor 1 (fake): "
                f"{examples(pairs)}.",
                "Correct them, or name the right column ([data] target).",
                list(rows["id"][wrong]),
            )
            rows = _without(rows, wrong)
        return self._find_files(rows, source)

    def join(self, train: "pd.DataFrame", validation: "pd.DataFrame") -> "pd.DataFrame":
        """Training and validation rows in one table."""
        import pandas as pd

        self.notes.append(f"{len(validation)} validation rows are joined to {len(train)} training rows.")
        return pd.concat([train, validation], ignore_index=True)

    def check_training(self, rows: "pd.DataFrame") -> "pd.DataFrame":
        """Doubled ids and classes, over all rows to train on."""
        rows = self._drop_doubled(rows, "train")
        rows = self._drop_quarantined(rows)
        self._check_classes(rows, "train")
        return rows

    def check_validation(self, train: "pd.DataFrame", rows: "pd.DataFrame") -> "pd.DataFrame":
        """Doubled ids within the validation set, and ids that the training set has too."""
        rows = self._drop_doubled(rows, "validation")
        shared = rows["id"].isin(train["id"]).to_numpy()
        if shared.any():
            self._add(
                "shared",
                "validation",
                f"{int(shared.sum())} of {len(rows)} validation ids stand in the training set too: "
                f"{examples(list(rows['id'][shared]))}.",
                "Scores on the validation set count rows that were trained on.",
                list(rows["id"][shared]),
                is_error=False,
            )
        self._check_classes(rows, "validation")
        return rows

    def read_test(self, sources: "Sources") -> tuple["pd.DataFrame", Path | None]:
        """Rows to predict in the order of the sample submission, and that file."""
        import pandas as pd

        source, sample = sources.test, sources.sample
        if source is None:
            return pd.DataFrame({"id": [], "path": []}, dtype=object), None
        wanted = None if sample is None else self._sample_ids(sample, source.id)
        if source.table is None or (source.table == sample and source.path is None):
            assert wanted is not None
            rows = pd.DataFrame({"id": wanted, "path": wanted}, dtype=object)
        else:
            rows = self._rows(self._read_table(source), source)
        doubled = rows["id"].duplicated().to_numpy()
        if doubled.any():
            names = sorted(set(rows["id"][doubled]))
            self._add(
                "doubled",
                "test",
                f"{len(names)} test ids stand more than once: {examples(names)}.",
                "Each row needs an id of its own: get the file again.",
                names,
            )
            rows = _without(rows, doubled)
        if wanted is not None and source.table is not None and source.table != sample:
            rows, sample = self._match_sample(rows, wanted, sample, source, sources.sample_is_certain)
        return self._find_files(rows, source)[["id", "path"]], sample

    def unlabelled(self, sources: "Sources") -> dict[str, list[str]]:
        """Files of each part's folder that no row of any part names."""
        folders: dict[Path, str] = {}
        for source in (sources.train, sources.validation, sources.test):
            if source is not None:
                folders.setdefault(source.folder, source.part)
        return {part: names for folder, part in folders.items() if (names := self._listing.unnamed(folder))}

    # ---- steps --------------------------------------------------------------

    def _read_table(self, source: "Source") -> "pd.DataFrame":
        assert source.table is not None
        return read_text_table(source.table, "list of test rows" if source.target is None else "label file")

    def _rows(self, table: "pd.DataFrame", source: "Source") -> "pd.DataFrame":
        """Id and file name of each row; a test table without the path column names files by id."""
        import pandas as pd

        assert source.table is not None
        ids = take_column(table, source.id, source.table, "[data] id")
        names = ids
        if source.path is not None and (source.target is not None or source.path in table):
            names = take_column(table, source.path, source.table, "[data] path")
        return pd.DataFrame({"id": ids, "path": names}, dtype=object)

    def _sample_ids(self, sample: Path, column: str) -> NDArray[np.object_]:
        table = read_text_table(sample, "sample submission")
        if column not in table and len(table.columns) >= 2:
            column = str(table.columns[0])  # Kaggle's own rule: the id stands first
        return take_column(table, column, sample, "[data] id")

    def _match_sample(
        self, rows: "pd.DataFrame", wanted: NDArray[np.object_], sample: Path | None, source: "Source", certain: bool
    ) -> tuple["pd.DataFrame", Path | None]:
        """Test rows in the order of the sample submission, which must name the same ids."""
        import pandas as pd

        position = pd.Index(rows["id"]).get_indexer(pd.Index(wanted).unique())
        if not certain and (position < 0).all():
            self.notes.append(
                f"{sample} names none of the test rows: taken for another phase's template, and not used."
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
                f"The sample submission {sample} has other ids than the test rows: {'; '.join(parts)}.",
                "Both must be of the same phase: correct [data] test or sample_submission.",
                missing + extra,
            )
            return rows, sample
        return rows.iloc[position].reset_index(drop=True), sample

    def _find_files(self, rows: "pd.DataFrame", source: "Source") -> "pd.DataFrame":
        """Replace names by paths; missing files are a problem or, in training, left out if so set."""
        import pandas as pd

        names = rows["path"].to_numpy(object)
        paths, state = self._listing.find(source.folder, names)
        rows = rows.assign(path=pd.Series(paths, rows.index, object))
        escapes = state == ESCAPES
        if escapes.any():
            self._add(
                "escape",
                source.part,
                f"{int(escapes.sum())} of {len(rows)} file names of {source.table or 'the sample submission'} are "
                f"empty or lead out of {source.folder}: {examples([repr(name) for name in names[escapes]])}.",
                "Expected names inside that folder: correct them, or name the right column ([data] path).",
                list(rows["id"][escapes]),
            )
        for code, kind, words in ((MISSING, "missing", "have no file"), (AMBIGUOUS, "ambiguous", "fit several files")):
            rows_of = state == code
            if not rows_of.any():
                continue
            found = (
                f"{int(rows_of.sum())} of {len(rows)} {source.part} rows {words} in {source.folder}: "
                f"{examples(list(names[rows_of]))}."
            )
            if source.target is None:
                remedy = (
                    "Each needs a prediction, so test rows are never left out: get these files again (dfens download)."
                )
            else:
                remedy = "Get these files again (dfens download), or leave the rows out with [data] skip_broken = true."
            if source.target is not None and self._settings.skip_broken:
                self._leave_out(rows, rows_of, f"{kind} file")
            else:
                self._add(kind, source.part, found, remedy, list(rows["id"][rows_of]))
        keep = (state == FOUND) if source.target is not None else ~escapes
        return rows if keep.all() else _without(rows, ~keep)

    def _drop_doubled(self, rows: "pd.DataFrame", part: str) -> "pd.DataFrame":
        """Ids that stand more than once: copies are left out, and wholly those with two labels."""
        ids = rows["id"]
        if not ids.duplicated().any():
            return rows
        labels = rows.groupby("id", sort=False)["target"].transform("nunique").to_numpy()
        contradictory: Mask = labels > 1
        copies: Mask = ids.duplicated().to_numpy() & ~contradictory
        for mask, kind, words in (
            (copies, "doubled", "stand more than once, with one label"),
            (contradictory, "contradictory", "stand more than once, with different labels"),
        ):
            if not mask.any():
                continue
            names = sorted(set(ids[mask]))
            if self._settings.skip_broken:
                self._leave_out(rows, mask, "id stands more than once" if kind == "doubled" else "id has two labels")
            else:
                self._add(
                    kind,
                    part,
                    f"{len(names)} ids of the {part} rows {words}: {examples(names)}.",
                    "Remove the copies, or leave them out with [data] skip_broken = true.",
                    names,
                )
        return _without(rows, copies | contradictory)

    def _drop_quarantined(self, rows: "pd.DataFrame") -> "pd.DataFrame":
        """Leave out what an earlier check found unreadable."""
        if not self._settings.skip_broken or self._quarantine is None:
            return rows
        reasons = read_quarantine(self._quarantine, self._settings.root)
        if not reasons:
            return rows
        mask = rows["path"].isin(list(reasons)).to_numpy()
        for id_, path in zip(rows["id"][mask], rows["path"][mask], strict=True):
            self.broken.append(BrokenRow(id_, path, reasons[path]))
        return _without(rows, mask)

    def _check_classes(self, rows: "pd.DataFrame", part: str) -> None:
        counts = np.bincount(rows["target"].to_numpy(np.int64), minlength=2)
        if counts.min() > 0:
            return
        what = f"all {len(rows)} labels are {int(counts.argmax())}" if len(rows) else "no usable row is left"
        self._add(
            "classes",
            part,
            f"The {part} rows hold one class at most: {what}.",
            "Both 0 (real) and 1 (fake) are needed: check the label file, or name the right column ([data] target).",
            is_error=part == "train",
        )

    def _leave_out(self, rows: "pd.DataFrame", mask: Mask, reason: str) -> None:
        pairs: Any = zip(rows["id"][mask], rows["path"][mask], strict=True)
        self.broken.extend(BrokenRow(id_, path, reason) for id_, path in pairs)

    def _add(
        self, kind: str, part: str, found: str, remedy: str, items: "list[str] | None" = None, *, is_error: bool = True
    ) -> None:
        self.problems.append(Problem(kind, part, found, remedy, tuple(items or ()), is_error))


def _without(rows: "pd.DataFrame", mask: Mask) -> "pd.DataFrame":
    return rows[~mask].reset_index(drop=True)
