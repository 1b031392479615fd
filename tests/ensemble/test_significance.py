"""Sentences on whether a blend differs from simpler ones."""

import pytest

from ensemble.significance import verdict
from ensemble.summary import Comparison

MEAN, SINGLE = "mean of ranks", "best single"


@pytest.mark.parametrize(
    ("gains", "sentence"),
    [
        ({SINGLE: (0.01, 0.01), MEAN: (0.02, 0.01)}, "The blend is significantly better than"),
        ({SINGLE: (0.01, 0.01), MEAN: (-0.02, 0.3)}, "The difference from the mean of ranks is not"),
        ({SINGLE: (0.01, 0.3), MEAN: (0.02, 0.3)}, "The difference from the best single and the mean of ranks is not"),
        ({SINGLE: (0.01, 0.3), MEAN: (-0.02, 0.01)}, "On these rows the blend is worse than the mean of ranks."),
    ],
)
def test_the_verdict_does_not_call_a_loss_a_gain(gains: dict[str, tuple[float, float]], sentence: str) -> None:
    comparisons = [Comparison(name, gain, (gain - 0.1, gain + 0.1), p_value) for name, (gain, p_value) in gains.items()]
    assert verdict(comparisons).startswith(sentence)
