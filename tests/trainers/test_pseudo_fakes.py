"""Pseudo-fakes: labels match the images, and random draws depend only on seed, epoch and id."""

import numpy as np
import pytest

from oof.errors import ConfigError, DataError
from tests.support.competitions import face
from trainers.augment.pseudo_fakes import PseudoFakes, pair_partners
from trainers.media.arrays import Image

ROWS = np.arange(40)
IDS = np.array([f"{row}.jpg" for row in ROWS], object)
TARGET = (ROWS % 2).astype(np.int8)


def take(row: int) -> Image:
    return face(int(row), fake=bool(row % 2))


def pseudo_fakes(**more: object) -> PseudoFakes:
    return PseudoFakes(IDS, TARGET, 0, **more)  # type: ignore[arg-type]


def changed(one: PseudoFakes, epoch: int) -> list[bool]:
    return [bool((one.image(epoch, row, take) != take(row)).any()) for row in ROWS.tolist()]


def test_nothing_requested_changes_nothing() -> None:
    idle = pseudo_fakes()
    assert idle.is_idle
    np.testing.assert_array_equal(idle.labels(0, ROWS), TARGET)
    assert not any(changed(idle, 0))


def test_a_real_that_is_blended_becomes_a_fake() -> None:
    blended = pseudo_fakes(self_blend=0.5)
    labels = blended.labels(3, ROWS)
    turned = (labels == 1) & (TARGET == 0)
    assert 4 <= turned.sum() <= 16
    assert changed(blended, 3) == turned.tolist()
    assert (labels[TARGET == 1] == 1).all()
    assert (blended.labels(4, ROWS) != labels).any()  # another epoch, other rows
    assert (pseudo_fakes(self_blend=1.0).labels(0, ROWS) == 1).all()


def test_draws_do_not_depend_on_earlier_draws() -> None:
    one, other = pseudo_fakes(self_blend=0.5, face_cutout=0.5), pseudo_fakes(self_blend=0.5, face_cutout=0.5)
    for row in (5, 4, 3):
        one.image(0, row, take)
    np.testing.assert_array_equal(one.labels(1, ROWS[::-1])[::-1], other.labels(1, ROWS))
    for row in range(6):
        np.testing.assert_array_equal(one.image(1, row, take), other.image(1, row, take))


def test_the_label_of_a_mixed_pair_is_its_share() -> None:
    originals = np.where(TARGET == 1, np.array([f"{row - 1}.jpg" for row in ROWS], object), "").astype(object)
    partner = pair_partners(IDS, TARGET, originals)
    assert partner.tolist() == [row + 1 if row % 2 == 0 else row - 1 for row in ROWS]
    mixed = pseudo_fakes(pair_mix=1.0, partner=partner)
    labels = mixed.labels(0, ROWS)
    assert ((labels > 0) & (labels < 1)).mean() > 0.8
    for row in (6, 7):
        real, fake = take(6).astype(float), take(7).astype(float)
        expected = real + float(labels[row]) * (fake - real)
        assert np.abs(mixed.image(0, row, take) - expected).max() <= 0.51


def test_a_cut_face_keeps_its_label() -> None:
    cut = pseudo_fakes(face_cutout=1.0)
    np.testing.assert_array_equal(cut.labels(0, ROWS), TARGET)
    assert all(changed(cut, 0))


def test_expected_labels_are_the_mean_over_epochs() -> None:
    originals = np.where(TARGET == 1, np.array([f"{row - 1}.jpg" for row in ROWS], object), "").astype(object)
    partner = pair_partners(IDS, TARGET, originals)
    partner[20:] = -1
    for settings in ({"self_blend": 0.4}, {"pair_mix": 0.6}, {"self_blend": 0.5, "pair_mix": 0.5}):
        one = pseudo_fakes(**settings, partner=partner)
        mean = np.mean([one.labels(epoch, ROWS) for epoch in range(200)], axis=0)
        assert np.abs(mean - one.expected_labels()).max() < 0.15
        assert mean.mean() == pytest.approx(one.expected_labels().mean(), abs=0.02)


def test_partners_come_from_the_given_rows() -> None:
    ids = np.array(["r1", "f1", "f2", "f3"], object)
    target = np.array([0, 1, 1, 1], np.int8)
    originals = np.array(["", "r1", "r1", "elsewhere"], object)
    assert pair_partners(ids, target, originals).tolist() == [1, 0, 0, -1]
    with pytest.raises(DataError, match="1 fakes have an original that is a fake itself: f2 of f1"):
        pair_partners(ids, target, np.array(["", "r1", "f1", ""], object))


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"self_blend = 1\.5 is out of range"):
        pseudo_fakes(self_blend=1.5)
    with pytest.raises(ConfigError, match="it needs a column that pairs them"):
        pseudo_fakes(pair_mix=0.5)
