"""Decoding of media files, and their storage in memory and on disk."""
