"""Values as tables and text for people."""
