"""Checkpoints to numbers: export, few-shot grid, bits per byte."""
