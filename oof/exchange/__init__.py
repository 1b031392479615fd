"""Import and export of predictions."""
