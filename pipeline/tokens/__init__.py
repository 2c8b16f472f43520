"""Documents to token ids: tokenizer training, exact encoding, the indexed dataset."""
