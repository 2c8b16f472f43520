"""Quality signals of one document."""
