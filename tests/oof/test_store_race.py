"""Concurrent readers and writers: a stored model is the old one or the new one, never a mixture."""

import contextlib
import errno
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from oof import files, replacing
from oof.errors import DfensError, PredictionError, StoreError
from oof.folds import make_folds
from oof.predictions import NewModel
from oof.store import PredictionStore
from tests.support.edits import edit_json
from tests.support.interleaving import Killed
from tests.support.rights import without_root_rights
from tests.support.side_by_side import run_together

N, ROUNDS = 24, 25


@pytest.fixture
def store(tmp_path: Path) -> PredictionStore:
    store = PredictionStore(tmp_path / "oof")
    ids = np.array([f"{i:03d}" for i in range(N)], object)
    store.save_folds(make_folds(ids, np.arange(N) % 2, k=2, seed=0))
    store.save_test_ids(np.array(["x", "y"], object))
    return store


def save(store: PredictionStore, value: float, *names: str) -> None:
    ids = store.folds.ids
    store.save_all([NewModel(name=name, ids=ids, oof=np.full(N, value), test=np.full(2, value)) for name in names])


def test_concurrent_readers_see_complete_models(store: PredictionStore) -> None:
    save(store, 0.0, "m")
    done = threading.Event()
    seen: Counter[str] = Counter()

    def write(first: float) -> None:
        own = PredictionStore(store.root)
        for number in range(ROUNDS):
            save(own, first + number, "m", "other")

    def read() -> None:
        while not done.is_set():
            own = PredictionStore(store.root)
            assert "m" in [summary.name for summary in own.list()]
            model = own.load("m")
            assert model.test is not None
            seen["whole" if model.oof[0] == model.test[0] == model.oof[-1] else "mixed"] += 1

    def write_all() -> None:
        errors.extend(run_together(lambda: write(1.0), lambda: write(100.0)))
        done.set()

    errors: list[str] = []
    errors.extend(run_together(write_all, read, read))
    assert errors == []
    assert seen["whole"] > 0
    assert seen["mixed"] == 0
    assert len(list(store.archive_dir.iterdir())) == 4 * ROUNDS - 1  # nothing was lost
    assert sorted(path.name for path in (store.root / "models").iterdir()) == ["m", "other"]


