"""What `pipeline benchmark` measures: speed and memory, each part alone in a process."""
