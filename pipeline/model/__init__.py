"""A transformers model with its loss, its sizes and its cost."""