@pytest.mark.parametrize("moves", range(3))
def test_a_process_killed_while_it_replaces_a_model_leaves_one_in_place(
    store: PredictionStore, moves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a blend of all models would lack this one, and dfens submit would send another blend."""
    save(store, 1.0, "m")
    rename, done = Path.rename, list[Path]()

    def rename_or_die(path: Path, target: Path) -> Path:
        if len(done) == moves:
            raise Killed
        done.append(path)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_or_die)
    with contextlib.suppress(Killed):
        save(store, 2.0, "m")
    assert PredictionStore(store.root).load("m").oof[0] == (1.0 if moves == 0 else 2.0)


def test_a_model_is_not_stored_if_the_rows_are_replaced_while_it_is_written(
    store: PredictionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = files.write_json

    def replace_rows_and_write(path: Path, value: object) -> None:
        PredictionStore(store.root).save_test_ids(np.array(["x", "z"], object))
        write(path, value)

    monkeypatch.setattr(files, "write_json", replace_rows_and_write)  # of model.json, after the predictions
    with pytest.raises(StoreError, match="rows to predict were replaced by another process"):
        save(store, 1.0, "m")
    assert PredictionStore(store.root).list() == []


@pytest.mark.parametrize("exchange", [False, True])
def test_a_replaced_model_is_in_the_archive(
    store: PredictionStore, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:  # a disk that cannot exchange two folders
        monkeypatch.setattr(replacing, "_exchange", lambda one, other: False)
    save(store, 1.0, "m")
    save(store, 2.0, "m")
    (archived,) = store.archive_dir.iterdir()
    assert archived.name.endswith("-m")
    assert files.read_parquet(archived / "oof.all.parquet")[0]["prediction"][0] == 1.0
    assert store.load("m").oof[0] == 2.0
    assert [path.name for path in store.models_dir.iterdir()] == ["m"]


def test_models_that_are_archived_while_all_are_read_are_left_out(store: PredictionStore) -> None:
    save(store, 1.0, "a", "b", "c")
    reads = []

    def read(name: str) -> str:
        reads.append(name)
        if name == "b":
            store.archive("b")
        if reads.count("c") == 1:  # stored again before the second attempt
            store.archive("c")
            save(store, 2.0, "c")
            raise StoreError("There is no model 'c'.")
        return store.load(name).name

    assert store.each(read) == ["a", "c"]
    assert reads == ["a", "b", "c", "c"]
    (store.root / "models" / "a" / "oof.all.parquet").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be read as Parquet"):
        store.each(store.load)


@pytest.mark.parametrize("other_disk", [False, True])
def test_an_archived_model_has_no_temporary_files_of_writers(
    store: PredictionStore, other_disk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(store, 1.0, "m")
    folder = store.root / "models" / "m"
    before = sorted(path.name for path in folder.iterdir())
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path == folder and target.parent == store.archive_dir:
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(path), None, str(target))
        return rename(path, target)

    if other_disk:
        monkeypatch.setattr(Path, "rename", refuse)
    (folder / ".oof.fold0.parquet.killed.part").write_bytes(b"of a killed process")
    archived = Path()
    with (
        pytest.raises(DfensError, match="was moved or removed at the same time: run the same command again"),
        files.atomic_path(folder / "oof.fold1.parquet") as part,
        files.temporary_folder(folder / "sub"),
    ):
        part.write_bytes(b"half")
        archived = store.archive("m")
    assert sorted(path.name for path in archived.iterdir()) == before
    assert not folder.exists()
    assert "m" not in store


def test_a_model_that_cannot_be_written_leaves_the_others_as_they_were(store: PredictionStore) -> None:
    save(store, 1.0, "a")
    before = store.fingerprint("a")
    models = [
        NewModel(name="a", ids=store.folds.ids, oof=np.zeros(N)),
        NewModel(name="b", ids=store.folds.ids, oof=np.full(N, 1e300)),
    ]
    with pytest.raises(PredictionError, match="NaN or infinite"):
        store.save_all(models)
    assert store.names() == ["a"]
    assert store.fingerprint("a") == before
    assert [path.name for path in (store.root / "models").iterdir()] == ["a"]


def test_folders_of_other_programs_are_ignored(store: PredictionStore) -> None:
    save(store, 1.0, "m")
    for stray in (".ipynb_checkpoints", "lost+found", "my model", "empty", ".m.123-abc.part"):
        (store.root / "models" / stray).mkdir()
    assert [summary.name for summary in store.list()] == ["m"]


def test_damage_is_named_with_its_file(store: PredictionStore) -> None:
    save(store, 1.0, "m")
    folder = store.root / "models" / "m"
    details, oof = folder / "model.json", folder / "oof.all.parquet"
    whole = details.read_text()
    for text, message in (("[]", "contains a list, not an object"), ('{"version": 1}', "lacks the key 'kind'")):
        details.write_text(text)
        with pytest.raises(StoreError, match=f"model.json {message}"):
            store.list()
    details.write_text(whole)
    oof.rename(folder / "kept")
    oof.symlink_to(folder / "nowhere")
    with pytest.raises(StoreError, match="a link to a file that does not exist"):
        store.load("m")
    oof.unlink()
    oof.mkdir()
    with pytest.raises(StoreError, match="is a folder where a file is expected"):
        store.load("m")
    oof.rmdir()
    (folder / "kept").rename(folder / "oof.fold1.parquet")
    with pytest.raises(StoreError, match="which does not match its name"):
        store.load("m")


@pytest.mark.parametrize("part", ["oof", "test"])
def test_files_of_different_imports_are_not_mixed(store: PredictionStore, part: str) -> None:
    save(store, 1.0, "m")
    save(store, 2.0, "m")
    (archived,) = store.archive_dir.iterdir()
    place = store.root / "models" / "m" / f"{part}.all.parquet"
    newer = place.read_bytes()
    place.write_bytes((archived / place.name).read_bytes())
    with pytest.raises(StoreError, match=f"{part}.all.parquet is not the file that belongs to model.json"):
        store.load("m")
    place.write_bytes(newer)
    assert store.load("m").oof[0] == 2.0
    edit_json(place.with_name("model.json"), ("sha256",), {})  # as an earlier version wrote it
    place.write_bytes((archived / place.name).read_bytes())
    store.load("m")


def test_an_unreadable_file_is_not_reported_as_truncated(store: PredictionStore) -> None:
    store.folds_path.chmod(0)
    with without_root_rights(), pytest.raises(StoreError, match="Permission denied.*give this user permission"):
        _ = PredictionStore(store.root).folds


def test_the_remedy_for_missing_permission_is_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StoreError, match="Permission denied.*It may be intact: give this user permission"):
        files.read_parquet(path)


def test_the_remedy_for_a_missing_file_is_not_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    with pytest.raises(FileNotFoundError) as caught:
        path.open()
    text = files.read_error(path, caught.value)
    assert text == f"{path} cannot be read (No such file or directory). Restore it, or run dfens status for the " + (
        "command that creates it again."
    )


def test_fingerprints_do_not_depend_on_the_order_of_rows(store: PredictionStore, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    oof, test = rng.random(N), rng.random(2)
    store.save("m", store.folds.ids, oof, test)
    other = PredictionStore(tmp_path / "other")
    order = rng.permutation(N)
    folds = make_folds(store.folds.ids[order], store.folds.target[order], k=2, seed=0)
    other.save_folds(folds)
    other.save_test_ids(store.test_ids[::-1])
    other.save("m", store.folds.ids, oof, test[::-1])
    assert other.folds.ids.tolist() != store.folds.ids.tolist()
    assert other.fingerprint("m") == store.fingerprint("m")
    before = store.folds_path.read_bytes()
    assert store.save_folds(folds) is None
    store.save_test_ids(store.test_ids[::-1])
    assert store.folds_path.read_bytes() == before
    assert store.fingerprint("m") == other.fingerprint("m")
