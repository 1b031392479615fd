"""Residual-subspace tuning: freeze the principal directions of each attention weight, and train the rest.

Yan et al., Orthogonal Subspace Decomposition for Generalizable AI-Generated Image Detection, ICML 2025 (Effort,
arXiv 2411.15633). The singular value decomposition of a pretrained weight, W = U S V', is split after its first
directions. Their sum preserves the knowledge of pretraining and is frozen; the last directions, by default one, are
trained as factors u, s, v. Two constraints keep the two parts orthogonal and the norm of the weight unchanged: [U, u]
and [V, v] stay orthonormal, and the Frobenius norm of the weight is constant. The
default weight of these constraints, `residual_penalty = 1`, is a choice of this implementation.

The factors exist only in training (`torch.nn.utils.parametrize`): `merged_state` returns plain weights, which are
loaded for prediction like those of any other network.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from oof.errors import TrainingError
from trainers.networks.weights import head_parameters
from trainers.runtime.device import without_autocast

_ATTENTION = ("attention", "attn")
_FUSED = {"qkv": 3, "kv": 2}  # timm layers that contain several stacked projections


class ResidualWeight(nn.Module):
    """Parametrization of a weight by a frozen part and trained factors, for `torch.nn.utils.parametrize`.

    The buffers are the frozen part (parts, n_out, n_in), bases of its orthogonal complements in both spaces, and the
    squared norm of each part.

    Args:
        weight: pretrained weight, (parts * n_out, n_in).
        rank: number of trained directions per part.
        parts: number of projections in the weight; each is decomposed separately.
    """

    def __init__(self, weight: Tensor, rank: int, parts: int = 1) -> None:
        super().__init__()
        self.parts = parts
        blocks = weight.detach().float().reshape(parts, -1, weight.shape[1])
        left, values, right = torch.linalg.svd(blocks)  # (parts, n_out, n_out), (parts, min), (parts, n_in, n_in)
        kept = values.shape[1] - rank
        self._initial = (left[..., kept : kept + rank], values[:, kept:], right[:, kept : kept + rank])
        main = left[..., :kept] * values[:, None, :kept] @ right[:, :kept]
        self.register_buffer("main", main)
        self.register_buffer("free_left", left[..., kept:].contiguous())  # (parts, n_out, n_out - kept)
        self.register_buffer("free_right", right[:, kept:].contiguous())  # (parts, n_in - kept, n_in)
        self.register_buffer("norm", values.square().sum(1))

    def forward(self, left: Tensor, values: Tensor, right: Tensor) -> Tensor:
        """Return the weight from the factors (parts, n_out, rank), (parts, rank), (parts, rank, n_in)."""
        with without_autocast(left.device):  # with 16 bits the small part would be lost in rounding
            return (self.get_buffer("main") + left * values[:, None] @ right).flatten(0, 1)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the factors of the weight that this object was created from."""
        left, values, right = (part.contiguous() for part in self._initial)
        return left, values, right

    def penalty(self, left: Tensor, values: Tensor, right: Tensor) -> Tensor:
        """Return the total violation of the constraints over all parts; initially 0.

        ||[U, u]'[U, u] - I||² is ||u'u - I||² + 2 ||U'u||², and U'u is the part of u outside the free directions.
        """
        with without_autocast(left.device):
            total = torch.zeros((), device=left.device)
            free_right = self.get_buffer("free_right").transpose(1, 2)
            for vectors, free in ((left, self.get_buffer("free_left")), (right.transpose(1, 2), free_right)):
                gram = vectors.transpose(1, 2) @ vectors
                inside = free @ (free.transpose(1, 2) @ vectors)
                total = total + (gram - torch.eye(gram.shape[-1], device=gram.device)).square().sum()
                total = total + 2 * (vectors - inside).square().sum()
            norm = (self.get_buffer("main") + left * values[:, None] @ right).square().sum((1, 2))
            return total + (norm - self.get_buffer("norm")).abs().sum()


def train_residuals(model: nn.Module, rank: int) -> list[nn.Parameter]:
    """Split the weights of all linear layers of attention, and return the trained factors.

    Raises:
        TrainingError: if the network has no attention, or a layer has no more than `rank` directions.
    """
    heads = set(head_parameters(model))
    layers = [
        (name, layer)
        for module in model.modules()
        if any(word in type(module).__name__.lower() for word in _ATTENTION)
        for name, layer in module.named_children()
        if isinstance(layer, nn.Linear) and layer.weight not in heads
    ]
    if not layers:
        raise TrainingError(
            'trainable = "residual" tunes the attention of a transformer, but this backbone has none. Choose a vision '
            'transformer (preset = "vit-small"), or set trainable = "norm", "head" or "all".'
        )
    for name, layer in layers:
        parts = _FUSED.get(name, 1)
        smallest = min(layer.in_features, layer.out_features // parts)
        if rank >= smallest:
            raise TrainingError(
                f"residual_rank = {rank} leaves nothing to freeze in layers of {smallest} directions. Choose a "
                f"smaller rank."
            )
        parametrize.register_parametrization(layer, "weight", ResidualWeight(layer.weight, rank, parts))
    return residual_factors(model)


def residual_factors(model: nn.Module) -> list[nn.Parameter]:
    """Return the trained factors of all split weights."""
    return [factor for _, factors in _residuals(model) for factor in factors]


def residual_penalty(model: nn.Module) -> Tensor | None:
    """Return the mean violation of the constraints over all split weights; None if there are none."""
    found = [weight.penalty(*factors) for weight, factors in _residuals(model)]
    return torch.stack(found).mean() if found else None


def factor_count(model: nn.Module) -> int:
    """Return how many parameters merging adds: those of the frozen parts, which are buffers, minus the factors."""
    return sum(
        weight.get_buffer("main").numel() - sum(factor.numel() for factor in factors)
        for weight, factors in _residuals(model)
    )


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state of a network with plain weights, as if it had never been split."""
    state = dict(model.state_dict())
    for place, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            prefix = f"{place}.parametrizations.weight."
            state = {name: value for name, value in state.items() if not name.startswith(prefix)}
            weight = module.weight
            assert isinstance(weight, Tensor)
            state[f"{place}.weight"] = weight.detach()
    return state


def _residuals(model: nn.Module) -> Iterator[tuple[ResidualWeight, list[nn.Parameter]]]:
    """Yield each split weight with its factors."""
    for module in model.modules():
        if isinstance(module, parametrize.ParametrizationList):
            weight = module[0]
            if isinstance(weight, ResidualWeight):
                yield weight, [module.get_parameter(f"original{place}") for place in range(3)]
