"""Jobs that `pipeline submit` has sent for a run: their scripts and their record."""
