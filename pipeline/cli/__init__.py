"""The commands of the command line: what they do and print."""
