"""Labels as 0 (real) and 1 (fake), from numbers, names of the classes, and answers such as yes and no.

This is the only table of words that are accepted as labels: label files, targets of imported predictions, and the
classes in the names of their columns are read with it.
"""

import re

import numpy as np
from numpy.typing import NDArray

# only plain numbers: Python's float would also accept "1_0" and digits of other scripts
_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:e[+-]?\d+)?", re.ASCII)
_CLASSES = (("real", "fake"), ("bonafide", "spoof"), ("genuine", "synthetic"), ("bona-fide", "spoof"))
_ANSWERS = (("false", "true"), ("no", "yes"), ("negative", "positive"), ("neg", "pos"))
_CLASS_NAMES = {word for pair in _CLASSES for word in pair}
LABEL_OF_WORD = {word: label for pair in (*_CLASSES, *_ANSWERS) for label, word in enumerate(pair)}
KNOWN_LABELS = ", ".join(f"{zero} and {one}" for zero, one in (("0", "1"), *_CLASSES[:3], *_ANSWERS[:3]))


def parse_labels(texts: NDArray[np.object_]) -> NDArray[np.int8]:
    """Return label texts as 0 (real), 1 (fake), or -1 for anything else; shape (n_rows,).

    Case and surrounding spaces are ignored. If there are both names of classes and answers, the answers are -1, since
    "true" could then mean either class.

    >>> parse_labels(np.array(["0", " 1", "1.0e+00", "FAKE", "2", ""], object))
    array([ 0,  1,  1,  1, -1, -1], dtype=int8)
    """
    distinct, code = np.unique(texts.astype(str), return_inverse=True)
    words = [text.strip().lower() for text in distinct.tolist()]
    has_names = not _CLASS_NAMES.isdisjoint(words)
    return np.array([_parse(word, has_names) for word in words], np.int8)[code]


def _parse(word: str, has_names: bool) -> int:
    if word in LABEL_OF_WORD:
        return -1 if has_names and word not in _CLASS_NAMES else LABEL_OF_WORD[word]
    if _NUMBER.fullmatch(word):
        return {0.0: 0, 1.0: 1}.get(float(word.replace(",", ".")), -1)
    return -1
