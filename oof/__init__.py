"""Ids, folds, out-of-fold and test predictions on disk, and the scores computed from them.

The lowest package: it imports no other package of dfens and does not depend on any competition,
network or model. Import its modules by name (`from oof.store import PredictionStore`);
this file stays empty so that importing one of them loads nothing else.
"""
