"""Where a ledger is kept: SQLite or PostgreSQL, their locks, and their errors in words."""
