"""The kinds of models on clips: `frames`, `audio` and `av`."""
