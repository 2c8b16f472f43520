"""Samples to checkpoints: the loop, what it decides, and how a run begins, goes on and ends."""
