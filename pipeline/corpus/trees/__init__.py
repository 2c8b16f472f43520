"""Published corpora as they were downloaded: their layouts, and the files beside their documents."""
