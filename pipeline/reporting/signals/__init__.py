"""The page of the signals of documents."""
