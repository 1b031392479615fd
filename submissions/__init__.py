"""Turn predictions into a checked table, upload it, and keep a ledger of where every score came from.

The package receives ids, predictions and provenance as plain data and does not depend on blends or
models. Import its modules by name (`from submissions.table import build_table`); this file
stays empty so that importing one of them loads nothing else.
"""
