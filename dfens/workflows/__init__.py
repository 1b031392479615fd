"""The work of each command, as functions that return values and print nothing."""
