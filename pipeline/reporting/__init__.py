"""A run folder to one page and one table."""
