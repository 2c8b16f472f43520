"""What `pipeline benchmark commands` measures: CPU time of commands that only look."""
