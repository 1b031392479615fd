"""A kind of model in a separate file works in the whole pipeline, and no other code refers to it by name."""

import ast
import functools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import tests.support.toy_kind as toy_module
from dfens.cli import cli
from dfens.workspace.config import parse_config
from oof.errors import ConfigError, TrainingError
from oof.files import read_json
from oof.store import PredictionStore
from tests.support.toy_kind import ToySettings
from tests.support.training import DATA_TOML, stored_bytes, tiny_competition, train_models
from trainers.jobs.multiprocess import train_in_workers
from trainers.kinds import registry
from trainers.kinds.registry import kind_names, kind_of, register, settings_type

ROOT = Path(__file__).parents[2]
TOML = (
    DATA_TOML
    + """
[models.toy]
kind = "toy"

[models.inverse]
kind = "toy"
power = 2.0
"""
)


def train(folder: Path, **settings: Any) -> PredictionStore:
    """Train two toy models in a folder."""
    competition, store = tiny_competition(folder)
    models = {"toy": ToySettings(**settings), "inverse": ToySettings(power=2.0)}
    train_models(competition, store, models, (0, 1), folder / "work" / "trainers")
    return store


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> PredictionStore:
    return train(tmp_path_factory.mktemp("undisturbed"))


def test_a_new_kind_works_from_folds_to_blend(tmp_path: Path, undisturbed: PredictionStore) -> None:
    _, store = tiny_competition(tmp_path)
    (tmp_path / "dfens.toml").write_text(TOML)
    for arguments in (["folds"], ["train"], ["train"], ["blend"]):
        done = CliRunner().invoke(cli, ["-C", str(tmp_path), *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert store.summary("toy").complete
    assert store.load("inverse").kind == "toy"
    listed = json.loads(CliRunner().invoke(cli, ["-C", str(tmp_path), "oof", "list", "--json"]).stdout)
    assert {row["kind"] for row in listed["models"]} == {"toy"}
    assert list((tmp_path / "work" / "ensemble").rglob("*.parquet"))
    history = read_json(tmp_path / "work" / "trainers" / "toy" / "fold0" / "history.json")
    assert history["settings"]["steps"] == history["epochs"] == 20
    assert history["packages"]["dfens"]


def test_a_killed_training_resumes(tmp_path: Path, undisturbed: PredictionStore) -> None:
    tiny_competition(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from tests.support.toy_kind import ToySettings\n"
        "from tests.support.training import tiny_competition, train_models\n"
        "folder = Path(sys.argv[1])\n"
        "competition, store = tiny_competition(folder)\n"
        "train_models(competition, store, {'toy': ToySettings(pause_s=0.2)}, (0, 1), folder / 'work' / 'trainers')\n"
    )  # fmt: skip
    command = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(ROOT)], cwd=ROOT)
    state = tmp_path / "work" / "trainers" / "toy" / "fold0" / "state.pt"
    limit = time.monotonic() + 240
    while not state.exists() and command.poll() is None and time.monotonic() < limit:
        time.sleep(0.02)
    command.send_signal(signal.SIGKILL)
    assert command.wait(240) == -signal.SIGKILL
    competition, store = tiny_competition(tmp_path)
    train_models(competition, store, {"toy": ToySettings(pause_s=0.2)}, (0, 1), tmp_path / "work" / "trainers")
    assert read_json(state.with_name("history.json"))["resumed_at"] > 0
    assert not state.exists()
    assert stored_bytes(store, "toy") == stored_bytes(undisturbed, "toy")


def test_two_workers_give_the_same_predictions(tmp_path: Path, undisturbed: PredictionStore) -> None:
    competition, store = tiny_competition(tmp_path)
    models = {"toy": ToySettings(), "inverse": ToySettings(power=2.0)}
    engine = functools.partial(train_in_workers, workers=2)
    results = train_models(competition, store, models, (0, 1), tmp_path / "work" / "trainers", engine=engine)
    assert [(result.model, result.fold) for result in results] == [(name, fold) for name in models for fold in (0, 1)]
    for name in models:
        assert stored_bytes(store, name) == stored_bytes(undisturbed, name)


def test_settings_that_cannot_work_are_found_before_anything_is_trained(tmp_path: Path) -> None:
    competition, store = tiny_competition(tmp_path)
    models = {"toy": ToySettings(), "flat": ToySettings(power=0)}
    with pytest.raises(TrainingError, match="Model 'flat': power = 0 makes all images alike"):
        train_models(competition, store, models, (0, 1), tmp_path / "work" / "trainers")
    assert "toy" not in store


