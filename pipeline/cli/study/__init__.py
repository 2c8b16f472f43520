"""The commands of `pipeline study`."""
