"""`dfens groups`: which rows belong together, and what random folds flatter."""

from typing import TYPE_CHECKING

import click

from dfens.app import App, pass_app

if TYPE_CHECKING:
    from oof.ids import Ids


@click.command("groups", short_help="Find near-copies and kinds of images; AUC of a baseline under each grouping.")
@click.option("--model", "name", metavar="NAME", help="Cluster by features of this model's pretrained backbone.")
@pass_app
def command(app: App, name: str | None) -> None:
    """Find near-duplicates and clusters among the training images, and tell what each way to fold would say.

    A linear model on small features is scored out of fold with random folds, with near-copies kept
    together, and with whole clusters held out. The fall from the first to the last foretells how far
    a score of random folds falls on a test set with unseen kinds. Choose with [folds] group, then run
    dfens folds. With --model the features are kept, and [folds] group = "clusters" uses them from then on.
    """
    import os

    import numpy as np
    import pandas as pd

    from dfens.views.tables import make_table
    from oof.errors import FoldError
    from oof.folds import make_folds
    from oof.metrics.intervals import score_interval
    from trainers.data.groups import derive_groups
    from trainers.kinds.linear import fit_linear_fold, linear_features
    from trainers.settings import LinearSettings

    settings = app.config.folds
    competition = app.competition()
    baseline = LinearSettings()
    ids = competition.train["id"].to_numpy(object)
    y = competition.train["target"].to_numpy()
    if name is not None:
        _embed(app, name, ids, competition.train["path"].tolist(), len(os.sched_getaffinity(0)))
    x = linear_features(baseline, competition.train["path"].tolist(), progress=app.progress)
    rows = []
    ways = ["none", "duplicates", "clusters"]
    ways += [settings.group] if settings.group not in ways else []
    for how in ways:
        groups = derive_groups(
            competition, how, work_dir=app.work / "trainers", progress=app.progress, seed=settings.seed
        )
        sizes = np.ones(len(ids), int) if groups is None else pd.Series(groups).value_counts().to_numpy()
        row = {
            "group": how,
            "groups": len(sizes),
            "largest": int(sizes.max()),
            "rows_not_alone": int(sizes[sizes > 1].sum()),
        }
        try:
            folds = make_folds(ids, y, k=settings.k, seed=settings.seed, groups=groups, group=how)
        except FoldError as err:
            app.say(f"{how}: {err}")
            rows.append(row | {"baseline_auc": None, "low": None, "high": None})
            continue
        oof = np.empty(len(y))
        for fold in range(settings.k):
            held_out = folds.fold == fold
            oof[held_out] = fit_linear_fold(baseline, x[~held_out], y[~held_out], x[held_out], x[:0]).oof
        interval = score_interval("auc", y, oof, groups)
        rows.append(row | {"baseline_auc": interval.score, "low": interval.low, "high": interval.high})
    app.emit(
        {"ways": rows},
        make_table(pd.DataFrame(rows), title="The linear baseline's out-of-fold AUC under each grouping", decimals=4),
        "Near-copies in different folds, or kinds that both sides share, make scores too good: choose with "
        "[folds] group."
        "\nNext: dfens folds",
    )


def _embed(app: App, name: str, ids: "Ids", paths: list[str], workers: int) -> None:
    """Make and keep features of the pretrained backbone of a model of dfens.toml."""
    from oof.errors import ConfigError
    from trainers.features.embeddings import embed_images, embeddings_path
    from trainers.settings import TimmSettings

    settings = app.config.models.get(name)
    if not isinstance(settings, TimmSettings):
        raise ConfigError(f"--model takes a model of dfens.toml with a backbone; {name!r} is none.")
    embed_images(
        settings,
        ids,
        paths,
        name=name,
        save_to=embeddings_path(app.work / "trainers"),
        root=app.root,
        workers=workers,
        progress=app.progress,
    )
