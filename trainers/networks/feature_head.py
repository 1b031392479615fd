"""A linear head on normalised features that replaces a backbone's own classifier.

How the features are normalised before a linear head affects how well it generalises to unseen forgeries: with a frozen
DINOv3 ConvNeXt, it changed the mean AUC on held-out manipulations by 6.1 points, and the best choice on known
manipulations was not the best on unknown ones (Al-Zyoud and El Saddik, Rethinking Feature Conditioning, 2026, arXiv
2603.26387). It should therefore be chosen on folds that hold out kinds of images.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import layer_norm, normalize

from oof.errors import TrainingError
from trainers.networks.output import NetworkOutput
from trainers.networks.settings import FeatureNorm
from trainers.runtime.device import without_autocast

_LAST_NORMS = ("head.norm", "fc_norm", "norm")  # timm's names of the normalisation layer before the classifier
_EPSILON = 1e-6  # as in timm's layer normalisation


class FeatureHead(nn.Module):
    """Normalisation without learnable parameters, followed by the linear classifier.

    With "l2", the output in training includes the unit-length features, for losses on them (Yermakov et al., Deepfake
    Detection that Generalizes Across Benchmarks, WACV 2026, arXiv 2508.06248: GenD).

    Args:
        classifier: linear layer from features to one logit.
        feature_norm: as in NetworkSettings, other than "backbone".
    """

    def __init__(self, classifier: nn.Linear, feature_norm: FeatureNorm) -> None:
        super().__init__()
        self.feature_norm = feature_norm
        self.standardise = nn.BatchNorm1d(classifier.in_features, affine=False) if feature_norm == "batch" else None
        self.linear = classifier

    def forward(self, features: Tensor) -> Tensor | NetworkOutput:
        """Map features (batch, n_features) to logits (batch, 1)."""
        with without_autocast(features.device):  # norms and variances need 32 bits
            values = self._normalised(features.float())
        logits: Tensor = self.linear(values)
        return NetworkOutput(logits, features=values) if self.training and self.feature_norm == "l2" else logits

    def _normalised(self, features: Tensor) -> Tensor:
        if self.standardise is not None:
            standardised: Tensor = self.standardise(features)
            return standardised
        if self.feature_norm == "layer":
            return layer_norm(features, features.shape[-1:], eps=_EPSILON)
        return normalize(features, dim=-1) if self.feature_norm == "l2" else features


def normalise_features(backbone: nn.Module, feature_norm: FeatureNorm) -> None:
    """Replace the classifier of a timm model by a FeatureHead; "raw" and "layer" remove the last normalisation layer.

    Raises:
        TrainingError: if the classifier is not a single linear layer, or "raw" finds no normalisation layer to remove.
    """
    if feature_norm == "backbone":
        return
    model: Any = backbone
    classifier = model.get_classifier()
    if not isinstance(classifier, nn.Linear):
        kind = "several layers" if isinstance(classifier, tuple | list) else type(classifier).__name__
        raise TrainingError(
            f"feature_norm = {feature_norm!r} needs a backbone whose classifier is one linear layer; that of "
            f'{type(backbone).__name__} is {kind}. Set feature_norm = "backbone".'
        )
    if feature_norm in ("raw", "layer"):
        dropped = _drop_last_norm(backbone)
        if not dropped and feature_norm == "raw":
            raise TrainingError(
                f"{type(backbone).__name__} has no normalisation between its body and its classifier, so "
                f'feature_norm = "raw" would change nothing. Set feature_norm = "backbone".'
            )
    place = next(name for name, module in backbone.named_modules() if module is classifier)
    _replace(backbone, place, FeatureHead(classifier, feature_norm))


def _drop_last_norm(backbone: nn.Module) -> bool:
    """Remove the normalisation layer before the classifier; return whether there was one."""
    modules = dict(backbone.named_modules())
    for place in _LAST_NORMS:
        found = modules.get(place)
        if found is not None and next(found.parameters(recurse=False), None) is not None:
            _replace(backbone, place, nn.Identity())
            return True
    return False


def _replace(backbone: nn.Module, place: str, module: nn.Module) -> None:
    parent, _, name = place.rpartition(".")
    setattr(backbone.get_submodule(parent), name, module)
