"""The Kaggle client: calls, credentials, errors, downloads."""
