"""Tests of trainers.analysis.ablation and `dfens ablate`: same folds, nothing trained twice, separate stores."""

import json
from pathlib import Path

import pandas as pd
import pytest

from oof.files import read_json
from oof.store import PredictionStore
from tests.support.commands import make_linear_competition, run
from tests.support.competitions import face, write_image
from tests.support.training import tiny_competition


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_linear_competition(tmp_path, 24)
    return tmp_path


def test_variants_are_compared_and_kept_apart(folder: Path) -> None:
    run(folder, "train")
    result = run(
        folder, "ablate", "pixels", "--set", "image_size=4", "--set", "classifier=extra_trees,seed=1", "--json"
    )
    found = json.loads(result.stdout)
    assert [model["name"] for model in found["scores"]] == ["pixels", "image_size-4", "classifier-extra_trees-seed-1"]
    assert Path(found["picture"]).read_bytes().startswith(b"\x89PNG")
    assert "pixels fold" not in result.stderr  # taken from the real store
    assert "image_size-4 fold 1" in result.stderr
    store = PredictionStore(folder / "work" / "oof")
    assert [model.name for model in store.list()] == ["pixels", "trees"]
    own = PredictionStore(folder / "work" / "trainers" / "ablations" / "pixels" / "oof")
    assert own.folds.fingerprint == store.folds.fingerprint
    assert own.load("pixels").oof.tolist() == store.load("pixels").oof.tolist()
    again = run(folder, "ablate", "pixels", "--set", "image_size=4")
    assert "image_size-4 fold" not in again.stderr  # nothing is trained twice


@pytest.mark.parametrize(
    "file", ["image_size-4/oof.fold0.parquet", "image_size-4/model.json", "pixels/oof.fold1.parquet"]
)
def test_a_damaged_variant_is_made_again(folder: Path, file: str) -> None:
    run(folder, "train", "--model", "pixels")
    first = run(folder, "ablate", "pixels", "--set", "image_size=4", "--json")
    own = folder / "work" / "trainers" / "ablations" / "pixels" / "oof"
    path = own / "models" / file
    path.write_bytes(path.read_bytes()[:20])
    result = run(folder, "ablate", "pixels", "--set", "image_size=4", "--json")
    assert f"The predictions of '{path.parent.name}' were damaged, and moved to {own / 'archive'}" in result.stderr
    assert result.stdout == first.stdout


def test_a_model_that_learnt_from_other_images_is_trained_again(folder: Path) -> None:
    run(folder, "train", "--model", "pixels")
    for path in (folder / "data" / "train").iterdir():
        write_image(path, face(7))
    result = run(folder, "ablate", "pixels", "--set", "image_size=4", "--fold", "1")
    assert "pixels fold 1" in result.stderr


def test_a_model_that_was_trained_anew_is_not_trained_again(folder: Path) -> None:
    config = folder / "dfens.toml"
    for classifier in ("logistic", "svm"):
        config.write_text(
            config.read_text().replace('kind = "linear"', f'kind = "linear"\nclassifier = "{classifier}"', 1)
        )
        run(folder, "train", "--model", "pixels", "--force")
        result = run(folder, "ablate", "pixels", "--set", "image_size=4")
        config.write_text(config.read_text().replace(f'classifier = "{classifier}"\n', ""))
        assert "pixels fold" not in result.stderr
    assert "pixels: the model with other settings was moved to" in result.stderr
    own = PredictionStore(folder / "work" / "trainers" / "ablations" / "pixels" / "oof")
    assert own.load("pixels").oof.tolist() == PredictionStore(folder / "work" / "oof").load("pixels").oof.tolist()


def test_a_model_that_was_trained_with_other_weights_of_rows_is_trained_again(tmp_path: Path) -> None:
    tiny_competition(tmp_path)
    config, table = tmp_path / "dfens.toml", tmp_path / "data" / "train.csv"
    config.write_text(config.read_text().replace("epochs = 3", 'epochs = 1\nweight_column = "w"'))
    rows = pd.read_csv(table, dtype=str)
    for row in (0, 1):
        rows.assign(w=["2" if at == row else "1" for at in range(len(rows))]).to_csv(table, index=False)
        if row == 0:
            run(tmp_path, "train", "--workers", "1")
    result = run(tmp_path, "ablate", "tiny", "--set", "epochs=2", "--fold", "0")
    assert "tiny fold 0" in result.stderr


def test_an_untrained_model_is_trained_together_with_its_variants(folder: Path) -> None:
    result = run(folder, "ablate", "pixels", "--set", "image_size=4", "--fold", "1")
    assert "pixels fold 1" in result.stderr
    assert "on 12 held-out rows" in result.stdout
    assert not PredictionStore(folder / "work" / "oof").list()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("image_size=8", "changes nothing: 'pixels' already has this setting"),
        ("image_sise=8", "unknown key 'image_sise'; did you mean 'image_size'?"),
        ("image_size", "is not a change of a setting. Write KEY=VALUE"),
        ("image_size=large", "expected a valid integer"),
    ],
)
def test_changes_that_make_no_sense_are_refused(folder: Path, change: str, message: str) -> None:
    result = run(folder, "ablate", "pixels", "--set", change, code=1)
    assert message in result.stderr


def test_a_variant_named_like_the_model_is_refused_before_training(folder: Path) -> None:
    config = folder / "dfens.toml"
    config.write_text(config.read_text().replace("[models.pixels]", '[models."image_size-16"]'))
    result = run(folder, "ablate", "image_size-16", "--set", "image_size=16", code=1)
    assert "The variant image_size-16 has the name of the model. Rename the model in dfens.toml." in result.stderr
    assert not (folder / "work" / "trainers" / "ablations").exists()


def test_variants_read_the_cache_and_take_lists(tmp_path: Path) -> None:
    tiny_competition(tmp_path)
    run(tmp_path, "cache")
    run(tmp_path, "ablate", "tiny", "--set", 'epochs=1,inputs=["rgb","srm"]', "--fold", "0")
    folder = tmp_path / "work" / "trainers" / "ablations" / "tiny"
    for variant in ("tiny", "epochs-1-inputs-rgb-srm"):
        assert read_json(folder / variant / "fold0" / "history.json")["images_from"].startswith(
            "cache (41 of 41 images)"
        )
    assert read_json(folder / variant / "settings.json")["settings"]["inputs"] == ["rgb", "srm"]
    path = tmp_path / "dfens.toml"
    path.write_text(f"[competition]\nmax_parameters = 1000\n{path.read_text()}")
    refused = run(tmp_path, "ablate", "tiny", "--set", "epochs=2", "--fold", "0", code=1)
    assert "parameters; the competition allows 1,000" in refused.stderr


def test_an_unknown_model_is_named(folder: Path) -> None:
    result = run(folder, "ablate", "pixel", "--set", "image_size=4", code=1)
    assert "no [models.pixel]; it has pixels, trees" in result.stderr
