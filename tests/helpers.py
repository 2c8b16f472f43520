"""What tests of several folders call."""

from pathlib import Path


def run_stages(run_file: Path, names: list[str], overrides: list[str]) -> None:
    """Run stages in this process as the command line would, with one worker."""
    from pipeline import commands
    from pipeline.__main__ import STAGES

    table = {stage.name: stage for stage in STAGES}
    for name in names:
        commands.run_one(STAGES, table[name], run_file, ["executor.workers=1", *overrides])
