"""Trains the runs of a study: several at a time on this machine, or as a job array."""
