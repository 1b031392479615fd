"""The choice of the final submissions."""
