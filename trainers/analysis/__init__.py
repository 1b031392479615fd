"""Analysis of trained models: ablations, robustness to corruptions, plots."""
