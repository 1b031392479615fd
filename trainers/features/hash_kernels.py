"""Find near pairs among 256-bit hashes without comparing all pairs; compiled, without checks.

By the pigeonhole principle on 16 bands of 16 bits, two hashes that differ in at most r bits differ in at most r // 16
bits in some band. Therefore each hash is only compared with those that have an equal band, or (for r of 16 to 31) a
band that differs in one bit. This is exact, and with half a million hashes it takes a few thousand comparisons per
hash.
"""

import numpy as np
from numpy.typing import NDArray

from oof.compiled import compiled

BANDS = 16
_VALUES = 1 << 16

Hashes = NDArray[np.uint64]


@compiled
def _bits_apart(a: Hashes, b: Hashes, most: int) -> np.int64:
    """Return the number of bits in which two hashes differ, or any number above `most` if it is larger."""
    total = np.int64(0)
    for word in range(len(a)):
        x = a[word] ^ b[word]
        x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
        x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
        x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
        total += np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))
        if total > most:
            return total
    return total


@compiled
def _band(value: Hashes, band: int) -> np.int64:
    return np.int64((value[band >> 2] >> np.uint64(16 * (band & 3))) & np.uint64(0xFFFF))


@compiled
def _sort_band(hashes: Hashes, band: int, order: NDArray[np.int64], starts: NDArray[np.int64]) -> None:
    """Sort positions by the value of one band: those with value v are order[starts[v]:starts[v + 1]]."""
    starts[:] = 0
    for row in range(len(hashes)):
        starts[_band(hashes[row], band) + 1] += 1
    for value in range(_VALUES):
        starts[value + 1] += starts[value]
    place = starts[:-1].copy()
    for row in range(len(hashes)):
        at = _band(hashes[row], band)
        order[place[at]] = row
        place[at] += 1


@compiled
def _root(parent: NDArray[np.int64], row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = int(parent[row])
    return row


@compiled
def link_near(hashes: Hashes, distance: int, parent: NDArray[np.int64]) -> None:
    """Merge in `parent` all hashes that are at most `distance` bits apart, directly or through others."""
    order = np.empty(len(hashes), np.int64)
    starts = np.empty(_VALUES + 1, np.int64)
    probes = 17 if distance >= BANDS else 1
    for band in range(BANDS):
        _sort_band(hashes, band, order, starts)
        for row in range(len(hashes)):
            value = _band(hashes[row], band)
            for probe in range(probes):
                near = value if probe == 0 else value ^ (1 << (probe - 1))
                for at in range(starts[near], starts[near + 1]):
                    other = order[at]
                    if other <= row:
                        continue
                    if _bits_apart(hashes[row], hashes[other], distance) <= distance:
                        a, b = _root(parent, row), _root(parent, other)
                        if a != b:
                            parent[max(a, b)] = min(a, b)


@compiled
def nearest(hashes: Hashes, queries: Hashes, distance: int, found: NDArray[np.int64], apart: NDArray[np.int64]) -> None:
    """Find for each query the nearest of `hashes` within `distance` bits (the first if tied), or -1."""
    order = np.empty(len(hashes), np.int64)
    starts = np.empty(_VALUES + 1, np.int64)
    probes = 17 if distance >= BANDS else 1
    found[:] = -1
    apart[:] = distance + 1
    for band in range(BANDS):
        _sort_band(hashes, band, order, starts)
        for row in range(len(queries)):
            value = _band(queries[row], band)
            for probe in range(probes):
                near = value if probe == 0 else value ^ (1 << (probe - 1))
                for at in range(starts[near], starts[near + 1]):
                    other = order[at]
                    bits = _bits_apart(queries[row], hashes[other], apart[row])
                    if bits < apart[row] or (bits == apart[row] and 0 <= other < found[row]):
                        apart[row] = bits
                        found[row] = other
