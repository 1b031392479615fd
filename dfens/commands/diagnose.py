"""`dfens diagnose`: score by cluster, label issues and overfitting of one model."""

import click

from dfens.app import App, pass_app


@click.command("diagnose", short_help="AUC by cluster, label issues, overfitting.")
@click.argument("name", metavar="MODEL")
@click.option(
    "--max-issues", type=click.IntRange(min=1), default=100, show_default=True, help="Maximum number of label issues."
)
@pass_app
def command(app: App, name: str, max_issues: int) -> None:
    """Diagnose a model from its out-of-fold predictions.

    Shows the AUC within clusters of images (weak clusters show what to expect on unseen forgeries), labels that
    this and all other complete models contradict, folds that overfit, and by how much choosing the best epoch
    inflates the score. The list of label issues and their images are written to work/reports/diagnose.
    """
    import numpy as np
    import pandas as pd

    from dfens.views.tables import make_table
    from oof.analysis.diagnose import Diagnosis, cluster_scores, find_label_issues, training_curves
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
        tuple(find_label_issues(folds, {name: model.oof, **others}, limit=max_issues)),
        tuple(training_curves(histories)),
    )
    folder = app.work / "reports" / "diagnose" / name
    issues = pd.DataFrame(found.label_issues, columns=["id", "target", "label_error_score", "models_against", "models"])
    write_text(folder / "label_issues.csv", issues.to_csv(index=False))
    shown = [
        make_table(
            pd.DataFrame(found.clusters),
            title=f"{name}: AUC {found.auc:.4f}; by cluster of images, weakest first",
            decimals=4,
        )
    ]
    lines = []
    if found.training_curves:
        shown.append(
            make_table(pd.DataFrame(found.training_curves), title="Training by fold (AUC without TTA)", decimals=4)
        )
        optimism = np.mean([curve.optimism for curve in found.training_curves])
        lines.append(f"Choosing the best epoch on the held-out rows inflates the score by about {optimism:.4f}.")
        overfitted = [str(curve.fold) for curve in found.training_curves if curve.overfits]
        if overfitted:
            lines.append(
                f"Folds {', '.join(overfitted)} overfit: use fewer epochs, or more augmentation and weight decay."
            )
    if len(issues):
        shown.append(make_table(issues.head(10), title=f"Label issues ({len(issues)}; first 10)", decimals=3))
        paths = pd.Series(competition.train["path"].to_numpy(object)[position], folds.ids)
        pictures = [str(paths[issue.id]) for issue in found.label_issues[:40]]
        captions = [f"{issue.target} {issue.label_error_score:.2f}" for issue in found.label_issues[:40]]
        lines.append(f"Images: {contact_sheet(folder / 'label_issues.png', pictures, captions)}")
    lines.append(f"List: {folder / 'label_issues.csv'}")
    app.emit(found.as_json() | {"label_issues_file": folder / "label_issues.csv"}, *shown, "\n".join(lines))
