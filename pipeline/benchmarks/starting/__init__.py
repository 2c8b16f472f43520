"""What starting costs, in CPU seconds."""
