"""Deciding moments of clips: a file that another one replaced is named."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from oof.errors import StoreError
from oof.files import write_parquet
from trainers.kinds.clips.deciding import read_deciding, save_deciding


def test_moments_are_read_back_and_another_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "deciding.parquet"
    save_deciding(path, np.array(["a.mp4"], object), np.array([0.25]), np.array([0.75]))
    assert read_deciding(path) == {"a.mp4": (0.25, 0.75)}
    write_parquet(path, pd.DataFrame({"id": ["a.mp4"], "prediction": [0.5]}), {"version": 1})
    with pytest.raises(StoreError, match=r"deciding.parquet lacks the column 'place'"):
        read_deciding(path)
