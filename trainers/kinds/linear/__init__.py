"""The kind `linear`: scikit-learn on small features."""
