"""Names the files of a run's submitted jobs: `run_dir/jobs`.

No other module spells these names. Reads and writes nothing.
"""

from dataclasses import dataclass
from pathlib import Path

SCRIPT_SUFFIX = ".sbatch"


@dataclass(frozen=True)
class JobsFolder:
    """The folder of the jobs of one run."""

    path: Path

    @property
    def settings(self) -> Path:
        """The run file with all settings resolved, YAML: what the jobs read."""
        return self.path / "submitted_run.yaml"

    @property
    def record(self) -> Path:
        """The submitted jobs, JSON, oldest first (`submitted_jobs.py`)."""
        return self.path / "submitted.json"

    def script(self, job: str) -> Path:
        """Return the batch script of a job."""
        return self.path / f"{job}{SCRIPT_SUFFIX}"

    def scripts(self) -> list[Path]:
        """Return the batch scripts that are there."""
        return sorted(self.path.glob(f"*{SCRIPT_SUFFIX}"))

    def output(self, job: str) -> Path:
        """Return the text file of what a job prints; Slurm puts the job's id in place of `%j`."""
        return self.path / f"{job}-%j.out"


def jobs_folder(run_dir: Path) -> JobsFolder:
    """Return the folder of the jobs of a run."""
    return JobsFolder(run_dir / "jobs")
