"""How the signals of documents are distributed, by source."""
