"""From predictions to a checked table, an upload, and a ledger that tells where every score came from.

The room receives ids, predictions and provenance as plain data; it knows no blend and no
model. Import its modules by name (`from submissions.table import build_table`); this file
stays empty so that importing one of them loads nothing else.
"""
