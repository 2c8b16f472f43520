"""Several runs on one page: their losses, what they took, and the settings in which they differ."""
