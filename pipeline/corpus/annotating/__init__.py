"""Documents to annotations: one row of signals, hashes and spans for each document."""
