"""Raw text to documents: sources, row validation, the train / validation split."""
