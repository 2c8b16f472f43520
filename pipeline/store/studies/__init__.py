"""The folder of a study: its runs, points, fits, figures and page."""
