"""The run file: its sections, how it is loaded and checked, what follows from it."""
