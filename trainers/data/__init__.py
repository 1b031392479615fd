"""The rows and files of a competition: layouts, label tables, checks and groups."""
