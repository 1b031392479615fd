"""Features of files for blends: values of made images and clips, unknown values, and the cache."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from oof.errors import ConfigError
from oof.files import read_parquet, write_parquet
from tests.support.clips import write_clip
from trainers.features import file_properties as module
from trainers.features.file_properties import blur_of, file_properties
from trainers.media.image_properties import ImageProperties, read_image_properties


def save(path: Path, width: int, height: int, *, smooth: int = 1, **options: Any) -> str:
    """Write noise, magnified by `smooth`, and return the path."""
    rng = np.random.default_rng(0)
    small = Pillow.fromarray(rng.integers(0, 256, (height // smooth, width // smooth, 3), np.uint8))
    small.resize((width, height), Pillow.Resampling.BICUBIC).save(path, **options)
    return str(path)


def test_size_and_quality_are_those_with_which_an_image_was_made(tmp_path: Path) -> None:
    paths = [save(tmp_path / "a.jpg", 48, 32, quality=60), save(tmp_path / "b.png", 20, 30)]
    found = file_properties(paths, ["quality", "size"], "images", root=tmp_path, cache_dir=tmp_path / "work")
    assert list(found) == ["quality", "size"]
    np.testing.assert_array_equal(found["quality"]["quality"], [60, np.nan])  # only JPEG has a quality
    np.testing.assert_array_equal(found["size"]["width"], [48, 20])
    np.testing.assert_array_equal(found["size"]["height"], [32, 30])
    np.testing.assert_array_equal(found["size"]["bytes"], [Path(path).stat().st_size for path in paths])


def test_blur_is_the_variance_of_the_laplacian_at_256_pixels(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{smooth}.png", 256, 256, smooth=smooth) for smooth in (1, 2, 8)]
    found = file_properties(paths, ["blur"], "images", root=tmp_path, cache_dir=tmp_path / "work")["blur"]["blur"]
    assert found[0] > 2 * found[1] > 4 * found[2]
    grey = np.asarray(Pillow.open(paths[1]).convert("L"), float)
    around = np.pad(grey, 1, mode="reflect")
    laplacian = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:] - 4 * grey
    assert found[1] == pytest.approx(laplacian.var(), rel=0.01)
    assert blur_of(np.full((16, 16, 3), 77, np.uint8)) == 0


def test_files_that_cannot_be_read_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"x")
    paths = [str(tmp_path / "x.jpg"), str(tmp_path / "none.jpg"), save(tmp_path / "a.jpg", 16, 16)]
    found = file_properties(paths, ["size", "blur"], "images", root=tmp_path, cache_dir=tmp_path / "work")
    for values in (*found["size"].values(), found["blur"]["blur"]):
        np.testing.assert_array_equal(np.isnan(values), [True, True, False])


def test_files_are_read_once_until_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [save(tmp_path / f"{row}.jpg", 16 + row, 16) for row in range(3)]

    def read() -> dict[str, NDArray[np.float32]]:
        return file_properties(paths, ["size", "quality"], "images", root=tmp_path, cache_dir=tmp_path / "w")["size"]

    read()
    seen: list[str] = []

    def recorded(path: str) -> ImageProperties:
        seen.append(path)
        return read_image_properties(path)

    monkeypatch.setattr(module, "read_image_properties", recorded)
    assert list(read()["width"]) == [16, 17, 18]
    assert seen == []
    save(tmp_path / "1.jpg", 99, 16)
    assert list(read()["width"]) == [16, 99, 18]
    assert seen == [paths[1]]


def test_clips_have_a_size_and_a_bit_rate(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_clip(path, frames=50, rate=25)
    found = file_properties([str(path)], ["size", "bitrate"], "clips", root=tmp_path, cache_dir=tmp_path / "work")
    size = path.stat().st_size
    assert found["size"]["bytes"] == [size]
    assert found["bitrate"]["bitrate"][0] == pytest.approx(8 * size / 2, rel=0.1)
    with pytest.raises(ConfigError, match="Clips do not have the features blur, quality; they have size, bitrate"):
        file_properties([str(path)], ["blur", "quality"], "clips", root=tmp_path, cache_dir=tmp_path / "work")


def test_a_file_of_two_rows_is_one_row_of_the_cache(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", 16, 16)
    for _ in range(2):
        found = file_properties([path, path], ["size"], "images", root=tmp_path, cache_dir=tmp_path / "w")["size"]
        assert list(found["width"]) == [16, 16]


@pytest.mark.parametrize("damage", ["of another scan", "no rows", "duplicates", "other types", "a missing column"])
def test_a_damaged_cache_is_read_again(tmp_path: Path, damage: str) -> None:
    paths, work = [save(tmp_path / f"{row}.jpg", 16 + row, 16) for row in range(3)], tmp_path / "work"

    def read() -> NDArray[np.float32]:
        return file_properties(paths, ["size"], "images", root=tmp_path, cache_dir=work)["size"]["width"]

    expected, cache = read(), work / "image_header.parquet"
    table, header = read_parquet(cache)
    changed = {
        "of another scan": table.assign(width=5.0),
        "no rows": table[:0],  # also stored by dfens, if no file could be read
        "duplicates": pd.concat([table, table]),
        "other types": table.assign(size="x"),
        "a missing column": table.drop(columns="mtime_ns"),
    }[damage]
    write_parquet(cache, changed, header | ({"kind": "blur"} if damage == "of another scan" else {}))
    np.testing.assert_array_equal(read(), expected)
