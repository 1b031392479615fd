"""Comparisons and diagnoses of stored predictions."""
