"""dfens: out-of-fold ensembling and submission management for binary Kaggle competitions scored by AUC.

This module is the public API. Names are imported on first use, so that `import dfens` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensemble.fit import BlendResult, fit_blend
    from oof.errors import DfensError
    from oof.metrics import roc_auc
    from oof.store import PredictionStore

__version__ = "0.1.0"

_HOMES = {
    "BlendResult": "ensemble.fit",
    "DfensError": "oof.errors",
    "PredictionStore": "oof.store",
    "fit_blend": "ensemble.fit",
    "roc_auc": "oof.metrics",
}

__all__ = ["BlendResult", "DfensError", "PredictionStore", "fit_blend", "roc_auc"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dfens' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
