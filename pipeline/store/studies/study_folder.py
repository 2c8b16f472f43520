"""Names the files of a study's folder.

No other module spells these names. Reads and writes nothing.
"""

from dataclasses import dataclass
from pathlib import Path

FITS = "fits.json"
"""Fitted laws, beside the table that they were fitted to."""

THROUGHPUT = "throughput.json"
"""What a throughput study found, in its folder."""


@dataclass(frozen=True)
class StudyFolder:
    """The folder of one study."""

    path: Path

    @property
    def runs(self) -> Path:
        """The folder of all runs."""
        return self.path / "runs"

    def home(self, name: str) -> Path:
        """Return the folder of a run: its run file, its run folder, what its commands print."""
        return self.runs / name

    def run_file(self, name: str) -> Path:
        """Return the run file of a run, YAML, with all settings."""
        return self.home(name) / "run.yaml"

    def run_dir(self, name: str) -> Path:
        """Return the run folder of a run, as any run has one."""
        return self.home(name) / "run"

    def output(self, name: str) -> Path:
        """Return the text file of what the commands of a run print."""
        return self.home(name) / "output.txt"

    @property
    def recorded_tokens(self) -> Path:
        """What identifies the tokens that the runs are trained on, by data folder (JSON)."""
        return self.path / "trained_on.json"

    @property
    def points(self) -> Path:
        """Table of all runs: sizes, tokens, losses (CSV)."""
        return self.path / "points.csv"

    @property
    def fits(self) -> Path:
        """Fitted laws (JSON)."""
        return self.path / FITS

    @property
    def throughput(self) -> Path:
        """Step times over the number of devices, fitted (JSON)."""
        return self.path / THROUGHPUT

    @property
    def figures(self) -> Path:
        """The folder of the figures, and of their numbers as CSV."""
        return self.path / "figures"

    def figure(self, name: str) -> Path:
        """Return a figure (SVG)."""
        return self.figures / f"{name}.svg"

    def figure_numbers(self, name: str) -> Path:
        """Return the numbers of a figure (CSV)."""
        return self.figures / f"{name}.csv"

    @property
    def page(self) -> Path:
        """The page of the study (HTML)."""
        return self.path / "study.html"
