"""Random numbers of one image in one epoch, with a separate stream for each operation.

Adding, removing or reordering operations therefore does not change the draws of the others, which keeps
comparisons of settings paired.
"""

import zlib

import numpy as np


class ImageRandom:
    """The generator of one image in one epoch, with a child stream for each operation by name.

    The streams do not depend on earlier draws, so a resumed training draws the same values. They are jumps of
    PCG64 by multiples of 2^64 steps (numpy's documented method for parallel streams): they cannot overlap, and a jump
    takes a fifth of the time of seeding another generator.

    Args:
        seed: seed of the fold. epoch: from 0. id_: id of the row.
    """

    def __init__(self, seed: int, epoch: int, id_: str) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, epoch, zlib.crc32(id_.encode())]))
        self._start = self._bits.state
        self._generator = np.random.Generator(self._bits)

    def stream(self, operation: str) -> np.random.Generator:
        """Return the generator of an operation at the start of its stream; valid until the next call.

        >>> random = ImageRandom(0, 0, "a.jpg")
        >>> blur = random.stream("blur").random()
        >>> noise = random.stream("noise").random()
        >>> (random.stream("blur").random() == blur, noise == blur)
        (True, False)
        """
        self._bits.state = self._start
        self._bits.advance(zlib.crc32(operation.encode()) << 64)
        return self._generator
