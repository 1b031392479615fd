"""The recipes: each has a summary, can be parsed, names existing backbones, and trains with small replacements."""

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import timm

from dfens.recipes import recipe_names, recipe_summary, recipe_text
from dfens.workspace.config import parse_config
from tests.support.training import tiny_clips, tiny_competition, train_models

REPRODUCED = [name for name in recipe_names() if "# Source:" in recipe_text(name)]


def models(name: str) -> dict[str, Any]:
    return dict(parse_config(tomllib.loads(recipe_text(name)), Path()).models)


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_has_a_summary_of_one_line(name: str) -> None:
    first, second = recipe_text(name).splitlines()[:2]
    assert first == f"# {recipe_summary(name)}"
    assert 40 < len(first) <= 120
    assert first.endswith(".")
    assert second == "#"  # what follows is another paragraph


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_names_rules_and_cost(name: str) -> None:
    text = recipe_text(name)
    assert "# Rules:" in text
    assert re.search(r"^# (Estimate|Estimate, not measured|Measured): .*(GPU)", text, re.MULTILINE)


@pytest.mark.parametrize("name", REPRODUCED)
def test_reproductions_name_source_differences_and_the_original_score(name: str) -> None:
    for part in ("# Source:", "# Reported:", "# Not included:"):
        assert part in recipe_text(name)


def test_recipes_include_winning_solutions() -> None:
    assert set(REPRODUCED) == {
        "dfdc-seferbekov-frames", "dfdc-selim", "ffdi-aegis", "ffdi-baseline", "ffdi-jtgroup", "ffdi-visionrush",
        "ffdv-baseline", "ffdv-fmsh", "seam-and-no-seam",
    }  # fmt: skip


@pytest.mark.parametrize("name", recipe_names())
def test_backbones_exist_with_the_weights_named(name: str) -> None:
    for settings in models(name).values():
        if getattr(settings, "pretrained", False) is True:
            assert timm.models.is_model_pretrained(settings.backbone)


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_a_fold_trains_with_small_stand_ins(tmp_path: Path, name: str) -> None:
    reads_clips = any(getattr(settings, "moments", 0) for settings in models(name).values())
    competition, store = (tiny_clips if reads_clips else tiny_competition)(tmp_path, train_rows=12)
    small = {}
    for model, settings in list(models(name).items())[:3]:
        changes: dict[str, Any] = {}
        if hasattr(settings, "backbone"):
            changes = {"backbone": "test_resnet", "backbone_options": {}, "pretrained": False, "image_size": 32}
            changes |= {"crop": 0, "epochs": 1, "batch_size": 4, "checkpointing": False}
            changes |= {"frames": 4, "frame_size": 32, "moments": 2, "window_s": 0.3}
            changes |= {"sound_backbone": "test_resnet", "sound_options": {}, "sound_pretrained": False}
            changes = {key: value for key, value in changes.items() if hasattr(settings, key)}
        small[model] = dataclasses.replace(settings, **changes)
    results = train_models(competition, store, small, [0], tmp_path / "work" / "trainers")
    assert {result.model for result in results} == set(small)
