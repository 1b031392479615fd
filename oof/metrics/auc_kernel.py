"""Compiled kernels that sort scores by a radix sort of their bits and compute the exact AUC, without checks.

The bits of floats, read as integers, have the same order as the floats (reversed for
negative ones). Each row therefore becomes one word, `rank of the float << 1 | label`: the
unused ranges below the smallest value and between the negative and the positive values
are removed first, and the rest nearly always fits into 32 bits (float32) or 64 bits
(float64). Sorted words give negatives and positives in order, with ties next to each other.
"""

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.compiled import compiled

_DIGIT_BITS = 11  # 2,048 counters stay in the first-level cache
_SORTED_BITS = 3 * _DIGIT_BITS  # of a 64-bit word; words equal in these bits are sorted by insertion
_WORDS = 1 << 64
_KEPT_BYTES = 1 << 24  # allocating memory takes as long as sorting in it, so the memory of small arrays is reused
_kept = threading.local()


@compiled
def value_ranges(bits: NDArray[np.unsignedinteger], sign: np.uint64) -> tuple[np.uint64, ...]:
    """Return the smallest and largest magnitude of the negative values, then of the others; (large, small) if none."""
    lowest = sign + (sign - np.uint64(1))
    flipped_lowest = lowest
    highest = np.uint64(0)
    flipped_highest = np.uint64(0)
    for i in range(len(bits)):
        value = np.uint64(bits[i])
        value = np.uint64(0) if value == sign else value  # -0.0 equals 0.0
        flipped = value ^ sign
        lowest = min(lowest, value)
        highest = max(highest, value)
        flipped_lowest = min(flipped_lowest, flipped)
        flipped_highest = max(flipped_highest, flipped)
    negative_low, negative_high = sign, np.uint64(0)
    positive_low, positive_high = sign, np.uint64(0)
    if highest >= sign:
        negative_low, negative_high = flipped_lowest, highest - sign
    if lowest < sign:
        positive_low, positive_high = lowest, flipped_highest - sign
    return negative_low, negative_high, positive_low, positive_high


@compiled
def pack(
    bits: NDArray[np.unsignedinteger],
    labels: NDArray[np.uint8],
    words: NDArray[np.unsignedinteger],
    sign: np.uint64,
    top: np.uint64,
    offset: np.uint64,
) -> None:
    """Write `rank << 1 | label` for each row: top - bits of a negative value, bits + offset of another."""
    for i in range(len(bits)):
        value = np.uint64(bits[i])
        value = np.uint64(0) if value == sign else value
        rank = top - value if value >= sign else value + offset
        words[i] = (rank << np.uint64(1)) | np.uint64(labels[i])


@compiled
def _scatter(
    source: NDArray[np.unsignedinteger],
    target: NDArray[np.unsignedinteger],
    counts: NDArray[np.uint64],
    shift: np.uint64,
    mask: np.uint64,
) -> None:
    """Move each word to the next place of its digit; `counts` is the number of words with each digit."""
    place = np.uint64(0)
    for digit in range(len(counts)):
        count = counts[digit]
        counts[digit] = place
        place += count
    for i in range(len(source)):
        value = (np.uint64(source[i]) >> shift) & mask
        target[counts[value]] = source[i]
        counts[value] += np.uint64(1)


@compiled
def radix_sort(
    words: NDArray[np.unsignedinteger], spare: NDArray[np.unsignedinteger], first_bit: int, digit_bits: int
) -> None:
    """Sort words into `spare` by three digits from `first_bit` up; words equal in these keep their order."""
    mask = np.uint64((1 << digit_bits) - 1)
    shift = np.uint64(first_bit)
    step = np.uint64(digit_bits)
    # with three arrays and unsigned places, numba neither loops over digits nor checks for negative indices
    low = np.zeros(1 << digit_bits, np.uint64)
    middle = np.zeros(1 << digit_bits, np.uint64)
    high = np.zeros(1 << digit_bits, np.uint64)
    one = np.uint64(1)
    for i in range(len(words)):
        word = np.uint64(words[i]) >> shift
        low[word & mask] += one
        middle[(word >> step) & mask] += one
        high[(word >> (step + step)) & mask] += one
    _scatter(words, spare, low, shift, mask)
    _scatter(spare, words, middle, shift + step, mask)
    _scatter(words, spare, high, shift + step + step, mask)


@compiled
def insertion_sort(words: NDArray[np.unsignedinteger], most_moves: int) -> bool:
    """Sort words that are nearly in order; return False if that would take more than `most_moves` moves."""
    moves = 0
    last = words[0]
    for i in range(1, len(words)):
        word = words[i]
        if word >= last:
            last = word
            continue
        j = i
        while j > 0 and words[j - 1] > word:
            words[j] = words[j - 1]
            j -= 1
        words[j] = word
        moves += i - j
        if moves > most_moves:
            return False
    return True


