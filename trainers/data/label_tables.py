"""Parse labels as 0 (real) and 1 (fake) from numbers, booleans and words."""

import re

import numpy as np
from numpy.typing import NDArray

# only plain numbers: Python's float would also accept "1_0" and digits of other scripts
_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:e[+-]?\d+)?", re.ASCII)
_TRUTH_VALUES = {"false": 0, "true": 1}
_WORDS = {"real": 0, "fake": 1, "bonafide": 0, "bona-fide": 0, "spoof": 1}
KNOWN_LABELS = "0 and 1, false and true, real and fake, or bonafide and spoof"


def parse_labels(texts: NDArray[np.object_]) -> NDArray[np.int8]:
    """Return label texts as 0 (real), 1 (fake), or -1 for anything else; shape (n_rows,).

    Case and surrounding spaces are ignored. If there are both words and booleans, the booleans are -1, since
    "true" could then mean either class.

    >>> parse_labels(np.array(["0", " 1", "1.0e+00", "FAKE", "2", ""], object))
    array([ 0,  1,  1,  1, -1, -1], dtype=int8)
    """
    distinct, code = np.unique(texts.astype(str), return_inverse=True)
    words = [text.strip().lower() for text in distinct.tolist()]
    has_words = any(word in _WORDS for word in words)
    return np.array([_parse(word, has_words) for word in words], np.int8)[code]


def _parse(word: str, has_words: bool) -> int:
    if word in _WORDS:
        return _WORDS[word]
    if word in _TRUTH_VALUES:
        return -1 if has_words else _TRUTH_VALUES[word]
    if _NUMBER.fullmatch(word):
        return {0.0: 0, 1.0: 1}.get(float(word.replace(",", ".")), -1)
    return -1
