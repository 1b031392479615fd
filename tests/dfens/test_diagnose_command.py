"""`dfens diagnose` and `dfens groups`: their output and files."""

import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import save_file

from oof.errors import StoreError
from tests.support.clips import write_clip
from tests.support.commands import LINEAR_CONFIG, make_linear_competition, run
from tests.support.competitions import face, write_image
from trainers.data.groups import derive_groups
from trainers.data.layouts import read_competition
from trainers.data.settings import DataSettings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_linear_competition(tmp_path, 48)
    return tmp_path


def test_diagnosis_lists_clusters_and_label_issues(folder: Path) -> None:
    run(folder, "train")
    result = run(folder, "diagnose", "pixels", "--json")
    found = json.loads(result.stdout)
    assert sum(cluster["rows"] for cluster in found["clusters"]) == 48
    assert all(issue["models"] == 2 for issue in found["label_issues"])
    text = (folder / "work" / "reports" / "diagnose" / "pixels" / "label_issues.csv").read_text()
    assert text.startswith("id,target,label_error_score,models_against,models\n")
    assert len(text.splitlines()) == 1 + len(found["label_issues"])
    shown = run(folder, "diagnose", "pixels")
    assert "by cluster of images, weakest first" in shown.stdout


def test_clusters_are_those_of_the_folds(folder: Path) -> None:
    run(folder, "train", "--model", "pixels")
    config = folder / "dfens.toml"
    config.write_text(config.read_text().replace("[folds]\n", "[folds]\nseed = 7\n"))
    found = json.loads(run(folder, "diagnose", "pixels", "--json").stdout)
    rows = {cluster["cluster"]: cluster["rows"] for cluster in found["clusters"]}
    assert rows == dict(Counter(derive_clusters(folder, seed=7)))
    assert rows != dict(Counter(derive_clusters(folder)))


def test_an_unknown_model_is_named(folder: Path) -> None:
    result = run(folder, "diagnose", "nothing", code=1)
    assert "There is no model 'nothing' in the store" in result.stderr


def test_a_missing_configuration_is_named_instead_of_the_data(folder: Path) -> None:
    run(folder, "train", "--model", "pixels")
    data = folder / "data"
    data.rename(folder / "elsewhere")
    with_config = run(folder, "diagnose", "pixels", code=1)
    assert f"The data folder {data} is missing. Correct [data] root in dfens.toml" in with_config.stderr
    (folder / "dfens.toml").rename(folder / "kept.toml")
    for command in (["diagnose", "pixels"], ["check"], ["groups"]):
        text = " ".join(run(folder, *command, code=1).stderr.split())
        assert f"There is no dfens.toml in {folder}, which describes the files of the competition." in text
        assert "Run dfens init to write one, or name the folder of an existing one with -C DIR." in text
        assert "orrect" not in text


def test_groups_of_clips_come_from_a_column(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / "data" / "train" / name, frames=2)
    (tmp_path / "data" / "train.csv").write_text("id,target,person\na.mp4,0,p\nb.mp4,1,p\n")
    (tmp_path / "dfens.toml").write_text('[data]\nroot = "data"\ntest = ""\n')
    text = " ".join(run(tmp_path, "groups", code=1).stderr.split())
    assert "dfens groups compares images, but these are clips." in text
    assert '[folds] group = "column:NAME"' in text
    assert "kind" not in text  # no model is involved


def test_groups_compares_the_groupings(folder: Path) -> None:
    write_image(folder / "data" / "train" / "a003.jpg", face(1, fake=True), quality=70)  # a copy of a001
    result = run(folder, "groups", "--json")
    none, duplicates, clusters = json.loads(result.stdout)["groupings"]
    assert (none["group"], none["groups"], none["rows_not_alone"]) == ("none", 48, 0)
    assert (duplicates["groups"], duplicates["largest"], duplicates["rows_not_alone"]) == (47, 2, 2)
    assert clusters["groups"] <= 20
    assert 0 <= none["baseline_auc"] <= 1
    assert "Out-of-fold AUC of the linear baseline" in run(folder, "groups").stdout


def test_given_groups_are_neither_random_folds_nor_near_duplicates(folder: Path) -> None:
    write_image(folder / "data" / "train" / "a003.jpg", face(1, fake=True), quality=70)  # a copy of a001
    labels = folder / "data" / "train.csv"
    header, *lines = labels.read_text().splitlines()
    rows = [f"{line},p{row // 4}" for row, line in enumerate(lines)]
    labels.write_text("\n".join([f"{header},person", *rows]) + "\n")
    config = folder / "dfens.toml"
    config.write_text(config.read_text().replace("[data]\n", '[data]\ngroup = "person"\n'))
    found = {row["group"]: row for row in json.loads(run(folder, "groups", "--json").stdout)["groupings"]}
    assert list(found) == ["none", "data", "duplicates", "clusters"]
    assert (found["none"]["groups"], found["data"]["groups"]) == (48, 12)
    stored = json.loads((folder / "work" / "reports" / "groups.json").read_text())
    assert stored["random"] == found["none"]["baseline_auc"]
    assert stored["grouped"]["data"] == found["data"]["baseline_auc"]
    copies = pd.read_parquet(folder / "work" / "reports" / "duplicates.parquet")
    assert sorted(copies["id"]) == ["a001.jpg", "a003.jpg"]


def test_clusters_use_features_of_a_frozen_backbone(folder: Path) -> None:
    torch.manual_seed(0)
    save_file(timm.create_model("resnet10t", num_classes=0).state_dict(), folder / "weights.safetensors")
    network = '\n[models.net]\nbackbone = "resnet10t"\npretrained = "weights.safetensors"\nimage_size = 32\n'
    (folder / "dfens.toml").write_text(
        LINEAR_CONFIG + network + network.replace("net]", "raw]").replace('"weights.safetensors"', "false")
    )
    before = derive_clusters(folder)
    result = run(folder, "groups", "--model", "net")
    assert "clusters of features of the frozen backbone resnet10t" in result.stderr
    table = pd.read_parquet(folder / "work" / "trainers" / "embeddings.parquet")
    assert table.shape == (48, 1 + 512)
    after = derive_clusters(folder)
    assert after != before
    assert after == derive_clusters(folder)
    (folder / "data" / "train.csv").write_text((folder / "data" / "train.csv").read_text() + "new.jpg,1\n")
    write_image(folder / "data" / "train" / "new.jpg", face(9))
    with pytest.raises(StoreError, match=r"lacks 1 of 49 rows\. Run dfens groups --model net again"):
        derive_clusters(folder)
    refused = run(folder, "groups", "--model", "raw", code=1)
    assert "has random weights" in refused.stderr
    expected = "--model pixels: expected a model in dfens.toml with a backbone"
    assert expected in run(folder, "groups", "--model", "pixels", code=1).stderr


def derive_clusters(folder: Path, seed: int = 0) -> list[str]:
    competition = read_competition(DataSettings(root=folder / "data", id="img_name"))
    groups = derive_groups(competition, "clusters", work_dir=folder / "work" / "trainers", seed=seed)
    assert groups is not None
    return [str(name) for name in groups.names]
