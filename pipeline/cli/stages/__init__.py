"""The commands of the stages."""
