"""The workspace: configuration, members, and what changed."""
