"""Near-duplicates among documents, each one verified against a document that stays."""
