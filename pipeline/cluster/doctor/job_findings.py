"""Findings about the job as a whole: how it is launched, and the time that it has left."""

from collections.abc import Sequence

from pipeline.cluster.doctor.finding import ALL, Finding
from pipeline.cluster.launch import plan_launch
from pipeline.cluster.launch_checks import check_device
from pipeline.cluster.time_limit import TimeLimit, end_of_slurm_job
from pipeline.config.batch_division import batches_that_ranks_do_not_divide
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError, UserError, one_line
from pipeline.logs import human_seconds
from pipeline.store.layout import run_folder

SHORT_SECONDS = 600.0
"""Time left in a job below which start-up, a step and a save may take most of it."""
LEAST_SECONDS = 60.0


def launch_findings(config: RunConfig) -> list[Finding]:
    """Judge whether training could be started from here: allocation, hosts, batch, number format."""
    try:
        launch = plan_launch(config, run_folder(config).config)
        problems = batches_that_ranks_do_not_divide(config, launch.groups)
        check_device(config)
    except UserError as error:
        return refused("launch", error)
    if problems:
        return refused("launch", ConfigError(problems))
    return [Finding("launch", ALL, f"{launch.groups.world} {launch.where}")]


def refused(check: str, error: UserError) -> list[Finding]:
    """Return the problems of a refusal as findings.

    A message holds rule and remedy in an order of its own, so all of it stands below the table.
    """
    problems: Sequence[str] = [one_line(error, 600)]
    if isinstance(error, ConfigError):
        problems = error.problems
    return [
        Finding(check, ALL, problem.partition("; ")[0], "stops", problem) for problem in problems
    ]


def time_findings(config: RunConfig | None, now: float) -> list[Finding]:
    """Judge the time left in the Slurm job, or until `launch.time_limit`; `now` as Unix time."""
    end = end_of_slurm_job()
    if config is not None:
        end = TimeLimit(config, now).end
    if end is None:
        return [Finding("time limit", ALL, "none")]
    left = end - now
    text = f"{human_seconds(max(0.0, left))} left"
    remedy = "ask for more time (sbatch --time, launch.time_limit)"
    if left < LEAST_SECONDS:
        return [Finding("time limit", ALL, text, "stops", remedy)]
    if left < SHORT_SECONDS:
        text += f", less than {human_seconds(SHORT_SECONDS)}"
        return [Finding("time limit", ALL, text, "warning", remedy)]
    return [Finding("time limit", ALL, text)]
