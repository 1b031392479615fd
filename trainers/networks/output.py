"""What a network returns in training, where it is more than one logit for each row."""

from typing import NamedTuple

from torch import Tensor


class NetworkOutput(NamedTuple):
    """Logits (batch,) or (batch, 1), and what further losses need.

    sides: further heads, such as those of single modalities: logits (batch,), and the weight of each row (batch,).
    features: (batch, n_features) of unit length, or None.
    """

    logits: Tensor
    sides: tuple[tuple[Tensor, Tensor], ...] = ()
    features: Tensor | None = None


def as_output(found: Tensor | NetworkOutput) -> NetworkOutput:
    """Return what a network returned, where plain logits are an output without more."""
    return found if isinstance(found, NetworkOutput) else NetworkOutput(found)
