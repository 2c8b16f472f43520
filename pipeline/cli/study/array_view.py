"""`pipeline study run` with the executor `slurm`: one job array that trains the runs."""

from pipeline.cli.study.opened_study import OpenedStudy
from pipeline.errors import UserError


def submit_array(opened: OpenedStudy) -> None:
    """Send the array."""
    raise UserError(f"{opened.file}: executor.kind = slurm: not yet")
