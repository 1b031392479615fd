"""`dfens diagnose`: what out-of-fold predictions tell beyond the score."""

import click

from dfens.app import App, pass_app


@click.command("diagnose", short_help="AUC by kind of image, doubtful labels, memorising, luck in epochs.")
@click.argument("name", metavar="MODEL")
@click.option("--suspects", type=click.IntRange(min=1), default=100, show_default=True, help="Most labels to doubt.")
@pass_app
def command(app: App, name: str, suspects: int) -> None:
    """Diagnose a model out of fold.

    AUC within clusters of images (a weak kind foretells the fall on unseen forgeries); labels that
    this and all other complete models contradict; folds that memorise; what choosing the best epoch
    flatters. Lists and a picture of the doubtful rows go to work/reports/diagnose.
    """
    import numpy as np
    import pandas as pd

    from dfens.views.tables import make_table
    from oof.analysis.diagnose import Diagnosis, cluster_scores, fold_habits, suspected_labels
    from oof.files import read_json, write_text
    from oof.ids import join_positions
    from oof.metrics import roc_auc
    from trainers.analysis.plots import contact_sheet
    from trainers.data.groups import derive_groups

    store, folds = app.predictions, app.predictions.folds
    model = store.load(name)
    competition = app.competition()
    position = join_positions(folds.ids, competition.train["id"].to_numpy(object), "the training table", extra="ignore")
    clusters = derive_groups(competition, "clusters", work_dir=app.work / "trainers", progress=app.progress)
    assert clusters is not None
    others = {item.name: store.load(item.name).oof for item in store.list() if item.complete and item.name != name}
    histories = {}
    for fold in range(folds.k):
        path = app.work / "trainers" / name / f"fold{fold}" / "history.json"
        if path.exists():
            histories[fold] = read_json(path)
    known = ~np.isnan(model.oof)
    found = Diagnosis(
        name,
        float(roc_auc(folds.target[known], model.oof[known])),
        tuple(cluster_scores(folds, model.oof, clusters[position])),
        tuple(suspected_labels(folds, {name: model.oof, **others}, most=suspects)),
        tuple(fold_habits(histories)),
    )
    folder = app.work / "reports" / "diagnose" / name
    doubtful = pd.DataFrame(found.suspects, columns=["id", "target", "doubt", "models_against", "models"])
    write_text(folder / "suspects.csv", doubtful.to_csv(index=False))
    shown = [
        make_table(
            pd.DataFrame(found.clusters),
            title=f"{name}: AUC {found.auc:.4f}; by kind of image, weakest first",
            decimals=4,
        )
    ]
    lines = []
    if found.habits:
        shown.append(
            make_table(pd.DataFrame(found.habits), title="Training by fold (AUC of the plain view)", decimals=4)
        )
        luck = np.mean([habit.optimism for habit in found.habits])
        lines.append(f"Choosing the best epoch on the held-out rows flatters the score by about {luck:.4f}.")
        memorised = [str(habit.fold) for habit in found.habits if habit.memorises]
        if memorised:
            lines.append(f"Folds {', '.join(memorised)} memorise: fewer epochs, or more augmentation and weight decay.")
    if len(doubtful):
        shown.append(make_table(doubtful.head(10), title=f"Doubtful labels ({len(doubtful)}; first 10)", decimals=3))
        paths = pd.Series(competition.train["path"].to_numpy(object)[position], folds.ids)
        pictures = [str(paths[suspect.id]) for suspect in found.suspects[:40]]
        captions = [f"{suspect.target} {suspect.doubt:.2f}" for suspect in found.suspects[:40]]
        lines.append(f"Picture: {contact_sheet(folder / 'suspects.png', pictures, captions)}")
    lines.append(f"List: {folder / 'suspects.csv'}")
    app.emit(found.as_json() | {"suspects_file": folder / "suspects.csv"}, *shown, "\n".join(lines))
