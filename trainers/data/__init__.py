"""The competition as rows and files: layouts, label tables, checks and groups."""
