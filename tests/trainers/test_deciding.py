"""The decisive moment of a clip's prediction."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oof.errors import StoreError
from oof.files import write_parquet
from trainers.kinds.clips.deciding import deciding_moments, moment_places, read_deciding, save_deciding
from trainers.kinds.clips.pooling import pool_mean
from trainers.kinds.clips.settings import FramesSettings


@given(st.integers(0, 10_000))
def test_the_decisive_moment_contributes_most_to_the_predicted_class(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities, weight = rng.random((20, 6)), rng.choice([0.0, 0.5, 1.0], (20, 6))
    weight[:, 0] = 1.0
    prediction = pool_mean(probabilities, weight)
    chosen = deciding_moments(probabilities, weight, prediction)
    for row, moment in enumerate(chosen):
        assert weight[row, moment] > 0
        side = 1 if prediction[row] >= 0.5 else -1
        contributions = [
            side * (probabilities[row, at] - 0.5) * weight[row, at] for at in range(6) if weight[row, at] > 0
        ]
        assert side * (probabilities[row, moment] - 0.5) * weight[row, moment] == max(contributions)


def test_positions_are_in_the_order_of_the_predicted_moments() -> None:
    settings = FramesSettings(backbone="test_resnet", moments=2, time_views=2, tta="hflip")
    # view 0, its mirror image, view 1, its mirror image
    assert moment_places(settings).tolist() == [0.125, 0.625, 0.125, 0.625, 0.375, 0.875, 0.375, 0.875]
    settings = FramesSettings(backbone="test_resnet", moments=2, time_views=1, tta="none")
    assert moment_places(settings).tolist() == [0.25, 0.75]


def test_moments_are_read_back_and_another_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "deciding.parquet"
    save_deciding(path, np.array(["a.mp4"], object), np.array([0.25]), np.array([0.75]))
    assert read_deciding(path) == {"a.mp4": (0.25, 0.75)}
    write_parquet(path, pd.DataFrame({"id": ["a.mp4"], "prediction": [0.5]}), {"version": 1})
    with pytest.raises(StoreError, match=r"deciding.parquet lacks the column 'place'"):
        read_deciding(path)
    write_parquet(path, pd.DataFrame({"id": ["a.mp4"], "place": [0.5], "probability": ["x"]}), {"version": 1})
    with pytest.raises(StoreError, match=r"deciding.parquet contains values that are not numbers"):
        read_deciding(path)
