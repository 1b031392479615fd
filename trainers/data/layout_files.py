"""Find the files of a competition under the names used by its organisers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from oof.errors import DataError
from oof.packed import PACKED
from oof.paths import resolve_path

if TYPE_CHECKING:
    from trainers.data.settings import DataSettings

_NO_TEST = "There is no test set: nothing can be predicted for a submission."
_TEMPLATES = ("prediction.txt.csv", "sample_submission.csv", "sampleSubmission.csv")


@dataclass(frozen=True)
class Source:
    """One part of a competition: a table of rows and the folder of its media.

    table: file of ids; None if the sample submission has them. id, target, path, group: column names.
    """

    part: str
    table: Path | None
    folder: Path
    id: str
    target: str | None = None
    path: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Sources:
    """All parts of a competition.

    sample_is_certain: False if the template found may be of another phase.
    """

    train: Source
    validation: Source | None
    test: Source | None
    sample: Path | None
    sample_is_certain: bool = True
    notes: tuple[str, ...] = field(default=())


def locate(settings: "DataSettings") -> Sources:
    """Return the files of the layout in the settings.

    Raises:
        DataError: if files are missing, naming them.
    """
    if not settings.root.is_dir():
        raise DataError(
            f"The data folder {settings.root} is missing. Correct [data] root in dfens.toml, or run dfens download."
        )
    return _locate_table(settings) if settings.layout == "table" else _locate_track(settings)


def _locate_table(settings: "DataSettings") -> Sources:
    root = settings.root
    train = Source(
        "train",
        resolve_path(root, settings.train),
        _folder(root, settings.train_dir, "train_dir"),
        settings.id,
        settings.target,
        settings.path,
        settings.group,
    )
    if not settings.test:
        return Sources(train, None, None, None, notes=(_NO_TEST,))
    test = Source(
        "test",
        resolve_path(root, settings.test),
        _folder(root, settings.test_dir, "test_dir"),
        settings.id,
        path=settings.path,
    )
    return Sources(train, None, test, resolve_path(root, settings.sample_submission or settings.test))


def _folder(root: Path, name: str, setting: str) -> Path:
    folder = resolve_path(root, name) if name not in ("", ".") else root
    if not folder.is_dir():
        without = ' If there are no rows to predict, set test = "".' if setting == "test_dir" else ""
        raise DataError(
            f"The folder {folder} is missing. Correct [data] {setting} in dfens.toml, or run dfens download.{without}"
        )
    return folder


def _locate_track(settings: "DataSettings") -> Sources:
    """Locate the image track (ffdi) or the audio-video track (ffdv): phase 1, phase 2, or the plain sample layout."""
    root, column = settings.root, "img_name" if settings.layout == "ffdi" else "video_name"
    first = [root / "phase1", root]
    second = [root / "phase2", root]
    train = _locate_train(root, first, column)
    validation_labels = _one_label_file(first, "val")
    validation_dir = _first(first, ["valset"], want_folder=True)
    validation = None
    if validation_labels is not None and validation_dir is not None:
        validation = Source("validation", validation_labels, validation_dir, column, "target")
    notes = []
    if (validation_labels is None) != (validation_dir is None):
        there, absent = ("labels", "valset/") if validation_dir is None else ("valset/", "val_label.txt")
        notes.append(f"The validation set has {there} but no {absent}: none of it is used for training.")
    test, bases = _locate_test(settings, column, first, second)
    sample, certain = _template(settings, bases, None if test is None else validation_dir)
    if test is None:
        if validation_dir is None and settings.layout == "ffdv":
            notes.append(_NO_TEST)
            return Sources(train, validation, None, None, notes=tuple(notes))
        if validation_dir is None:
            raise DataError(
                f"No test set in {root}: looked for phase2/testset1_seen/ with testset1_seen_nolabel.txt, for "
                f"testset/ with testset_nolabel.txt, and for valset/. Run dfens download."
            )
        names = None if sample is not None else validation_labels
        test = Source("test", names, validation_dir, column)
        if validation is not None and settings.validation == "join":
            notes.append(
                "The rows to predict are the validation set, whose labels are also used for training: the score of "
                'such a submission is meaningless. Set [data] validation = "apart", or add the files of phase 2.'
            )
    if test.table is None and sample is None:
        raise DataError(
            f"The rows to predict are unknown: {test.folder} has no list of names, and there is no sample "
            f"submission ({' or '.join(_TEMPLATES[:2])}) in {' or '.join(str(base) for base in bases)}. Run dfens "
            f"download, or set [data] sample_submission."
        )
    return Sources(train, validation, test, sample, certain, tuple(notes))


def _locate_train(root: Path, bases: Sequence[Path], column: str) -> Source:
    labels = _one_label_file(bases, "train")
    if labels is None:
        raise DataError(
            f"No training labels in {root}: looked for {', '.join(_label_names('train'))} there and in phase1/. "
            f"Correct [data] root or layout in dfens.toml, or run dfens download."
        )
    folder = _first(bases, ["trainset"], want_folder=True)
    if folder is None:
        raise DataError(
            f"Found {labels}, but no folder trainset/ in {root} or {root / 'phase1'}. Unpack the training files "
            f"there, or run dfens download."
        )
    return Source("train", labels, folder, column, "target")


def _locate_test(
    settings: "DataSettings", column: str, first: Sequence[Path], second: Sequence[Path]
) -> tuple[Source | None, Sequence[Path]]:
    """Return the test set with its own folder, and where its template may be; None if it is the validation set."""
    sets = [(second, ["testset1_seen", "testset1seen"], 2), (first, ["testset"], 1)]
    for bases, names, phase in sets:
        if settings.phase not in (None, phase):
            continue
        folder = _first(bases, names, want_folder=True)
        if folder is not None:
            lists = [f"{name}_nolabel{ending}" for name in names for ending in (".txt", ".txt.csv", ".csv")]
            return Source("test", _first([folder.parent, *bases], lists), folder, column), bases
    if settings.phase == 2:
        raise DataError(
            f"[data] phase = 2, but there is no folder phase2/testset1_seen (or testset1seen) in {settings.root}. "
            f"Run dfens download, or leave phase out."
        )
    return None, first


def _template(settings: "DataSettings", bases: Sequence[Path], validation: Path | None) -> tuple[Path | None, bool]:
    """Return the sample submission, and whether it certainly belongs to this test set.

    In phase 1 the rows to predict are the validation set, whose template may still be next to it, or in root.

    Args:
        validation: folder of the validation set, if the rows to predict are others.
    """
    if settings.sample_submission is not None:
        return resolve_path(settings.root, settings.sample_submission), True
    found, root = _first(bases, _TEMPLATES), settings.root
    of_phase_1 = [root] if (root / "phase2").is_dir() else []
    of_phase_1 += [] if validation is None else [root, validation.parent]
    return found, found is None or found.parent not in of_phase_1


def _label_names(part: str) -> list[str]:
    return [f"{part}{middle}_label{ending}" for ending in (".txt", ".txt.csv", ".csv") for middle in ("set", "")]


def _one_label_file(bases: Sequence[Path], part: str) -> Path | None:
    """Return the label file of a part; if there are several, they must agree."""
    found = [base / name for base in bases for name in _label_names(part) if (base / name).is_file()]
    if not found:  # as downloaded
        packed = [f"{name}{ending}" for name in _label_names(part) for ending in PACKED]
        found = [base / name for base in bases for name in packed if (base / name).is_file()]
    if len(found) > 1:
        contents = [_content(path) for path in found]
        for path, content in zip(found[1:], contents[1:], strict=True):
            if content != contents[0]:
                raise DataError(
                    f"{found[0]} and {path} are both label files of the {part} set and differ. Keep the correct one "
                    f"and move the other away."
                )
    return found[0] if found else None


def _content(path: Path) -> list[bytes]:
    """Return the header and the sorted rows of a label file, since their order does not matter."""
    try:
        lines = [line.strip() for line in path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()]
    except OSError as err:
        raise DataError(f"The label file {path} cannot be read: {err.strerror}. Correct its permissions.") from err
    lines = [line for line in lines if line]
    return lines[:1] + sorted(lines[1:])


def _first(bases: Sequence[Path], names: Sequence[str], *, want_folder: bool = False) -> Path | None:
    for base in bases:
        for name in names:
            path = base / name
            if path.is_dir() if want_folder else path.is_file():
                return path
    return None
