"""Face cutout and pair mixing: regions, mixtures and labels."""

import numpy as np
import pytest

from oof.errors import DataError
from tests.support.competitions import face
from trainers.augment.face_cutout import aligned_landmarks, cut_face_part
from trainers.augment.pair_mix import mix_pair

LANDMARKS = np.array([[22.0, 28], [42, 28], [32, 38], [25, 46], [39, 46]])


def test_cut_parts_are_black_and_the_rest_is_unchanged() -> None:
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


def test_without_landmarks_parts_are_where_an_aligned_crop_has_them() -> None:
    image = np.full((100, 80, 3), 200, np.uint8)
    cuts = [cut_face_part(image, np.random.default_rng(seed))[..., 0] == 0 for seed in range(300)]
    small = [cut for cut in cuts if cut.mean() < 0.2]  # no halves
    assert len(small) > 150
    often = np.mean(small, axis=0)
    eyes, nose, mouth, corner = often[46:50, 28:52].mean(), often[60, 40], often[72, 40], often[:15, :15].max()
    assert min(eyes, nose, mouth) > 0.15
    assert corner == 0
    points = np.array([aligned_landmarks((100, 80), np.random.default_rng(seed)) for seed in range(200)])
    np.testing.assert_allclose(points.mean(0)[2], [40, 61], atol=2)


def test_landmarks_of_another_shape_are_refused() -> None:
    with pytest.raises(DataError, match=r"Expected 5 landmarks.*found \(4, 2\)"):
        cut_face_part(face(0), np.random.default_rng(0), landmarks=LANDMARKS[:4])


def test_a_mixed_pair_is_between_its_images_and_so_is_its_label() -> None:
    real, fake = face(0), face(0, fake=True)
    for seed in range(20):
        mixed, label = mix_pair(real, fake, np.random.default_rng(seed))
        expected = real + label * (fake.astype(float) - real)
        assert 0 <= label <= 1
        assert np.abs(mixed - expected).max() <= 0.51
    with pytest.raises(DataError, match="needs two images of equal size"):
        mix_pair(real, fake[:16], np.random.default_rng(0))
