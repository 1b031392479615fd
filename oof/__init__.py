"""Ids, folds, out-of-fold and test predictions on disk, and the scores made of them.

The room under all others: it imports none of them and knows no competition, no
network and no model. Import its modules by name (`from oof.store import PredictionStore`);
this file stays empty so that importing one of them loads nothing else.
"""
