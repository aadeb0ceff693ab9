"""Training members: from a resolved config to records on disk."""
