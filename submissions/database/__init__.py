"""Databases for the ledger, SQLite and PostgreSQL, with their locks and error messages."""
