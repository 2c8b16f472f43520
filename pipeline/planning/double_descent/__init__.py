"""Double descent: error over the size of a model, past the size that fits its training samples."""
