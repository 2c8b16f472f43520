"""A warm Python: a process that has imported slow libraries once, and forks programs from there."""
