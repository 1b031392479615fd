"""The generated competitions of `dfens demo`."""
