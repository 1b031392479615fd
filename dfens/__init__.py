"""dfens."""
