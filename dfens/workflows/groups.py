"""Find groups of related rows, and measure how much random folds inflate the score."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dfens.workflows.stored_results import save_duplicates, save_fold_gap
from dfens.workspace.paths import Workspace
from oof.errors import ConfigError, DataError, FoldError
from oof.folds import make_folds
from oof.ids import labels_fingerprint
from oof.metrics.intervals import score_interval
from oof.progress import SILENT, Progress
from trainers.analysis.baseline import baseline_features, baseline_oof
from trainers.data.competition import Competition
from trainers.data.groups import derive_groups
from trainers.features.embeddings import embed_images, embeddings_path, write_embeddings
from trainers.media.settings import ImageSettings
from trainers.networks.settings import NetworkSettings


@dataclass(frozen=True)
class Grouping:
    """One grouping of the rows, and the baseline's OOF AUC with whole groups held out (None: no such folds).

    rows_not_alone: number of rows that share their group. low, high: 95 % interval. problem: why there is no score.
    """

    group: str
    groups: int
    largest: int
    rows_not_alone: int
    baseline_auc: float | None
    low: float | None
    high: float | None
    problem: str = ""


@dataclass(frozen=True)
class Groupings:
    """The groupings of the training rows."""

    groupings: tuple[Grouping, ...]


def compare_groupings(
    workspace: Workspace, embed_with: str | None = None, *, threads: int, progress: Progress = SILENT
) -> Groupings:
    """Score a linear baseline out of fold with random folds, near-duplicates together, and whole clusters held out.

    Random folds ("none") are those without any groups. The groups of [data] group are scored as "data", and are kept
    whole by the other groupings.

    With `embed_with`, a model of dfens.toml, features of its pretrained backbone are stored first and define the
    clusters from then on.

    Raises:
        DataError: if the rows are clips.
    """
    settings = workspace.config.folds
    competition = workspace.competition()
    if competition.media != "images":
        raise DataError(
            "dfens groups compares images, but these are clips. For clips, name a column of the training table whose "
            'equal values belong together, such as the person or the original: [folds] group = "column:NAME", then '
            "dfens folds."
        )
    if embed_with is not None:
        _embed(workspace, embed_with, competition, threads, progress)
    x = baseline_features(competition.train["path"].tolist(), threads=threads, progress=progress)
    given = ["data"] if "group" in competition.train else []
    methods = dict.fromkeys(["none", *given, "duplicates", "clusters", settings.group])
    found = {how: _score(workspace, competition, x, how, threads, progress) for how in methods}
    grouped = {how: item.baseline_auc for how, item in found.items() if how != "none"}
    save_fold_gap(workspace, found["none"].baseline_auc, grouped, _labels(competition))
    return Groupings(tuple(found.values()))


def _score(
    workspace: Workspace,
    competition: Competition,
    x: NDArray[np.float32],
    how: str,
    threads: int,
    progress: Progress,
) -> Grouping:
    settings = workspace.config.folds
    ids, y = competition.train["id"].to_numpy(object), competition.train["target"].to_numpy()
    found = None
    if how != "none":
        found = derive_groups(
            competition,
            "none" if how == "data" else how,
            work_dir=workspace.trainers_dir,
            threads=threads,
            progress=progress,
            seed=settings.seed,
        )
    groups = None if found is None else found.names
    if found is not None and found.copies is not None:
        save_duplicates(workspace, ids, found.copies, _labels(competition))
    sizes = np.ones(len(ids), int) if groups is None else pd.Series(groups).value_counts().to_numpy()
    counts = (how, len(sizes), int(sizes.max()), int(sizes[sizes > 1].sum()))
    try:
        folds = make_folds(ids, y, k=settings.k, seed=settings.seed, groups=groups, group=how)
    except FoldError as err:
        return Grouping(*counts, None, None, None, str(err))
    interval = score_interval("auc", y, baseline_oof(x, y, folds.fold), groups)
    return Grouping(*counts, interval.score, interval.low, interval.high)


def _labels(competition: Competition) -> str:
    return labels_fingerprint(competition.train["id"], competition.train["target"])


def _embed(workspace: Workspace, name: str, competition: Competition, threads: int, progress: Progress) -> None:
    settings = workspace.config.models.get(name)
    if not (isinstance(settings, NetworkSettings) and isinstance(settings, ImageSettings)):
        raise ConfigError(f"--model {name}: expected a model in dfens.toml with a backbone.")
    rows = competition.train
    paths = rows["path"].tolist()
    features = embed_images(settings, settings, paths, root=workspace.root, threads=threads, progress=progress)
    target = embeddings_path(workspace.trainers_dir)
    write_embeddings(target, rows["id"].to_numpy(object), features, model=name, backbone=settings.backbone)