@compiled
def pairs_won_twice(words: NDArray[np.unsignedinteger]) -> tuple[np.int64, np.int64]:
    """Return twice the number of (negative, positive) pairs in order, ties counted once, and the count of negatives."""
    won = negatives = negatives_below = np.int64(0)
    last = np.uint64(0)
    for i in range(len(words)):
        rank = np.uint64(words[i]) >> np.uint64(1)
        label = np.int64(words[i] & 1)
        negatives_below = negatives_below if rank == last else negatives
        last = rank
        won += label * (negatives_below + negatives)
        negatives += 1 - label
    return won, negatives


@compiled
def count_ties(words: NDArray[np.unsignedinteger], negatives: NDArray[np.int64], positives: NDArray[np.int64]) -> int:
    """Count the negatives and positives at each distinct score in ascending order; return the number of scores."""
    distinct = -1
    last = np.uint64(0)
    for i in range(len(words)):
        rank = np.uint64(words[i]) >> np.uint64(1)
        if rank != last or distinct < 0:
            distinct += 1
            negatives[distinct] = 0
            positives[distinct] = 0
            last = rank
        label = np.int64(words[i] & 1)
        positives[distinct] += label
        negatives[distinct] += 1 - label
    return distinct + 1


@compiled
def weighted_pairs_won_twice(
    labels: NDArray[np.uint8],
    scores: NDArray[np.floating],
    weights: NDArray[np.float64],
    order: NDArray[np.intp],
) -> tuple[float, float, float]:
    """Return twice the weight of (negative, positive) pairs in order, ties counted half, and each class's weight."""
    won = 0.0
    negatives = positives = 0.0
    tied_negatives = tied_positives = 0.0
    last = scores[order[0]]
    for i in order:
        if scores[i] != last:
            won += tied_positives * (2.0 * negatives + tied_negatives)
            negatives += tied_negatives
            positives += tied_positives
            tied_negatives = tied_positives = 0.0
            last = scores[i]
        if labels[i]:
            tied_positives += weights[i]
        else:
            tied_negatives += weights[i]
    won += tied_positives * (2.0 * negatives + tied_negatives)
    return won, negatives + tied_negatives, positives + tied_positives


def sorted_words(labels: NDArray[np.uint8], scores: NDArray[np.float32 | np.float64]) -> NDArray[np.unsignedinteger]:
    """Return rank and label of each row as one number, `rank << 1 | label`, sorted; equal scores have equal ranks.

    The result is in memory that the next call from the same thread overwrites.

    Args:
        labels: (n_rows,) 0 or 1.
        scores: (n_rows,) float32 or float64, contiguous, without NaN; infinities are the ends of the order.

    Raises:
        ValueError: if a score is NaN.
    """
    wide = scores.dtype == np.float64
    bits: NDArray[Any] = scores.view(np.uint64 if wide else np.uint32)
    sign, infinity = (1 << 63, 0x7FF << 52) if wide else (1 << 31, 0xFF << 23)
    ranges = [int(value) for value in value_ranges(bits, np.uint64(sign))]
    negative_low, negative_high, positive_low, positive_high = ranges
    if max(negative_high, positive_high) > infinity:
        raise ValueError("NaN")
    negatives = max(0, negative_high - negative_low + 1)
    # an upper bound: the number of floats in these ranges
    distinct = negatives + max(0, positive_high - positive_low + 1)
    word_bits = (distinct - 1).bit_length() + 1
    if word_bits > 64:  # both signs over all magnitudes: use dense ranks instead of bits
        return sorted_words(labels, np.unique(scores, return_inverse=True)[1].astype(np.float64))
    words, spare = _two_arrays(len(scores), np.uint32 if word_bits <= 32 and not wide else np.uint64)
    top, offset = (sign + negative_high) % _WORDS, (negatives - positive_low) % _WORDS
    pack(bits, labels, words, np.uint64(sign), np.uint64(top), np.uint64(offset))
    if word_bits <= _SORTED_BITS:
        radix_sort(words, spare, 0, -(-word_bits // 3))
        return spare
    radix_sort(words, spare, word_bits - _SORTED_BITS, _DIGIT_BITS)
    if insertion_sort(spare, 4 * len(words)):
        return spare
    radix_sort(spare, words, 0, _DIGIT_BITS)  # many scores differ only in their last bits
    radix_sort(words, spare, _SORTED_BITS, _DIGIT_BITS)
    return spare


def _two_arrays(length: int, dtype: type[np.unsignedinteger]) -> tuple[NDArray[Any], NDArray[Any]]:
    size = 2 * length * np.dtype(dtype).itemsize
    if size > _KEPT_BYTES:
        return np.empty(length, dtype), np.empty(length, dtype)
    if getattr(_kept, "memory", np.empty(0)).nbytes < size:
        _kept.memory = np.empty(size, np.uint8)
    both = _kept.memory[:size].view(dtype)
    return both[:length], both[length:]
