"""`import dfens` provides the public names."""

import pytest

import dfens


def test_the_public_names() -> None:
    assert dfens.__all__ == ["BlendResult", "DfensError", "PredictionStore", "fit_blend", "roc_auc"]
    for name in dfens.__all__:
        assert getattr(dfens, name).__name__ == name
    assert set(dfens.__all__) <= set(dir(dfens))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'blend'; it has BlendResult"):
        _ = dfens.blend
