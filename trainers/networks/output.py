"""Outputs of a network in training that contain more than one logit per row."""

from typing import NamedTuple

from torch import Tensor


class NetworkOutput(NamedTuple):
    """Logits (batch,) or (batch, 1), and the inputs of auxiliary losses.

    sides: auxiliary heads, such as those of single modalities: logits (batch,) and the weight of each row (batch,).
    features: (batch, n_features) of unit length, or None.
    """

    logits: Tensor
    sides: tuple[tuple[Tensor, Tensor], ...] = ()
    features: Tensor | None = None


def as_output(found: Tensor | NetworkOutput) -> NetworkOutput:
    """Return a network's output as NetworkOutput; plain logits become an output without auxiliary values."""
    return found if isinstance(found, NetworkOutput) else NetworkOutput(found)
