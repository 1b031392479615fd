"""Derive groups of training rows that must share a fold, from a column or from the images."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oof.cpus import cpu_count
from oof.errors import DataError, FoldError, examples
from oof.progress import SILENT, Progress
from trainers.data.originals import NO_VALUE_REMEDY, ColumnGroups, column_groups, names_originals, no_value_found

if TYPE_CHECKING:
    import pandas as pd

    from trainers.data.competition import Competition

CLUSTERS = 20  # number used by the winners of the image track
_DIMENSIONS = 32
_FITTED_ROWS = 50_000


@dataclass(frozen=True)
class RowGroups:
    """Groups of rows that must share a fold.

    names: (n_rows,) text. note: a sentence on the interpretation of the column that defines them, if it needs one.
    copies: (n_rows,) near-duplicates alone, before they are united with given groups; None for other methods.
    """

    names: NDArray[np.object_]
    note: str | None = None
    copies: NDArray[np.object_] | None = None


def derive_groups(
    competition: "Competition",
    how: str,
    *,
    work_dir: Path,
    threads: int | None = None,
    progress: Progress = SILENT,
    seed: int = 0,
) -> RowGroups | None:
    """Return the group of each training row, as text; it does not depend on the order of the rows.

    Random folds inflate a score if near-duplicates, or images of the same origin, are on both sides of a
    split; whole groups in a fold show how a model performs on unseen kinds.

    Args:
        competition: the rows.
        how: "none" (the groups in [data] group if set, otherwise no groups),
            "column:NAME" (a column of the training table), "duplicates" (images that differ only
            in encoding, size, brightness or a small crop) or "clusters" (20 kinds of images, so
            that held-out kinds are not in the training rows: by features of a frozen backbone if
            `trainers.features.embeddings` has computed them, otherwise by traces of generation and editing).
        work_dir: folder of this package in the workspace (work/trainers), with hashes and features of images.
        threads: number of decoding threads; None for one per core.
        progress: receives progress while images are read, and a note on the groups.
        seed: seed of the clusters.

    Returns:
        Groups aligned with `competition.train`; None if there are no groups.

    Raises:
        FoldError: if the method or column is unknown, listing the available ones, or the column has no value.
        DataError: if an image cannot be read, or the media are clips.
    """
    train = competition.train
    if how.startswith("column:") and how not in train:
        known = [name.removeprefix("column:") for name in train.columns if name.startswith("column:")]
        raise FoldError(
            f"[folds] group = '{how}': the training table has no column '{how.removeprefix('column:')}'; found "
            f"{examples(known, most=20)}."
        )
    if how == "none" and "group" not in train:
        return None
    given = column_groups_of(competition, how) if how.startswith("column:") or "group" in train else None
    if given is not None and given.missing == len(train):
        setting = f'[folds] group = "{how}"' if how.startswith("column:") else "[data] group"
        raise FoldError(f"{setting}: {no_value_found(given)} {NO_VALUE_REMEDY}")
    if given is not None and (how == "none" or how.startswith("column:")):
        return RowGroups(given.names, given.note)
    if how not in ("duplicates", "clusters"):
        raise FoldError(f"[folds] group = '{how}' is unknown. Use none, duplicates, clusters, or column:NAME.")
    if competition.media != "images":
        raise DataError(f"[folds] group = '{how}' needs images, but these are clips. Use none or column:NAME.")
    note = None if given is None else given.note
    if how == "clusters":
        clusters = image_clusters(train, work_dir=work_dir, threads=threads, progress=progress, seed=seed)
        return RowGroups(clusters if given is None else _whole(clusters, given.names), note)
    order = _id_order(train)
    found, copies = np.empty(len(train), object), np.empty(len(train), object)
    hashed = _hash_images(train.iloc[order], competition.root, work_dir, threads or cpu_count(), progress)
    names = None if given is None else given.names[order]
    found[order], copies[order] = _near_duplicates(train["id"].to_numpy(object)[order], hashed, names, progress)
    return RowGroups(found, note, copies)


def unused_originals(competition: "Competition", how: str = "none") -> str | None:
    """Return a sentence on a column that names the rows that fakes were made from, if it does not define the groups."""
    used = how.removeprefix("column:") if how.startswith("column:") else competition.group_column
    for column in competition.train.columns:
        name = str(column).removeprefix("column:")
        if column == name or name == used or not names_originals(name):
            continue
        found = column_groups_of(competition, str(column))
        if found.originals:
            return (
                f"The column '{name}' names the rows that {found.made_of_them} others were made from, and is not used, "
                f'so they may be in different folds. Set [data] group = "{name}" to keep them together'
            )
    return None


def _id_order(rows: "pd.DataFrame") -> NDArray[np.intp]:
    return np.argsort(rows["id"].to_numpy(object).astype(str), kind="stable")


def column_groups_of(competition: "Competition", how: str = "none") -> ColumnGroups:
    """Return the groups of the training rows from `column:NAME`, or else from the column of [data] group."""
    rows, is_named = competition.train, how.startswith("column:")
    values, ids, paths = (rows[name].to_numpy(object) for name in (how if is_named else "group", "id", "path"))
    name = how.removeprefix("column:") if is_named else competition.group_column or ""
    return column_groups(values, ids, rows["target"].to_numpy(), paths, name)


def image_clusters(
    rows: "pd.DataFrame", *, work_dir: Path, threads: int | None = None, progress: Progress = SILENT, seed: int = 0
) -> NDArray[np.object_]:
    """Return the cluster of each image, which does not depend on the order of the rows; see `derive_groups`.

    Args:
        rows: table with id and path. work_dir, threads, progress, seed: as in `derive_groups`.

    Returns:
        Names of up to 20 clusters, shape (n_rows,). Unlike groups of folds, they may split groups of rows.
    """
    from trainers.features.embeddings import embeddings_path, read_embeddings
    from trainers.features.handcrafted import file_features

    order = _id_order(rows)
    in_order = rows.iloc[order]
    kept = read_embeddings(embeddings_path(work_dir), in_order["id"].to_numpy(object))
    if kept is not None:
        features, backbone = kept
        progress.note(f"clusters of features of the frozen backbone {backbone}")
    else:
        features = file_features(in_order["path"].tolist(), size=0, threads=threads or cpu_count(), progress=progress)
    found = np.empty(len(rows), object)
    found[order] = cluster_groups(features, clusters=CLUSTERS, seed=seed)
    return found


def _whole(clusters: NDArray[np.object_], given: NDArray[np.object_]) -> NDArray[np.object_]:
    """Move each given group to the cluster of most of its rows (the first by name if tied), so that none is split."""
    names, cluster = np.unique(clusters.astype(str), return_inverse=True)
    groups, group = np.unique(given.astype(str), return_inverse=True)
    counts = np.bincount(group * len(names) + cluster, minlength=len(groups) * len(names))
    return np.asarray(names[counts.reshape(len(groups), -1).argmax(axis=1)][group], object)


def _hash_images(
    rows: "pd.DataFrame", root: Path, work_dir: Path, threads: int, progress: Progress
) -> NDArray[np.uint64]:
    """Return the perceptual hash of each image; an unreadable one is an error."""
    from trainers.features.perceptual_hash import hash_files

    hashes, known = hash_files(
        rows["path"].tolist(), root=root, cache=hash_cache(work_dir), threads=threads, progress=progress
    )
    if not known.all():
        ids = rows["id"].to_numpy(object)
        raise DataError(
            f"{int((~known).sum())} training images cannot be read: {examples(list(ids[~known]))}. Run dfens check "
            f"--decode; with [data] skip_broken = true they are left out."
        )
    return hashes


def _near_duplicates(
    ids: NDArray[np.object_], hashes: NDArray[np.uint64], given: NDArray[np.object_] | None, progress: Progress
) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """Group near-duplicates by perceptual hash; a group is named after its first row.

    Returns:
        The groups, with given ones united, and the near-duplicates alone.
    """
    from trainers.features.perceptual_hash import near_groups

    first = copies = near_groups(hashes)
    found = len(np.unique(copies))
    if given is not None:
        first = _united(copies, given)
    together = int((np.bincount(first, minlength=len(first)) > 1).sum())
    progress.note(f"{len(ids)} images, {found} of them different; {together} groups of two rows or more share a fold")
    return np.asarray(ids[first], object), np.asarray(ids[copies], object)


def _united(first: NDArray[np.int64], given: NDArray[np.object_]) -> NDArray[np.int64]:
    """Merge near-duplicates and given groups, each numbered by its first row."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = np.arange(len(first))
    _, code = np.unique(given.astype(str), return_inverse=True)
    n = len(first)
    edges = coo_array((np.ones(2 * n, np.int8), (np.r_[rows, rows], np.r_[first, n + code])), (2 * n, 2 * n))
    _, label = connected_components(edges, directed=False)
    _, start, of = np.unique(label[:n], return_index=True, return_inverse=True)
    return np.asarray(start[of], np.int64)


