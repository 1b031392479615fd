"""Random numbers of one image in one epoch: each operation draws from a stream of its own.

Adding, removing or reordering operations therefore leaves the draws of all others as they are, which keeps
comparisons of settings paired.
"""

import zlib

import numpy as np


class ImageRandom:
    """The generator of one image in one epoch, with a child stream for each operation by name.

    What was drawn before has no say, so a training that resumes draws the same again. The streams are jumps of
    PCG64 by multiples of 2^64 steps (the way numpy documents for parallel streams): they cannot overlap, and a jump
    takes a fifth of the time of seeding one more generator.

    Args:
        seed: of the fold. epoch: from 0. id_: of the image's row.
    """

    def __init__(self, seed: int, epoch: int, id_: str) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, epoch, zlib.crc32(id_.encode())]))
        self._start = self._bits.state
        self._generator = np.random.Generator(self._bits)

    def stream(self, operation: str) -> np.random.Generator:
        """Return the generator of an operation, at its beginning; valid until the next call.

        >>> random = ImageRandom(0, 0, "a.jpg")
        >>> blur = random.stream("blur").random()
        >>> noise = random.stream("noise").random()
        >>> (random.stream("blur").random() == blur, noise == blur)
        (True, False)
        """
        self._bits.state = self._start
        self._bits.advance(zlib.crc32(operation.encode()) << 64)
        return self._generator
