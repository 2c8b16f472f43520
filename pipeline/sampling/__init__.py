"""Token ids to samples: the order of the run, mixtures, batches."""