def cluster_groups(features: NDArray[np.floating[Any]], *, clusters: int, seed: int) -> NDArray[np.object_]:
    """Return the cluster of each row by its features: standardised, 32 principal components, k-means in small batches.

    Args:
        features: (n_rows, n_features), finite.
        clusters: number of clusters; fewer if there are few rows.
        seed: the same seed and features give the same clusters.

    Returns:
        Names "cluster 00" to "cluster 19", the largest first, shape (n_rows,).
    """
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    x = np.asarray(features, np.float32)
    mean, spread = x.mean(axis=0), x.std(axis=0)
    x = (x - mean) / np.where(spread > 0, spread, 1)
    drawn = x
    if len(x) > _FITTED_ROWS:
        drawn = x[np.sort(np.random.default_rng(seed).choice(len(x), _FITTED_ROWS, replace=False))]
    with threadpool_limits(1):  # sums in a different order could move rows between clusters
        components = PCA(min(_DIMENSIONS, *drawn.shape), svd_solver="covariance_eigh").fit(drawn)
        means = MiniBatchKMeans(min(clusters, len(x)), random_state=seed, n_init=5, batch_size=4096)
        means.fit(components.transform(drawn))
        label = means.predict(components.transform(x))
    by_size = np.argsort(-np.bincount(label, minlength=means.n_clusters), kind="stable")
    rank = np.argsort(by_size)
    return np.array([f"cluster {number:02d}" for number in rank[label]], object)


def hash_cache(work_dir: Path) -> Path:
    """Return the path of the perceptual hashes of a workspace."""
    return work_dir / "phash.parquet"
