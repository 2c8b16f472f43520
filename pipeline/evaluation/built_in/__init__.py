"""Few-shot tasks that this package makes from held-out text, patterns and sums."""
