"""The demo's competition: reproducible by its seed, and colours do not reveal the labels."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from dfens.demo.competition import make_competition
from dfens.workflows.demo import run_demo
from oof.errors import ConfigError
from oof.metrics import roc_auc


def digest(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_seed_draws_the_same_files(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_competition(tmp_path / name, train_rows=40, test_rows=20, size=32, seed=seed)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert digest(tmp_path / "a").keys() != digest(tmp_path / "c").keys()


def test_existing_files_are_not_overwritten(tmp_path: Path) -> None:
    make_competition(tmp_path, train_rows=40, test_rows=20, size=32)
    (tmp_path / "dfens.toml").write_text("edited")
    make_competition(tmp_path, train_rows=80, test_rows=40, size=32)
    assert (tmp_path / "dfens.toml").read_text() == "edited"
    assert len(list((tmp_path / "data" / "train").iterdir())) == 40


def test_the_demo_never_writes_into_a_folder_with_other_files(tmp_path: Path) -> None:
    def stop(arguments: Sequence[str]) -> int:
        return 7  # the first step fails

    labels = tmp_path / "mine" / "data" / "train.csv"
    labels.parent.mkdir(parents=True)
    labels.write_text("img_name,target\n")
    with pytest.raises(ConfigError, match=r"mine is not empty, and not the folder of a demo"):
        run_demo(tmp_path / "mine", stop, images=40)
    assert labels.read_text() == "img_name,target\n"
    folder = tmp_path / "demo"
    assert run_demo(folder, stop, images=40).failed == 7
    assert sorted(path.name for path in folder.iterdir()) == ["data", "dfens.toml", "truth.csv"]
    (folder / "truth.csv").unlink()  # killed while the competition was generated
    with pytest.raises(ConfigError, match="is not empty"):
        run_demo(folder, stop, images=40)
    (folder / ".demo-unfinished").touch()
    assert run_demo(folder, stop, images=40).failed == 7
    assert (folder / "truth.csv").exists()


def test_no_person_is_in_both_sets_and_half_are_fakes(tmp_path: Path) -> None:
    make_competition(tmp_path, train_rows=80, test_rows=40, size=32)
    train = pd.read_csv(tmp_path / "data" / "train.csv")
    truth = pd.read_csv(tmp_path / "truth.csv")
    assert train["target"].mean() == truth["target"].mean() == 0.5
    assert train["person"].nunique() == 20
    assert not set(train["img_name"]) & set(truth["img_name"])
    assert list(truth["img_name"]) == list(pd.read_csv(tmp_path / "data" / "sample_submission.csv")["img_name"])


def test_colors_do_not_reveal_the_label(tmp_path: Path) -> None:
    make_competition(tmp_path, train_rows=600, test_rows=8, size=32)
    train = pd.read_csv(tmp_path / "data" / "train.csv")
    images = [cv2.imread(str(tmp_path / "data" / "train" / name)) for name in train["img_name"]]
    means = np.array([image.reshape(-1, 3).mean(0) / 128 - 1 for image in images if image is not None])
    features = np.c_[means, means**2]
    scores = cross_val_predict(LogisticRegression(), features, train["target"], cv=5, method="predict_proba")[:, 1]
    assert roc_auc(train["target"].to_numpy(), scores) < 0.62
