"""Face cutout and pair mixing: what is cut and mixed, and the label that goes with it."""

import numpy as np
import pytest

from oof.errors import DataError
from tests.support.competitions import face
from trainers.augment.face_cutout import cut_face_part, cut_grid
from trainers.augment.pair_mix import mix_pair, shortcut_warnings

LANDMARKS = np.array([[22.0, 28], [42, 28], [32, 38], [25, 46], [39, 46]])


def test_cut_parts_are_black_and_the_rest_untouched() -> None:
    image = np.maximum(face(0, size=64), 1)
    before = image.copy()
    shares = []
    for seed in range(60):
        cut = cut_face_part(image, np.random.default_rng(seed), landmarks=LANDMARKS)
        black = (cut == 0).all(axis=2)
        shares.append(black.mean())
        np.testing.assert_array_equal(cut[~black], image[~black])
    np.testing.assert_array_equal(image, before)
    assert min(shares) > 0.005
    assert max(shares) < 0.75
    assert len({round(share, 3) for share in shares}) > 10


def test_each_part_of_the_face_is_cut_sometimes() -> None:
    image = np.full((64, 64, 3), 200, np.uint8)
    cuts = [cut_face_part(image, np.random.default_rng(seed), landmarks=LANDMARKS)[..., 0] == 0 for seed in range(80)]
    small = [cut for cut in cuts if cut.mean() < 0.2]
    for x, y in LANDMARKS.astype(int):
        hit = [cut for cut in small if cut[y, x]]
        assert hit
        assert len(hit) < len(small)


def test_grid_cells_are_whole_and_few() -> None:
    image = np.full((50, 70, 3), 9, np.uint8)
    for seed in range(40):
        cut = cut_grid(image, np.random.default_rng(seed), cells=5, most=0.3) == 0
        assert 0 < cut.mean() < 0.34
        assert cut[10:20, 14:28].all() or not cut[10:20, 14:28].any()
    np.testing.assert_array_equal(
        cut_face_part(image, np.random.default_rng(3)), cut_grid(image, np.random.default_rng(3))
    )
    with pytest.raises(DataError, match=r"Expected 5 landmarks.*found \(4, 2\)"):
        cut_face_part(image, np.random.default_rng(0), landmarks=LANDMARKS[:4])


def test_a_mixed_pair_lies_between_its_images_and_so_does_its_label() -> None:
    real, fake = face(0), face(0, fake=True)
    for seed in range(20):
        mixed, label = mix_pair(real, fake, np.random.default_rng(seed))
        expected = real + label * (fake.astype(float) - real)
        assert 0 <= label <= 1
        assert np.abs(mixed - expected).max() <= 0.51
    with pytest.raises(DataError, match="needs a pair of one size"):
        mix_pair(real, fake[:16], np.random.default_rng(0))


def test_one_sided_augmentation_is_warned_of() -> None:
    warnings = shortcut_warnings({"jpeg": 0.0, "blur": 0.3, "noise": 0.5}, {"jpeg": 0.5, "blur": 0.35})
    assert len(warnings) == 2
    assert warnings[0].startswith("jpeg changes fakes with probability 0.5 and reals with 0: a model may learn")
    assert "noise means real" in warnings[1]
    assert shortcut_warnings({"jpeg": 0.5}, {"jpeg": 0.5}) == []
