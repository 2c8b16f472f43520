"""Checkpoints: written, read, resharded, kept, converted."""
