"""Groups and perceptual hashes: near-duplicates are found exactly, groups stay whole."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from oof.errors import ConfigError, DataError, FoldError
from oof.folds import make_folds
from tests.support.competitions import face, make_table, make_track, write_image, write_labels
from trainers.data.check import CheckOptions, check_data
from trainers.data.competition import Competition
from trainers.data.groups import cluster_groups, derive_groups, hash_cache
from trainers.data.layouts import read_competition
from trainers.data.settings import DataSettings
from trainers.features import perceptual_hash
from trainers.features.perceptual_hash import DISTANCE, hash_files, image_hash, near_groups, nearest_hashes
from trainers.media import file_scan
from trainers.media.arrays import Image


def apart(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> int:
    return int(np.unpackbits((a ^ b).view(np.uint8)).sum())


def random_hashes(rows: int, rng: np.random.Generator) -> NDArray[np.uint64]:
    return rng.integers(0, 2**64, (rows, 4), np.uint64)


def with_bits_flipped(value: NDArray[np.uint64], count: int, rng: np.random.Generator) -> NDArray[np.uint64]:
    bits = np.unpackbits(value.view(np.uint8))
    bits[rng.choice(256, count, replace=False)] ^= 1
    packed: NDArray[np.uint64] = np.packbits(bits).view(np.uint64)
    return packed


def changed(image: Image, how: str) -> Image:
    if how == "jpeg":
        return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 1), np.uint8)
    if how == "half":
        return np.asarray(cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA), np.uint8)
    if how == "bright":
        return np.asarray(np.clip(image * 1.15 + 5, 0, 255), np.uint8)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.5), np.uint8)


@pytest.mark.parametrize("how", ["jpeg", "half", "bright", "blur"])
def test_a_modified_copy_is_closer_than_any_other_face(how: str) -> None:
    faces = [face(seed, size=256) for seed in range(12)]
    hashes = np.array([image_hash(image) for image in faces])
    between = min(apart(hashes[a], hashes[b]) for a in range(12) for b in range(a))
    within = max(apart(value, image_hash(changed(image, how))) for value, image in zip(hashes, faces, strict=True))
    assert within <= DISTANCE < between


def test_a_blank_image_has_a_hash() -> None:
    flat = [image_hash(np.full((64, 64, 3), value, np.uint8)) for value in (0, 128, 255)]
    assert apart(flat[0], flat[1]) == apart(flat[1], flat[2]) == 0


@pytest.mark.parametrize("distance", [0, 7, 15, 16, 24, 31])
def test_groups_of_near_hashes_equal_a_comparison_of_all_pairs(distance: int) -> None:
    rng = np.random.default_rng(distance)
    hashes = list(random_hashes(60, rng))
    for _ in range(140):
        hashes.append(with_bits_flipped(hashes[rng.integers(len(hashes))], int(rng.integers(0, 40)), rng))
    rng.shuffle(hashes)
    array = np.array(hashes)
    group = np.arange(len(array))
    for a in range(len(array)):  # from the definition: connected components of near pairs
        for b in range(a):
            if apart(array[a], array[b]) <= distance and group[a] != group[b]:
                group[group == max(group[a], group[b])] = min(group[a], group[b])
    np.testing.assert_array_equal(near_groups(array, distance), group)


@pytest.mark.parametrize("distance", [0, 15, 24, 31])
def test_nearest_hashes_equal_a_comparison_of_all_pairs(distance: int) -> None:
    rng = np.random.default_rng(distance)
    hashes = random_hashes(50, rng)
    queries = np.array([with_bits_flipped(hashes[rng.integers(50)], int(rng.integers(0, 45)), rng) for _ in range(80)])
    queries[0], hashes[7] = hashes[3], hashes[3]
    found, bits = nearest_hashes(hashes, queries, distance)
    for row, query in enumerate(queries):
        all_bits = [apart(query, value) for value in hashes]
        best = int(np.argmin(all_bits))
        if all_bits[best] <= distance:
            assert (found[row], bits[row]) == (best, all_bits[best])
        else:
            assert (found[row], bits[row]) == (-1, distance + 1)


def test_hashes_at_the_largest_guaranteed_distance_are_found() -> None:
    """31 flipped bits, spread over the bands as evenly as possible: the hardest case that must be found."""
    rng = np.random.default_rng(0)
    value = random_hashes(1, rng)[0]
    bits = np.unpackbits(value.view(np.uint8), bitorder="little")
    for band in range(16):
        bits[16 * band + 5] ^= 1
        if band:
            bits[16 * band + 9] ^= 1
    far = np.packbits(bits, bitorder="little").view(np.uint64)
    assert apart(value, far) == 31
    assert near_groups(np.array([value, far]), 31).tolist() == [0, 0]
    assert near_groups(np.array([value, far]), 30).tolist() == [0, 1]
    with pytest.raises(ConfigError, match=r"distance = 32: expected 0 to 31"):
        near_groups(np.array([value, far]), 32)


def test_many_hashes_take_seconds() -> None:
    rng = np.random.default_rng(0)
    hashes = random_hashes(20_000, rng)
    hashes[10_000:10_050] = hashes[:50]
    group = near_groups(hashes)
    assert (group[10_000:10_050] == np.arange(50)).all()
    assert len(np.unique(group)) == 19_950


def test_hashes_are_kept_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(4):
        write_image(tmp_path / f"{seed}.jpg", face(seed))
    paths = [str(tmp_path / f"{seed}.jpg") for seed in range(4)]
    cache = tmp_path / "work" / "phash.parquet"
    first, known = hash_files(paths, root=tmp_path, cache=cache)
    assert known.all()
    write_image(tmp_path / "2.jpg", face(77, size=40))
    read = []

    def load(path: str, *more: object) -> Image:
        read.append(path)
        return face(77)

    monkeypatch.setattr("trainers.features.perceptual_hash.load_image", load)
    second, _ = hash_files(paths[1:], root=tmp_path, cache=cache)
    assert read == [paths[2]]
    np.testing.assert_array_equal(second[[0, 2]], first[[1, 3]])
    assert len(pd.read_parquet(cache)) == 4
    cache.write_bytes(b"cut")
    third, _ = hash_files(paths, root=tmp_path, cache=cache)
    assert third.shape == (4, 4)


def test_files_that_cannot_be_hashed_are_reported(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"")
    hashes, known = hash_files([str(tmp_path / "x.jpg"), str(tmp_path / "none.jpg")], root=tmp_path)
    assert not known.any()
    assert not hashes.any()


# ---- groups -----------------------------------------------------------------


def names_of(competition: Competition, how: str, work_dir: Path) -> NDArray[np.object_]:
    found = derive_groups(competition, how, work_dir=work_dir)
    assert found is not None
    return found.names


def settings(root: Path, group: str | None = None) -> DataSettings:
    return DataSettings(root=root, id="img_name", group=group)


@pytest.mark.parametrize("how", ["duplicates", "clusters"])
def test_images_are_read_with_the_threads_of_the_command(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    competition = read_competition(settings(make_table(tmp_path / "data", rows=12, size=48)))
    started: list[int] = []

    def record(threads: int) -> ThreadPoolExecutor:
        started.append(threads)
        return ThreadPoolExecutor(threads)

    monkeypatch.setattr("trainers.media.image_info.ThreadPoolExecutor", record)
    assert derive_groups(competition, how, work_dir=tmp_path / "work", threads=3) is not None
    assert set(started) == {3}


def test_near_duplicates_share_a_fold(tmp_path: Path) -> None:
    root = make_table(tmp_path / "data", rows=12, size=96)
    write_image(root / "train" / "a003.jpg", face(1, fake=True, size=96), quality=60)  # a copy of a001
    write_image(root / "train" / "a005.jpg", face(1, fake=True, size=64))
    competition = read_competition(settings(root))
    groups = names_of(competition, "duplicates", tmp_path / "work")
    assert groups[1] == groups[3] == groups[5] == "a001.jpg"
    assert len(set(groups)) == 10
    assert hash_cache(tmp_path / "work").is_file()
    ids = competition.train["id"].to_numpy(object)
    folds = make_folds(ids, competition.train["target"].to_numpy(), k=2, seed=0, groups=groups, group="duplicates")
    assert len(set(folds.fold[[1, 3, 5]])) == 1


def test_given_groups_and_near_duplicates_are_merged(tmp_path: Path) -> None:
    root = make_table(tmp_path / "data", rows=8, size=96)
    write_image(root / "train" / "a002.jpg", face(1, fake=True, size=96), quality=70)
    lines = [f"a{row:03d}.jpg,{row % 2},{person}" for row, person in enumerate("ppqqrr")] + [
        "a006.jpg,0,",
        "a007.jpg,1,",
    ]
    (root / "train.csv").write_text("\n".join(["img_name,target,person", *lines]) + "\n")
    competition = read_competition(settings(root, group="person"))
    given = names_of(competition, "none", tmp_path)
    assert given.tolist() == ["p", "p", "q", "q", "r", "r", "row a006.jpg", "row a007.jpg"]
    united = names_of(competition, "duplicates", tmp_path)
    assert united.tolist() == ["a000.jpg"] * 4 + ["a004.jpg"] * 2 + ["a006.jpg", "a007.jpg"]


def test_groups_by_a_column_and_no_groups(tmp_path: Path) -> None:
    root = make_table(tmp_path / "data")
    write_labels(
        root / "train.csv", {f"a{row:03d}.jpg": f"{row % 2},s{row // 4}" for row in range(8)}, "img_name,target,site"
    )
    competition = read_competition(settings(root))
    assert derive_groups(competition, "none", work_dir=tmp_path) is None
    groups = names_of(competition, "column:site", tmp_path)
    assert groups.tolist() == ["s0"] * 4 + ["s1"] * 4
    with pytest.raises(FoldError, match=r"no column 'place'; found img_name, target, site\."):
        derive_groups(competition, "column:place", work_dir=tmp_path)
    with pytest.raises(FoldError, match=r"'cluster' is unknown\. Use none, duplicates, clusters"):
        derive_groups(competition, "cluster", work_dir=tmp_path)


@pytest.mark.parametrize("missing", ["", "nan", "None"])
def test_a_column_of_groups_without_a_value_is_refused(tmp_path: Path, missing: str) -> None:
    root = make_table(tmp_path / "data")
    rows = {f"a{row:03d}.jpg": f"{row % 2},{missing}" for row in range(8)}
    write_labels(root / "train.csv", rows, "img_name,target,site")
    expected = (
        "column 'site' has no value in any of the 8 training rows, so it groups nothing. Name a column with values"
    )
    by_folds = read_competition(settings(root))
    with pytest.raises(FoldError, match=re.escape(f'[folds] group = "column:site": {expected}')):
        derive_groups(by_folds, "column:site", work_dir=tmp_path)
    by_data = read_competition(settings(root, group="site"))
    for how in ("none", "duplicates"):
        with pytest.raises(FoldError, match=re.escape(f"[data] group: {expected}")):
            derive_groups(by_data, how, work_dir=tmp_path)
    report = check_data(by_data, CheckOptions(), report_dir=tmp_path / "report")
    assert [problem.found for problem in report.problems if problem.kind == "groups"] == [
        "[data] group: column 'site' has no value in any of the 8 training rows, so it groups nothing."
    ]
    assert not report.ok


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    root = make_table(tmp_path / "data")
    (root / "train" / "a004.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"1 training images cannot be read: a004\.jpg\. Run dfens check --decode"):
        derive_groups(read_competition(settings(root)), "duplicates", work_dir=tmp_path / "work")


def test_hashing_resumes_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_table(tmp_path / "data", rows=12)
    paths, cache = [str(root / "train" / f"a{row:03d}.jpg") for row in range(12)], tmp_path / "phash.parquet"
    read: list[str] = []

    most = 7

    def stopping(path: str) -> object:
        if len(read) == most:
            raise KeyboardInterrupt
        read.append(path)
        return hash_file(path)

    hash_file = perceptual_hash._hash_file
    monkeypatch.setattr(file_scan, "_AT_ONCE", 2)
    monkeypatch.setattr(file_scan, "_PARTS_SAVED", 2)
    monkeypatch.setattr(perceptual_hash, "_hash_file", stopping)
    with pytest.raises(KeyboardInterrupt):
        hash_files(paths, root=root, cache=cache)
    read.clear()
    most = 100
    hashes, known = hash_files(paths, root=root, cache=cache)
    assert sorted(read) == paths[4:]
    assert known.all()
    np.testing.assert_array_equal(hashes, hash_files(paths, root=root)[0])


def test_clusters_separate_kinds_of_images_and_are_deterministic() -> None:
    rng = np.random.default_rng(0)
    kind = rng.choice(4, 400, p=[0.4, 0.3, 0.2, 0.1])
    features = rng.normal(size=(4, 40))[kind] * 5 + rng.normal(size=(400, 40)) * 0.3
    groups = cluster_groups(features, clusters=4, seed=0)
    assert pd.crosstab(groups, kind).to_numpy().astype(bool).sum() == 4  # one cluster for each kind
    assert pd.Series(groups).value_counts().index.tolist() == [f"cluster 0{number}" for number in range(4)]
    np.testing.assert_array_equal(groups, cluster_groups(features, clusters=4, seed=0))
    constant = np.hstack([features, np.ones((400, 3))])
    assert len(set(cluster_groups(constant, clusters=4, seed=1))) == 4


def test_clusters_of_files_reflect_how_they_were_made(tmp_path: Path) -> None:
    """Blurred and noisy images are two kinds, regardless of their content."""
    root = make_table(tmp_path / "data", rows=40, size=64)
    for row in range(40):
        image = face(row, size=64)
        soft = row % 4 < 2
        noise = np.random.default_rng(row).normal(0, 12, image.shape)
        picture = cv2.GaussianBlur(image, (0, 0), 2) if soft else np.clip(image + noise, 0, 255)
        write_image(root / "train" / f"a{row:03d}.jpg", np.asarray(picture, np.uint8))
    groups = names_of(read_competition(settings(root)), "clusters", tmp_path)
    soft_rows = np.array([row % 4 < 2 for row in range(40)])
    assert not set(groups[soft_rows]) & set(groups[~soft_rows])


def test_clusters_do_not_split_given_groups(tmp_path: Path) -> None:
    """Each group of three has two noisy images and a blurred one, or the reverse, so clusters alone would split it."""
    root = make_table(tmp_path / "data", rows=24, size=64)
    for row in range(24):
        image, soft = face(row, size=64), (row % 3 < 2) == (row < 12)
        noise = np.random.default_rng(row).normal(0, 12, image.shape)
        picture = cv2.GaussianBlur(image, (0, 0), 2) if soft else np.clip(image + noise, 0, 255)
        write_image(root / "train" / f"a{row:03d}.jpg", np.asarray(picture, np.uint8))
    lines = [f"a{row:03d}.jpg,{row % 2},person {row // 3}" for row in range(24)]
    (root / "train.csv").write_text("\n".join(["img_name,target,person", *lines]) + "\n")
    alone = names_of(read_competition(settings(root)), "clusters", tmp_path)
    whole = names_of(read_competition(settings(root, group="person")), "clusters", tmp_path)
    person = np.arange(24) // 3
    assert pd.Series(alone).groupby(person).nunique().max() > 1
    assert pd.Series(whole).groupby(person).nunique().max() == 1
    assert whole[0] in alone[:3]


@pytest.mark.parametrize("how", ["none", "column:original", "duplicates", "clusters"])
def test_groups_do_not_depend_on_the_order_of_the_rows(tmp_path: Path, how: str) -> None:
    root = make_table(tmp_path / "data", rows=24, size=64)
    for row in (3, 5, 11):
        write_image(root / "train" / f"a{row:03d}.jpg", face(1, fake=True, size=64), quality=60)
    lines = [f"a{row:03d}.jpg,{row % 2},{f'a{row - 1:03d}.jpg' if row % 4 == 1 else ''}" for row in range(24)]
    found = []
    for order in (lines, lines[::-1], [lines[at] for at in np.random.default_rng(0).permutation(24)]):
        (root / "train.csv").write_text("\n".join(["img_name,target,original", *order]) + "\n")
        competition = read_competition(settings(root, group="original"))
        groups = names_of(competition, how, tmp_path / "work")
        found.append(dict(zip(competition.train["id"], groups, strict=True)))
    assert found[0] == found[1] == found[2]
    assert len(set(found[0].values())) > 1


def test_a_column_that_only_one_label_file_has_is_empty_in_the_other(tmp_path: Path) -> None:
    root = make_track(tmp_path / "data")
    folder = root / "phase1"
    lines = (folder / "trainset_label.txt").read_text().splitlines()
    (folder / "trainset_label.txt").write_text(
        "\n".join([f"{lines[0]},site", *(f"{line},s{row % 2}" for row, line in enumerate(lines[1:]))]) + "\n"
    )
    competition = read_competition(DataSettings(layout="ffdi", root=root, validation="join"))
    groups = names_of(competition, "column:site", tmp_path)
    assert groups[:3].tolist() == ["s0", "s1", "s0"]
    assert groups[8:].tolist() == [f"row {id_}" for id_ in competition.train["id"][8:]]


@pytest.mark.parametrize("how", ["none", "column:original", "duplicates", "clusters"])
def test_the_note_on_a_column_of_originals_comes_with_the_groups(tmp_path: Path, how: str) -> None:
    root = make_table(tmp_path / "data", rows=12, size=48)
    lines = [f"a{row:03d}.jpg,{row % 2},{f'a{row - 1:03d}.jpg' if row % 2 else ''}" for row in range(12)]
    (root / "train.csv").write_text("\n".join(["img_name,target,original", *lines]) + "\n")
    found = derive_groups(read_competition(settings(root, group="original")), how, work_dir=tmp_path / "work")
    assert found is not None
    assert found.note == "6 rows share the group of the 6 rows that they were made from"


@pytest.mark.parametrize("how", ["data", "folds"])
def test_numbers_of_methods_are_not_originals(tmp_path: Path, how: str) -> None:
    """Methods 1 to 5 are also rows 00001 to 00005 without leading zeros, all of them reals."""
    root = make_table(tmp_path / "data", rows=1)
    names = [f"{row:05d}.jpg" for row in range(40)]
    for name in names:
        write_image(root / "train" / name, face(0, size=32))
    lines = [f"{name},{int(row >= 20)},{row % 5 + 1 if row >= 20 else 0}" for row, name in enumerate(names)]
    (root / "train.csv").write_text("\n".join(["img_name,target,method", *lines]) + "\n")
    competition = read_competition(settings(root, group="method" if how == "data" else None))
    found = derive_groups(competition, "none" if how == "data" else "column:method", work_dir=tmp_path)
    assert found is not None
    assert found.note is None
    assert found.names.tolist() == [f"row {name}" for name in names[:20]] + [str(row % 5 + 1) for row in range(20)]
