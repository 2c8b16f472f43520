"""Numbers to decisions: what a run costs before it starts."""