def test_settings_that_cannot_work_do_not_replace_a_trained_model(tmp_path: Path) -> None:
    competition, store = tiny_competition(tmp_path)
    work = tmp_path / "work" / "trainers"
    train_models(competition, store, {"toy": ToySettings()}, (0, 1), work)
    before = stored_bytes(store, "toy")
    with pytest.raises(TrainingError, match="Model 'toy': power = 0 makes all images alike"):
        train_models(competition, store, {"toy": ToySettings(power=0)}, (0, 1), work, force=True)
    assert stored_bytes(store, "toy") == before
    assert not (work / "archive").exists()


def test_settings_of_a_kind_are_read_from_toml() -> None:
    config = parse_config({"train": {"epochs": 3}, "models": {"a": {"kind": "toy", "steps": 5}}}, Path())
    assert config.models["a"] == ToySettings(steps=5)
    with pytest.raises(ConfigError, match=r"\[models.a\]: unknown key 'stepps'; did you mean 'steps'"):
        parse_config({"models": {"a": {"kind": "toy", "stepps": 5}}}, Path())
    with pytest.raises(ConfigError, match=r"\[models.a\] steps = 0 is out of range"):
        parse_config({"models": {"a": {"kind": "toy", "steps": 0}}}, Path())
    with pytest.raises(ConfigError, match=r"\[models.a\] kind = 'tim' is unknown; did you mean 'timm'"):
        parse_config({"models": {"a": {"kind": "tim"}}}, Path())


def test_a_name_cannot_be_registered_twice() -> None:
    register("toy", settings=f"{toy_module.__name__}:ToySettings", implementation=f"{toy_module.__name__}:ToyKind")
    with pytest.raises(ConfigError, match="Two kinds of models are named 'toy'"):
        register("toy", settings="elsewhere:Settings", implementation="elsewhere:Kind")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package that adds a kind."""

    def load() -> None:
        register(
            "extra", settings="tests.support.toy_kind:ToySettings", implementation="tests.support.toy_kind:ToyKind"
        )

    entry = SimpleNamespace(name="extra", load=load)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == "dfens.kinds" else [])
    yield
    registry._SOURCES.pop("extra", None)


@pytest.mark.usefixtures("installed")
def test_an_installed_package_adds_a_kind() -> None:
    assert settings_type("extra") is ToySettings
    assert "extra" in kind_names()


def test_the_registry_and_all_settings_load_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from trainers.kinds.registry import kind_names, settings_type\n"
        "for name in kind_names(): settings_type(name)\n"
        "print([name for name in ('torch', 'timm', 'sklearn', 'cv2') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["timm", "linear", "toy"])
def test_every_kind_fulfils_the_contract(name: str) -> None:
    kind_class = type(kind_of(SimpleNamespace(kind=name)))  # type: ignore[arg-type]
    assert kind_class.__doc__
    settings = settings_type(name)
    assert settings.__dataclass_params__.frozen
    assert settings.__dataclass_fields__["kind"].default == name


def test_no_code_outside_a_kind_refers_to_it_by_name() -> None:
    """No isinstance on settings of a kind, no comparison with a kind's name, no import of a kind's module."""
    inside = ROOT / "trainers" / "kinds"
    names = set(kind_names())
    allowed = {inside / "registry.py", ROOT / "trainers" / "analysis" / "baseline.py"}  # the baseline is a classifier
    found = []
    for path in [*(ROOT / "trainers").rglob("*.py"), *(ROOT / "dfens").rglob("*.py")]:
        kind_folder = inside in path.parents and path.parent != inside and path.parent.name != "training"
        if kind_folder or path in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom | ast.Import):
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                found += [
                    f"{path.name}: {module}"
                    for module in modules
                    if module.startswith(tuple(f"trainers.kinds.{name}" for name in names))
                ]
            if isinstance(node, ast.Compare):
                values = [part.value for part in (node.left, *node.comparators) if isinstance(part, ast.Constant)]
                found += [f"{path.name}: == {value!r}" for value in values if value in ("timm", "linear", "toy")]
    assert not found


def test_toy_scores_are_those_of_brightness(undisturbed: PredictionStore) -> None:
    assert np.isfinite(undisturbed.load("toy").oof).all()
    first, second = (undisturbed.load(name).oof for name in ("toy", "inverse"))
    assert not np.array_equal(first, second)
