"""Predictions exchanged with other tools: import and export."""
