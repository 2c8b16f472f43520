"""The page of a study: figures, tables of laws and runs."""
