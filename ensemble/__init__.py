"""From out-of-fold predictions of several models to one blend with an honest score.

Import its modules by name (`from ensemble.fit import fit_blend`); this file stays
empty so that importing one of them loads nothing else.
"""
