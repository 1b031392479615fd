"""Blend the out-of-fold predictions of several models, with a nested score.

Import its modules by name (`from ensemble.fit import fit_blend`); this file stays
empty so that importing one of them loads nothing else.
"""
