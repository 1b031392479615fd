"""`dfens oof`: from files to the store and back, on the command line."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from dfens.cli import cli
from ensemble.fit import fit_blend
from oof.metrics import roc_auc
from oof.metrics.probabilities import log_loss
from oof.store import PredictionStore
from tests.support.ensemble import CONFIG, make_workspace


def run(folder: Path, *arguments: object) -> Result:
    return CliRunner().invoke(cli, ["-C", str(folder), "oof", *map(str, arguments)])


def write_models(folder: Path, count: int = 3, n: int = 90) -> list[Path]:
    """Write files of some models; the last one has half of the rows."""
    paths = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        target = np.arange(n) % 3 == 0
        table = pd.DataFrame(
            {
                "id": [f"{i}_{i % 7}" for i in range(n)],
                "sentiment": target.astype(int),
                "kfold": np.arange(n) // 3 % 5,
                "lr_pred": rng.random(n) + 0.5 * target,
            }
        ).sample(frac=1, random_state=seed)
        paths.append(folder / f"m{seed}.csv")
        (table if seed < count - 1 else table.iloc[: n // 2]).to_csv(paths[-1], index=False)
    return paths


def test_test_predictions_alone_are_answered_with_the_whole_command(tmp_path: Path) -> None:
    path = write_models(tmp_path)[0]
    found = run(tmp_path, "import", "cnn", "--test", str(path))
    assert found.exit_code == 2
    assert "dfens oof import cnn --oof FILE --test FILE" in found.stderr


def test_one_command_imports_all_files_into_an_empty_store(tmp_path: Path) -> None:
    found = run(tmp_path, "import", *write_models(tmp_path))
    assert found.exit_code == 0, found.output
    assert "Imported 3 models\n" in found.stdout
    assert re.search(r"m0 .* OOF only.*m2 .* partial", found.stdout, re.DOTALL)
    assert "'sentiment' is used as target" in found.stderr
    assert "There were no folds: 5 folds of 90 rows read from m0.csv." in found.stderr
    store = PredictionStore(tmp_path / "work" / "oof")
    assert [(model.name, model.oof_rows) for model in store.list()] == [("m0", 90), ("m1", 90), ("m2", 45)]


def test_list_scores_by_fold_and_over_all_rows(tmp_path: Path) -> None:
    run(tmp_path, "import", *write_models(tmp_path))
    found = run(tmp_path, "list")
    assert found.exit_code == 0, found.output
    for text in ("auc by fold", "auc over all", "±", "OOF only", "partial", "90/90", "45/90"):
        assert text in found.stdout
    value = json.loads(run(tmp_path, "list", "--json").stdout)
    store = PredictionStore(tmp_path / "work" / "oof")
    for row in value["models"]:
        oof, y, fold = store.load(row["model"]).oof, store.folds.target, store.folds.fold
        present = ~np.isnan(oof)
        assert row["score"] == pytest.approx(roc_auc(y[present], oof[present]))
        by_fold = [roc_auc(y[present & (fold == k)], oof[present & (fold == k)]) for k in range(5)]
        assert row["fold_mean"] == pytest.approx(np.mean(by_fold))
        assert row["fold_sd"] == pytest.approx(np.std(by_fold, ddof=1))
    assert [row["state"] for row in value["models"]] == ["OOF only", "OOF only", "partial"]


def test_an_empty_list_shows_the_next_step(tmp_path: Path) -> None:
    found = run(tmp_path, "list")
    assert found.exit_code == 1
    assert "dfens oof import FILES" in found.stderr


def test_a_model_by_name_with_its_test_file(tmp_path: Path) -> None:
    path = write_models(tmp_path)[0]
    test = tmp_path / "sub.csv"
    test.write_text('"image","score","rank"\n"007",0.25,2\n"1e5",0.5,1\n')
    found = run(tmp_path, "import", "convnext", "--oof", path, "--test", test, "--test-column", "score", "--json")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["models"] == [{"model": "convnext", "rows": 90, "of": 90, "test": True}]
    store = PredictionStore(tmp_path / "work" / "oof")
    assert store.test_ids.tolist() == ["007", "1e5"]
    assert store.load("convnext").details["source"] == "m0.csv"
    assert json.loads(run(tmp_path, "list", "--json").stdout)["models"][0]["state"] == "complete"


def test_a_missing_test_column_is_an_error(tmp_path: Path) -> None:
    path = write_models(tmp_path, 1)[0]
    test = tmp_path / "test.csv"
    test.write_text("id,pred,prod\nx,0.5,0.25\ny,0.25,0.5\n")
    found = run(tmp_path, "import", "cnn", "--oof", path, "--test", test, "--test-column", "perd")
    assert found.exit_code == 1
    assert "test.csv has no column 'perd'; it has id, pred, prod" in found.stderr
    assert not (tmp_path / "work" / "oof" / "models").exists()


def test_columns_and_folds_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("u,v,w,x\n" + "".join(f"{i},{i % 2},{i // 2 % 2},{i / 8}\n" for i in range(8)))
    found = run(tmp_path, "import", tmp_path / "a.csv")
    assert found.exit_code == 1
    assert "Its columns are u, v, w, x. Name it with --id-column." in found.stderr
    named = ["--id-column", "u", "--target-column", "v", "--prediction-column", "x"]
    assert run(tmp_path, "import", tmp_path / "a.csv", *named, "--fold-column", "w").exit_code == 0
    assert PredictionStore(tmp_path / "work" / "oof").folds.fold.tolist() == [0, 0, 1, 1] * 2


def test_folds_are_read_from_a_separate_file(tmp_path: Path) -> None:
    path = write_models(tmp_path)[0]
    table = pd.read_csv(path)
    table[["id", "sentiment", "kfold"]].assign(kfold=lambda t: t["kfold"] % 2).to_csv(tmp_path / "f.csv", index=False)
    table[["id", "lr_pred"]].to_csv(tmp_path / "p.csv", index=False)
    found = run(tmp_path, "import", tmp_path / "p.csv", "--folds-from", tmp_path / "f.csv")
    assert found.exit_code == 0, found.output
    assert PredictionStore(tmp_path / "work" / "oof").folds.k == 2


@pytest.mark.parametrize("arguments", [[], ["a", "b", "--oof", "x.csv"], ["--oof", "x.csv"]])
def test_wrong_usage_is_exit_code_2(tmp_path: Path, arguments: list[str]) -> None:
    found = run(tmp_path, "import", *arguments)
    assert found.exit_code == 2
    assert "one NAME with --oof FILE" in found.stderr


def test_warnings_are_shown(tmp_path: Path) -> None:
    path = write_models(tmp_path)[0]
    pd.read_csv(path).assign(lr_pred=0.5).to_csv(path, index=False)
    found = run(tmp_path, "import", path)
    assert "Warning: m0: all predictions are 0.5, so they contain no information." in found.stderr


def test_export_and_archive(tmp_path: Path) -> None:
    run(tmp_path, "import", *write_models(tmp_path))
    out = tmp_path / "wide.csv"
    found = run(tmp_path, "export", "--out", out, "--models", "m0,m2")
    assert found.exit_code == 0, found.output
    assert list(pd.read_csv(out)) == ["id", "target", "fold", "m0", "m2"]
    (tmp_path / "work" / "oof" / "models" / "m0" / "oof.all.parquet").write_bytes(b"truncated")
    found = run(tmp_path, "archive", "m0", "m1")
    assert found.exit_code == 0, found.output
    assert "m0 was moved to" in found.stdout
    assert [model.name for model in PredictionStore(tmp_path / "work" / "oof").list()] == ["m2"]
    found = run(tmp_path, "archive", "m2", "m7")
    assert found.exit_code == 1
    assert "has no model m7; it has m2" in found.stderr


def test_diversity_shows_correlations_duplicates_and_gains(tmp_path: Path) -> None:
    paths = write_models(tmp_path, count=3, n=300)
    pd.read_csv(paths[0]).assign(lr_pred=lambda t: t["lr_pred"] * 2).to_csv(tmp_path / "twin.csv", index=False)
    run(tmp_path, "import", *paths, tmp_path / "twin.csv")
    found = run(tmp_path, "diversity")
    assert found.exit_code == 0, found.output
    assert "duplicates" in found.stdout
    value = json.loads(run(tmp_path, "diversity", "--leave-one-out", "--json").stdout)
    assert [{item["model"], item["of"]} for item in value["duplicates"]] == [{"m0", "twin"}]
    assert {item["model"] for item in value["leave_one_out"]} == {"m0", "m1", "twin"}  # m2 covers half of the rows
    assert np.shape(value["rank_correlations"]) == (4, 4)


def test_gains_are_those_of_a_blend_for_the_metric_of_the_competition(tmp_path: Path) -> None:
    _, folds, oof = make_workspace(tmp_path, rows=300, models=2, with_test=False)
    (tmp_path / "dfens.toml").write_text(CONFIG.replace('slug = "tiny"', 'slug = "tiny"\nmetric = "log_loss"'))

    def nested_loss(columns: list[int]) -> float:
        result = fit_blend(oof[:, columns], folds.target, folds=folds.fold, optimize="log_loss")
        return log_loss(folds.target, result.nested_oof)

    value = json.loads(run(tmp_path, "diversity", "--leave-one-out", "--json").stdout)
    assert value["metric"] == "log_loss"
    assert {item["model"]: item["adds"] for item in value["leave_one_out"]} == pytest.approx(
        {f"m{model}": nested_loss([1 - model]) - nested_loss([0, 1]) for model in (0, 1)}
    )
    assert "What each model adds to the nested log loss" in run(tmp_path, "diversity", "--leave-one-out").stdout


def test_shift_names_the_model_with_broken_test_predictions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(400) < 0.5
    seen = truth + 0.4 * rng.normal(size=400)
    tests = []
    for name in ("a", "b", "c"):
        values = np.round(seen + 0.2 * rng.normal(size=400), 4)
        ids = np.array([f"r{row}" for row in range(400)])
        oof = pd.DataFrame({"id": ids[:250], "target": truth[:250].astype(int), "fold": np.arange(250) % 5})
        oof.assign(pred=values[:250]).to_csv(tmp_path / f"{name}.csv", index=False)
        broken = rng.permutation(values[250:]) if name == "b" else values[250:]
        pd.DataFrame({"id": ids[250:], "pred": broken}).to_csv(tmp_path / f"{name}_test.csv", index=False)
        tests += ["--test", tmp_path / f"{name}_test.csv"]
    assert run(tmp_path, "import", *[tmp_path / f"{name}.csv" for name in "abc"], *tests).exit_code == 0
    found = run(tmp_path, "shift")
    assert found.exit_code == 0, found.output
    assert "All models together separate test rows from OOF rows" in found.stdout
    rows = json.loads(run(tmp_path, "shift", "--json").stdout)["models"]
    assert [bool(row["looks_broken"]) for row in rows] == [False, True, False]


def test_shift_without_test_predictions_shows_the_next_step(tmp_path: Path) -> None:
    run(tmp_path, "import", *write_models(tmp_path))
    found = run(tmp_path, "shift")
    assert found.exit_code == 1
    assert "No model has test predictions yet" in found.stderr


def test_a_model_cannot_have_the_name_of_a_blend(tmp_path: Path) -> None:
    make_workspace(tmp_path, rows=40)
    CliRunner().invoke(cli, ["-C", str(tmp_path), "blend", "--name", "best", "--members", "m0"])
    run(tmp_path, "export", "--out", "wide.csv", "--models", "m0")
    done = run(tmp_path, "import", "best", "--oof", tmp_path / "wide.csv")
    assert done.exit_code == 1
    assert "There is a blend 'best', and a model cannot have the same name" in " ".join(done.stderr.split())
    done = run(tmp_path, "import", "other", "--oof", tmp_path / "wide.csv")
    assert done.exit_code == 0, done.output
    with (tmp_path / "dfens.toml").open("a") as file:
        file.write('\n[models.best]\nkind = "linear"\n')
    done = CliRunner().invoke(cli, ["-C", str(tmp_path), "train"])
    assert done.exit_code == 1
    assert "There is a blend 'best', and a model cannot have the same name" in " ".join(done.stderr.split())
