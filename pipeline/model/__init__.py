"""A transformers model with loss, initial weights, sizes and costs."""
