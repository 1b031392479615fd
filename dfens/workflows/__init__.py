"""What each command does; functions that return values and print nothing."""
