"""`pipeline benchmark curate`: what annotating and selecting documents costs."""
