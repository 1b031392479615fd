"""`dfens blend`: shows a table, and stores the blend and its test predictions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from dfens.cli import cli
from ensemble.blend_store import BlendStore
from ensemble.fit import fit_blend
from oof.errors import PredictionError, StoreError
from oof.files import write_json
from oof.folds import Folds
from oof.metrics import roc_auc
from oof.store import PredictionStore
from tests.support.ensemble import CONFIG, make_drifting, make_oof, make_workspace, moved


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["-C", str(folder), "blend", *arguments])


def test_the_blend_is_shown_with_both_scores_and_stored(tmp_path: Path) -> None:
    store, folds, _ = make_workspace(tmp_path)
    found = run(tmp_path, "--optimize", "auc", "-v")
    assert found.exit_code == 0, found.output
    for text in ("auc on the rows fitted", "nested auc", "best single", "mean of probabilities", "95 % interval"):
        assert text in found.stdout
    assert "Next: dfens submit blend --dry-run" in found.stdout
    blend = BlendStore(tmp_path / "work" / "ensemble").load("blend")
    assert roc_auc(folds.target, blend.oof) == pytest.approx(blend.score)
    assert blend.test is not None
    assert blend.test_ids is not None
    assert list(blend.test_ids) == list(store.test_ids)
    assert set(blend.facts["fingerprints"]) == {"m0", "m1", "m2"}
    assert blend.facts["fingerprints"]["m1"] == store.fingerprint("m1")


def test_weights_in_json_sum_to_one(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    value = json.loads(run(tmp_path, "--json").stdout)
    assert sum(member["weight"] for member in value["members"]) == pytest.approx(1.0)
    assert value["nested_score_of"] == "each fold, with the weights fitted without it"


def test_a_model_with_missing_folds_is_left_out_and_named(tmp_path: Path) -> None:
    store, folds, oof = make_workspace(tmp_path)
    store.save_model("half", "linear", {})
    rows = folds.rows(0)
    store.save_oof("half", folds.ids[rows], oof[rows, 0], fold=0)
    found = run(tmp_path)
    assert found.exit_code == 0, found.output
    assert "Left out: half (50 of 200 training rows predicted; dfens train --model half --fold 1-3)." in found.stderr
    named = run(tmp_path, "--members", "m0,half", "--json")
    assert named.exit_code == 1  # a model of one fold has no test predictions, but the others do
    assert "no test predictions, but the others do: half" in named.stderr


def test_a_blend_of_one_member_claims_no_comparison(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    found = run(tmp_path, "--members", "m0")
    assert found.exit_code == 0, found.output
    assert "It has one member" in found.stdout
    assert "Against" not in found.stdout
    assert "best single" not in found.stdout


def test_a_blend_is_not_blended_with_what_it_was_made_of(tmp_path: Path) -> None:
    """Also if a member was renamed, or a blend among the members was made again of other models."""
    store, folds, oof = make_workspace(tmp_path, with_test=False)
    quick = ("--optimize", "none")
    assert run(tmp_path, "--members", "m0,m1", "--name", "x", *quick).exit_code == 0
    assert run(tmp_path, "--members", "x,m2", "--name", "y", *quick).exit_code == 0
    store.save("renamed", folds.ids, oof[:, 0])
    store.save("other", folds.ids, oof[:, 1][::-1])
    assert run(tmp_path, "--members", "other", "--name", "x", *quick).exit_code == 0
    for members, message in (
        ("y,m0", "The blend 'y' contains m0, which are also in this blend"),
        ("y,x", "The blend 'y' contains x, which are also in this blend"),
    ):
        found = run(tmp_path, "--members", members, "--name", "z", *quick)
        assert (found.exit_code, message in " ".join(found.stderr.split())) == (1, True), found.stderr
    found = run(tmp_path, "--members", "y,renamed", "--name", "z", *quick)
    assert found.exit_code == 1
    assert "contains predictions that are also in this blend under another name: renamed = m0" in found.stderr
    assert run(tmp_path, "--members", "y,other", "--name", "z", *quick).exit_code == 0


def test_models_whose_epoch_was_chosen_on_the_same_rows_are_named(tmp_path: Path) -> None:
    store, _, _ = make_workspace(tmp_path)
    store.save_model("m1", "timm", {"settings": {"checkpoint": "best"}})
    store.save_model("m2", "timm", {"settings": {"checkpoint": "last"}})
    found = run(tmp_path)
    assert 'chosen on the same rows (checkpoint = "best"): m1.' in " ".join(found.stderr.split())
    listed = CliRunner().invoke(cli, ["-C", str(tmp_path), "oof", "list"])
    assert 'chosen on the same rows (checkpoint = "best"): m1' in " ".join(listed.stdout.split())
    as_json = json.loads(CliRunner().invoke(cli, ["-C", str(tmp_path), "oof", "list", "--json"]).stdout)
    assert [model["optimistic"] for model in as_json["models"]] == [False, True, False]


def test_a_model_with_missing_rows_is_blended_with_a_note(tmp_path: Path) -> None:
    store, folds, oof = make_workspace(tmp_path, with_test=False)
    store.save_model("part", "imported", {})
    store.save_oof("part", folds.ids[:130], oof[:130, 0], fold=None)
    for arguments in ((), ("--members", "m0,m1,part")):
        found = run(tmp_path, *arguments, "--json")
        assert found.exit_code == 0, found.output
        note = "part predicts 130 of 200 training rows; 70 are filled in from the other members."
        assert note in json.loads(found.stdout)["left_out"]
        blend = BlendStore(tmp_path / "work" / "ensemble").load("blend")
        assert "part" in blend.facts["fingerprints"]
        assert np.isfinite(blend.nested_oof).all()


def test_rows_that_no_member_predicts_are_reported(tmp_path: Path) -> None:
    store, folds, _ = make_workspace(tmp_path, models=1)
    test = np.linspace(0.1, 0.9, 50)
    for name, rows in (("a", slice(0, 150)), ("b", slice(0, 170))):
        store.save(name, folds.ids[rows], _scores(folds.target, name)[rows], test)
    found = json.loads(run(tmp_path, "--members", "a,b", "--json").stdout)
    assert found["left_out"][:3] == [
        "a predicts 150 of 200 training rows; 20 are filled in from the other members.",
        "b predicts 170 of 200 training rows.",
        "No member predicts 30 of 200 training rows (00170, 00171, 00172, 00173, 00174 and 25 more): each counts in "
        "the scores with the members' median predictions, which lowers them. Test rows are not affected.",
    ]
    blend = BlendStore(tmp_path / "work" / "ensemble").load("blend")
    assert len(np.unique(blend.oof[170:])) == 1  # the same value for each of them
    assert blend.oof[:170].min() < blend.oof[170] < blend.oof[:170].max()
    assert blend.test is not None
    assert len(np.unique(blend.test)) == 50


def test_a_test_row_without_a_prediction_never_gets_into_the_store(tmp_path: Path) -> None:
    store, folds, _ = make_workspace(tmp_path)
    test = np.linspace(0.1, 0.9, 50)
    with pytest.raises(PredictionError, match="1 of 50 predictions are NaN or infinite"):
        store.save("a", folds.ids, _scores(folds.target, "a"), np.where(np.arange(50) == 7, np.nan, test))
    with pytest.raises(PredictionError, match="missing"):
        store.save_test("m0", store.test_ids[:49], test[:49], fold=0)


def _scores(target: NDArray[Any], name: str) -> NDArray[np.float64]:
    return np.asarray(np.random.default_rng(ord(name)).random(len(target)) / 2 + target / 2)


def test_test_predictions_that_are_means_are_not_taken_for_those_of_a_fold_model(tmp_path: Path) -> None:
    """Where fold models are brought to one scale, a mean over them has a scale of its own."""
    (tmp_path / "dfens.toml").write_text(CONFIG)
    oof, y, fold, shift = make_drifting(2_000, spread=1.5)
    ids = np.array([f"{row:05d}" for row in range(2_000)], object)
    store = PredictionStore(tmp_path / "work" / "oof")
    store.save_folds(Folds(ids, y, fold.astype(np.int16)))
    test, _ = make_oof(50, 4, noise=1.0, seed=1)
    store.save_test_ids(np.array([f"t{row}" for row in range(50)], object))
    by_fold = np.stack([moved(test, shift[part]) for part in range(4)])
    for model in range(4):
        name = f"m{model}"
        store.save_model(name, "imported" if model < 2 else "linear", {})
        for part in range(4):
            store.save_oof(name, ids[fold == part], oof[fold == part, model], fold=part)
            if model >= 2:
                store.save_test(name, store.test_ids, by_fold[part, :, model], fold=part)
        if model < 2:
            store.save_test(name, store.test_ids, by_fold[:, :, model].mean(axis=0), fold=None)
    assert run(tmp_path).exit_code == 0
    blend = BlendStore(tmp_path / "work" / "ensemble").load("blend")
    mixed, averaged = by_fold.copy(), np.array([True, True, False, False])
    mixed[:, :, averaged] = by_fold.mean(axis=0)[:, averaged]
    result = fit_blend(oof, y, folds=fold, names=["m0", "m1", "m2", "m3"])
    assert "one scale" in result.method
    assert blend.test is not None
    np.testing.assert_allclose(blend.test, result.predict(mixed, averaged=averaged), atol=1e-6)
    assert np.abs(blend.test - result.predict(mixed)).max() > 0.01


@pytest.mark.parametrize(("name", "message"), [
    ("archive", "cannot be named 'archive', which is the folder of earlier blends"),
    ("Archive", "'Archive' and 'archive' differ only in case"),
    ("a/b", "blend name 'a/b' cannot be a folder name"),
])  # fmt: skip
def test_a_name_that_no_blend_can_have_is_refused_before_fitting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    make_workspace(tmp_path)
    monkeypatch.setattr("dfens.workflows.blend.blend_members", lambda *_: pytest.fail("fitted"))
    found = run(tmp_path, "--name", name)
    assert found.exit_code == 1
    assert message in found.stderr


def test_a_blend_cannot_have_the_name_of_a_model(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    found = run(tmp_path, "--name", "m0")
    assert found.exit_code == 1
    assert "There is a model 'm0', and a blend cannot have the same name." in found.stderr


def test_blending_a_blend_with_its_own_members_is_refused(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    run(tmp_path, "--name", "first", "--members", "m0,m1")
    run(tmp_path, "--name", "second", "--members", "first,m2")
    for members in ("first,m0", "second,m1", "first,second"):
        found = run(tmp_path, "--name", "third", "--members", members)
        assert found.exit_code == 1
        assert "Use either the blend or its members." in " ".join(found.stderr.split())


def test_members_with_too_many_parameters_together_are_refused(tmp_path: Path) -> None:
    """Each seed counts, the folds count as one, and a blend counts with its models."""
    store, _, _ = make_workspace(tmp_path)
    run(tmp_path, "--name", "first", "--members", "m0,m1")
    config = tmp_path / "dfens.toml"
    text = config.read_text()
    for name, parameters in (("m0", 3_000), ("m1", 2_000), ("m2", 1_000)):
        for fold in range(store.folds.k):
            write_json(tmp_path / f"work/trainers/{name}/fold{fold}/history.json", {"parameters": parameters})
    (tmp_path / "work" / "trainers" / "m2" / "seed1").mkdir()
    config.write_text(text.replace("[data]", "max_parameters = 7_000\n[data]"))
    assert run(tmp_path).exit_code == 0
    config.write_text(text.replace("[data]", "max_parameters = 6_999\n[data]"))
    for members in ((), ("--members", "first,m2")):
        found = run(tmp_path, "--name", "second", *members)
        assert found.exit_code == 1
        message = " ".join(found.stderr.split())
        assert "The members have 7,000 parameters together; the competition allows 6,999" in message
        assert "Choose fewer with --members. Their sizes: m0 3,000, m1 2,000, m2 2,000." in message
    assert run(tmp_path, "--name", "third", "--members", "m0,m1").exit_code == 0


def test_an_unknown_member_is_named(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    found = run(tmp_path, "--members", "m0,m7")
    assert found.exit_code == 1
    assert "There is no model or blend 'm7'; existing ones: m0, m1, m2." in found.stderr


def test_without_test_predictions_the_blend_is_still_scored(tmp_path: Path) -> None:
    make_workspace(tmp_path, with_test=False)
    found = run(tmp_path)
    assert found.exit_code == 0, found.output
    assert "without test predictions" in found.stdout
    assert BlendStore(tmp_path / "work" / "ensemble").load("blend").test is None


def test_an_earlier_blend_is_a_member_with_its_nested_predictions(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    run(tmp_path, "--name", "first", "--members", "m0,m1")
    found = run(tmp_path, "--name", "second", "--members", "first,m2", "--json")
    assert found.exit_code == 0, found.output
    first = BlendStore(tmp_path / "work" / "ensemble").load("first")
    member = json.loads(found.stdout)["members"][0]
    assert member["name"] == "first"
    assert member["score"] == pytest.approx(first.nested_score, abs=1e-9)


def test_a_blend_of_a_stale_blend_is_stale(tmp_path: Path) -> None:
    store, _, oof = make_workspace(tmp_path)
    run(tmp_path, "--name", "inner", "--members", "m0,m1")
    run(tmp_path, "--name", "outer", "--members", "inner,m2")
    store.save("m0", store.folds.ids, oof[:, 1], store.load("m0").test)

    def status() -> dict[str, Any]:
        value: dict[str, Any] = json.loads(CliRunner().invoke(cli, ["-C", str(tmp_path), "status", "--json"]).stdout)
        return value

    found = status()
    assert {blend["blend"]: blend["state"] for blend in found["blends"]} == {
        "inner": "stale: m0 changed",
        "outer": "stale: inner changed",
    }
    assert found["next"] == "dfens blend --name inner --members m0,m1"  # the newest blend is made of it
    run(tmp_path, *found["next"].split()[2:])
    run(tmp_path, "--name", "outer", "--members", "inner,m2")
    assert [blend["state"] for blend in status()["blends"]] == ["current", "current"]


def test_refitting_a_blend_moves_the_earlier_one_to_the_archive(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    run(tmp_path)
    store = BlendStore(tmp_path / "work" / "ensemble")
    before = store.load("blend")
    found = run(tmp_path)
    assert "The earlier blend 'blend' was moved to" in found.stdout
    assert store.list() == ["blend"]
    (kept,) = store.archive_dir.iterdir()
    table = pd.read_parquet(kept / "oof.parquet")
    np.testing.assert_array_equal(table["prediction"].to_numpy(), before.oof)


def test_a_missing_blend_is_named_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"There is no blend 'a'; existing blends: none. Run dfens blend --name a"):
        BlendStore(tmp_path).load("a")


def test_redundant_members_are_dropped_and_named(tmp_path: Path) -> None:
    make_workspace(tmp_path, models=4)
    assert "Dropped" not in run(tmp_path).stderr
    found = run(tmp_path, "--prune")
    assert found.exit_code == 0, found.output
    dropped = found.stderr.partition("one standard error: ")[2].partition(".")[0].split(", ")
    members = BlendStore(tmp_path / "work" / "ensemble").load("blend").facts["members"]
    assert dropped[0].startswith("m")
    assert {member["name"] for member in members if member["weight"] == 0} == set(dropped)


def test_calibration_is_stored_with_its_effect(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    path = tmp_path / "dfens.toml"
    path.write_text(path.read_text() + '[blend]\ncalibrate = "beta"\n')
    found = run(tmp_path, "--json")
    assert found.exit_code == 0, found.output
    report = json.loads(found.stdout)["calibration"]
    assert report["method"] == "beta"
    assert len(report["log_loss"]) == 2
    shown = run(tmp_path).stdout
    assert "Calibration (beta): nested log loss" in shown
    table = shown[shown.index("Reliability") :].splitlines()
    assert sum(line.split()[:1] == ["20"] for line in table) == 10  # 200 rows in ten bins


def test_further_methods_are_tried_on_request(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    names = [method["name"] for method in json.loads(run(tmp_path, "--json").stdout)["methods"]]
    assert not any(name.startswith(("ridge", "boosted")) for name in names)
    path = tmp_path / "dfens.toml"
    path.write_text(path.read_text() + '[blend]\nmethods = ["ridge"]\n')
    names = [method["name"] for method in json.loads(run(tmp_path, "--json").stdout)["methods"]]
    assert "ridge on three transforms" in names
    names = [method["name"] for method in json.loads(run(tmp_path, "--methods", "boosted", "--json").stdout)["methods"]]
    assert "boosted trees" in names
    assert "ridge on three transforms" not in names
    assert "methods = 'forest' is unknown" in run(tmp_path, "--methods", "forest").stderr


def test_the_result_of_importance_weighting_is_reported(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    found = run(tmp_path, "--importance-weighting")
    assert found.exit_code == 0, found.output
    assert "rows are not weighted" in " ".join((found.stdout + found.stderr).split())


def test_importance_weighting_without_test_predictions_is_refused(tmp_path: Path) -> None:
    make_workspace(tmp_path, with_test=False)
    found = run(tmp_path, "--importance-weighting")
    assert found.exit_code == 1
    assert "--importance-weighting needs test predictions" in found.stderr


@pytest.mark.parametrize(("transform", "average"), [("auto", "mean of probabilities"), ("rank", "mean of ranks")])
def test_optimize_none_gives_the_plain_average(tmp_path: Path, transform: str, average: str) -> None:
    store, folds, oof = make_workspace(tmp_path)
    found = run(tmp_path, "--optimize", "none", "--transform", transform, "--name", "plain")
    assert found.exit_code == 0, found.output
    assert f"Blend 'plain': {average}." in found.stdout
    plain = BlendStore(tmp_path / "work" / "ensemble").load("plain")
    ranked = pd.DataFrame(oof).rank().to_numpy() if transform == "rank" else oof
    expected = roc_auc(folds.target, ranked.mean(axis=1))
    assert plain.score == plain.nested_score == pytest.approx(expected, abs=3e-4)
    assert plain.test is not None
    if transform == "auto":
        means = np.mean([store.load(name).test for name in ("m0", "m1", "m2")], axis=0)
        np.testing.assert_allclose(plain.test, means, rtol=1e-6)


def test_scores_of_an_average_do_not_claim_fitted_weights(tmp_path: Path) -> None:
    make_workspace(tmp_path)

    def dfens(*arguments: str) -> str:
        return CliRunner().invoke(cli, ["-C", str(tmp_path), *arguments], env={"COLUMNS": "200"}).stdout

    all_rows = "all training rows; no weights were fitted"
    shown = dfens("blend", "--optimize", "none", "--name", "plain", "-v")
    assert "auc on all rows" in shown
    assert "rows fitted" not in shown
    assert f"Both scores of 'plain' are of {all_rows}." in shown
    curved = "each fold, with calibration chosen without it; no weights were fitted"
    on_rows = "the rows used for choosing calibration; no weights were fitted"
    value = json.loads(dfens("blend", "--optimize", "none", "--calibrate", "isotonic", "--name", "curved", "--json"))
    assert (value["score_of"], value["nested_score_of"], value["fitted"]) == (on_rows, curved, ["calibration"])
    dfens("blend", "--name", "weighted")
    labels = {
        row["blend"]: (row["score_of"], row["nested_score_of"])
        for row in json.loads(dfens("status", "--json"))["blends"]
    }
    assert labels["plain"] == (all_rows, all_rows)
    assert labels["curved"] == (on_rows, curved)
    assert labels["weighted"] == (
        "the rows that the weights were fitted on",
        "each fold, with the weights fitted without it",
    )
    shown = dfens("status")
    assert "score on all rows" in shown
    assert "rows fitted" not in shown
    assert f"Both scores of 'plain' are of {all_rows}." in shown
    assert f"The score of 'curved' is of {on_rows}. Its nested score is of {curved}." in shown
    assert "of 'weighted'" not in shown
    for name, words in (("plain", all_rows), ("curved", curved)):
        dfens("blend", "--optimize", "none", "--name", name, *(["--calibrate", "isotonic"] if name == "curved" else []))
        assert json.loads(dfens("report", "--json"))["head"]["nested_score_of"] == words
        page = (tmp_path / "work" / "reports" / "report.html").read_text()
        assert words in page
        assert ("Fitted AUC" in page) == (name == "curved")
        assert "the weights were fitted on" not in page


def test_an_average_of_an_earlier_version_does_not_claim_fitted_weights(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    assert run(tmp_path, "--optimize", "none").exit_code == 0
    path = tmp_path / "work" / "ensemble" / "blend" / "blend.json"
    facts = json.loads(path.read_text())
    del facts["fitted"]
    path.write_text(json.dumps(facts | {"score_of": "the rows that the weights were fitted on"}))
    (row,) = json.loads(CliRunner().invoke(cli, ["-C", str(tmp_path), "status", "--json"]).stdout)["blends"]
    assert row["score_of"] == "all training rows; no weights were fitted"


def test_status_says_on_which_rows_a_blend_is_scored(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    assert run(tmp_path).exit_code == 0
    shown = CliRunner().invoke(cli, ["-C", str(tmp_path), "status"], env={"COLUMNS": "200"}).stdout
    assert "score on the rows fitted" in shown
    (row,) = json.loads(CliRunner().invoke(cli, ["-C", str(tmp_path), "status", "--json"]).stdout)["blends"]
    assert row["score_of"] == "the rows that the weights were fitted on"
    assert row["nested_score_of"] == "each fold, with the weights fitted without it"
