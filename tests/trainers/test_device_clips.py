"""Models on clips on a CUDA device."""

from pathlib import Path

import numpy as np
import pytest

from oof.files import read_json
from tests.support.clip_training import MODELS, clip_competition, train


@pytest.mark.gpu
def test_every_kind_of_clip_model_trains_and_predicts_on_the_device(tmp_path: Path) -> None:
    competition = clip_competition(tmp_path)
    for name in (name for name in MODELS if name != "linear"):
        model = train(competition, tmp_path / name, name).load(name)
        assert model.test is not None
        assert np.isfinite(model.oof).all()
        assert np.isfinite(model.test).all()
        history = read_json(tmp_path / name / "trainers" / name / "fold0" / "history.json")
        assert "NVIDIA" in history["device"]
        assert history["peak_memory_bytes"]["device"] > 0
        assert history["steps_skipped"] == 0
