"""Changes to training images before augmentation that may change the label: self-blending, pair mixing, face cutout.

Everything is drawn from (seed, epoch, id) alone, so that a resumed training draws the same
values, and images and labels can be requested separately.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oof.errors import ConfigError, DataError, examples
from trainers.augment.face_cutout import cut_face_part
from trainers.augment.pair_mix import MEAN_SHARE, mix_pair, mix_share
from trainers.augment.self_blend import self_blend
from trainers.media.arrays import Image


@dataclass(frozen=True, eq=False)
class PseudoFakes:
    """The changes to the training rows of one fold in each epoch, and their labels.

    ids: (n_rows,) text. seed: seed of all draws.
    target: (n_rows,) 0 or 1; rows between (pseudo-labels) are treated as neither a real nor a fake.
    self_blend: probability that a real becomes a self-blended fake with label 1.
    pair_mix: probability that a row with a counterpart is mixed with it, with a label between 0 and 1.
    face_cutout: probability that a part of the face is blackened; the label is unchanged.
    partner: (n_rows,) row of the real from which a fake was made, or of a fake made from this real; -1 for none.
    """

    ids: NDArray[np.object_]
    target: NDArray[np.int8] | NDArray[np.float32]
    seed: int
    self_blend: float = 0.0
    pair_mix: float = 0.0
    face_cutout: float = 0.0
    partner: NDArray[np.intp] | None = None

    def __post_init__(self) -> None:
        for name in ("self_blend", "pair_mix", "face_cutout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} = {getattr(self, name)} is out of range; it is a probability, 0 to 1.")
        if self.pair_mix and self.partner is None:
            raise ConfigError(
                "pair_mix mixes fakes with the reals they were made from, so it needs a column that pairs them."
            )

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is ever changed."""
        return not (self.self_blend or self.pair_mix or self.face_cutout)

    def labels(self, epoch: int, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the labels of rows in an epoch, shape (len(rows),), 0 to 1."""
        if self.is_idle:
            return self.target[rows].astype(np.float32)
        return np.array([self._plan(epoch, row)[1] for row in rows.tolist()], np.float32)

    def expected_labels(self) -> NDArray[np.float64]:
        """Return the mean label of each row over all epochs, shape (n_rows,), 0 to 1."""
        label = self.target.astype(np.float64)
        label = np.where(label == 0, self.self_blend, label)
        if self.partner is None:
            return label
        paired = self.pair_mix * (self.partner >= 0)
        return np.asarray(paired * MEAN_SHARE + (1 - paired) * label)

    def image(self, epoch: int, row: int, take: Callable[[int], Image]) -> Image:
        """Return the image of a row in an epoch.

        Args:
            take: returns the decoded image of a row; all images have the same shape.
        """
        if self.is_idle:
            return take(row)
        kind, _ = self._plan(epoch, row)
        image = take(row)
        rng = self._rng(epoch, row, 1)
        if kind == "blend":
            image, _ = self_blend(image, rng)
        elif kind == "mix":
            assert self.partner is not None
            other = take(int(self.partner[row]))
            real, fake = (image, other) if self.target[row] == 0 else (other, image)
            image, _ = mix_pair(real, fake, rng)
        if self._rng(epoch, row, 2).random() < self.face_cutout:
            image = cut_face_part(image, self._rng(epoch, row, 3))
        return image

    def _plan(self, epoch: int, row: int) -> tuple[str, float]:
        """Return the change of a row and the resulting label."""
        label = float(self.target[row])
        chance = self._rng(epoch, row, 0).random(2)
        if self.partner is not None and self.partner[row] >= 0 and chance[0] < self.pair_mix:
            return "mix", mix_share(self._rng(epoch, row, 1))
        if label == 0 and chance[1] < self.self_blend:
            return "blend", 1.0
        return "", label

    def _rng(self, epoch: int, row: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, epoch, zlib.crc32(self.ids[row].encode()), purpose, 0x5EED])


def pair_partners(
    ids: NDArray[np.object_], target: NDArray[np.int8] | NDArray[np.float32], originals: NDArray[np.object_]
) -> NDArray[np.intp]:
    """Return the counterpart of each row: a fake's original, a real's first fake, or -1.

    Args:
        ids: (n_rows,) ids of the rows used for training; originals in the held-out fold are not used.
        target: (n_rows,).
        originals: (n_rows,) the id of the real from which a fake was made, "" if unknown or real.

    Raises:
        DataError: if an original is itself a fake.
    """
    place = {id_: row for row, id_ in enumerate(ids.tolist())}
    partner = np.full(len(ids), -1, np.intp)
    wrong = []
    for row, original in enumerate(originals.tolist()):
        at = place.get(original, -1)
        if target[row] == 0 or at < 0:
            continue
        if target[at] != 0:
            wrong.append(f"{ids[row]} of {original}")
            continue
        partner[row] = at
        if partner[at] < 0:
            partner[at] = row
    if wrong:
        raise DataError(
            f"{len(wrong)} fakes have an original that is a fake itself: {examples(wrong)}. Correct the column of "
            f"originals, which must contain ids of reals."
        )
    return partner
