"""Tables and text from values, for people."""
