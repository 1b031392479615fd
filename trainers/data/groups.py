"""Groups of training rows that must share a fold: given by a column, or found among the images."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oof.errors import DataError, FoldError, examples
from oof.progress import SILENT, Progress

if TYPE_CHECKING:
    from trainers.data.layouts import Competition

CLUSTERS = 20  # as the winners of the image track split their data
_DIMENSIONS = 32
_FITTED_ROWS = 50_000


def derive_groups(
    competition: "Competition",
    how: str,
    *,
    work_dir: Path,
    progress: Progress = SILENT,
    seed: int = 0,
) -> NDArray[np.object_] | None:
    """The group of each training row, as text.

    Random folds overstate when near-copies, or pictures of one origin, stand on both sides of a
    split; whole groups in a fold tell how a model does on what it has not seen.

    Args:
        competition: the rows.
        how: "none" (the data's own groups where [data] group names them, else no groups),
            "column:NAME" (a column of the training table), "duplicates" (pictures that are the same
            but for encoding, size, light or a small crop) or "clusters" (20 kinds of pictures, so
            that a fold holds kinds that its training has not: by features of a frozen backbone where
            `trainers.features.embeddings` has made them, else by traces of generation and editing).
        work_dir: folder of this room in the workspace (work/trainers); keeps hashes and features of images.
        progress: told while images are read.
        seed: of the clusters.

    Returns:
        Shape (n_rows,), aligned with `competition.train`; None where rows stand alone.

    Raises:
        FoldError: an unknown way or column, naming those there are.
        DataError: an image that cannot be read, or clips.
    """
    train = competition.train
    ids = train["id"].to_numpy(object)
    if how == "none":
        return _filled(train["group"].to_numpy(object), ids) if "group" in train else None
    if how.startswith("column:"):
        if how not in train:
            known = [name.removeprefix("column:") for name in train.columns if name.startswith("column:")]
            raise FoldError(
                f"[folds] group = '{how}': the training table has no column '{how.removeprefix('column:')}'; found "
                f"{examples(known, most=20)}."
            )
        return _filled(train[how].to_numpy(object), ids)
    if how not in ("duplicates", "clusters"):
        raise FoldError(f"[folds] group = '{how}' is unknown. Use none, duplicates, clusters, or column:NAME.")
    if competition.media != "images":
        raise DataError(f"[folds] group = '{how}' looks at images, and these are clips. Use none or column:NAME.")
    if how == "duplicates":
        return _duplicates(competition, work_dir, progress)
    from trainers.features.embeddings import embeddings_path, read_embeddings
    from trainers.features.handcrafted import file_features

    kept = read_embeddings(embeddings_path(work_dir), ids)
    if kept is not None:
        features, backbone = kept
        progress.note(f"clusters of features of the frozen backbone {backbone}")
    else:
        features = file_features(train["path"].tolist(), edge=0, workers=_workers(), progress=progress)
    return cluster_groups(features, clusters=CLUSTERS, seed=seed)


def _filled(groups: NDArray[np.object_], ids: NDArray[np.object_]) -> NDArray[np.object_]:
    """Groups with rows of none (an empty text) each in a group of its own."""
    empty = groups == ""
    return np.where(empty, np.array([f"row {id_}" for id_ in ids], object), groups) if empty.any() else groups


def _duplicates(competition: "Competition", work_dir: Path, progress: Progress) -> NDArray[np.object_]:
    """Near-duplicates by perceptual hash; a group is named after its first row."""
    from trainers.features.perceptual_hash import hash_files, near_groups

    train = competition.train
    ids = train["id"].to_numpy(object)
    cache = hash_cache(work_dir)
    paths = train["path"].tolist()
    hashes, known = hash_files(paths, root=competition.root, cache=cache, workers=_workers(), progress=progress)
    if not known.all():
        raise DataError(
            f"{int((~known).sum())} training images cannot be read: {examples(list(ids[~known]))}. Run dfens check "
            f"--decode; with [data] skip_broken = true it leaves them out."
        )
    first = near_groups(hashes)
    found = len(np.unique(first))
    if "group" in train:
        first = _united(first, _filled(train["group"].to_numpy(object), ids))
    together = int((np.bincount(first, minlength=len(first)) > 1).sum())
    progress.note(f"{len(ids)} images, {found} different ones; {together} groups of two rows or more share a fold")
    return np.asarray(ids[first], object)


def _united(first: NDArray[np.int64], given: NDArray[np.object_]) -> NDArray[np.int64]:
    """Sets that hold together near-duplicates and given groups alike, each numbered by its first row."""
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
    """Cluster rows by their features: standardised, 32 principal components, k-means in small batches.

    Args:
        features: (n_rows, n_features), finite.
        clusters: how many; fewer where there are few rows.
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
    with threadpool_limits(1):  # sums in another order would move rows between clusters
        components = PCA(min(_DIMENSIONS, *drawn.shape), svd_solver="covariance_eigh").fit(drawn)
        means = MiniBatchKMeans(min(clusters, len(x)), random_state=seed, n_init=5, batch_size=4096)
        means.fit(components.transform(drawn))
        label = means.predict(components.transform(x))
    by_size = np.argsort(-np.bincount(label, minlength=means.n_clusters), kind="stable")
    rank = np.argsort(by_size)
    return np.array([f"cluster {number:02d}" for number in rank[label]], object)


def hash_cache(work_dir: Path) -> Path:
    """Where the perceptual hashes of a workspace are kept."""
    return work_dir / "phash.parquet"


def _workers() -> int:
    return len(os.sched_getaffinity(0))
