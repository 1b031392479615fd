"""What trained models are worth: ablations, robustness to corruptions, plots."""
