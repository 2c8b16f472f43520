"""Checks of `train` that run before anything is started. Free of torch, so that they are fast."""

from collections.abc import Callable, Iterable

from pipeline.checkpoint.disk import disk_space_needed
from pipeline.config.run_config import RunConfig
from pipeline.engine.deepspeed_config import read_template, refuse_execution, zero_stage
from pipeline.engine.memory import checkpoint_bytes
from pipeline.errors import ConfigError
from pipeline.model.model_facts import model_facts
from pipeline.model.parametrisation import refuse_mup
from pipeline.training import branch, resume, trackers

Check = Callable[[RunConfig], None]


def check_settings(config: RunConfig) -> None:
    """Check template, batch, vocabulary and muP, which do not depend on the machine.

    Raises ConfigError with every problem.
    """
    _run_checks((refuse_execution, refuse_mup), config)


def check_start(config: RunConfig) -> None:
    """Check resume, branch and trackers, which depend on this machine and on run_dir.

    Raises ConfigError with every problem.
    """
    _run_checks((resume.check_resume, branch.check_branch, trackers.check_trackers), config)


def check_model(config: RunConfig) -> None:
    """Check the section `model` by building the model without values (`model_check`).

    Raises ConfigError with every problem.
    """
    model_facts(config)


def check_disk(config: RunConfig) -> None:
    """Check the free space on run_dir's disk for the checkpoints that the run will keep.

    Raises ConfigError where there is too little.
    """
    facts = model_facts(config)
    template = read_template(config.deepspeed)
    bytes_per_checkpoint = checkpoint_bytes(
        facts.parameters, config.precision.dtype, zero_stage(template), facts.moment_bytes
    )
    _, problems = disk_space_needed(config, bytes_per_checkpoint)
    if problems:
        raise ConfigError(problems)


def _run_checks(checks: Iterable[Check], config: RunConfig) -> None:
    """Run every check, then raise ConfigError with the problems of all of them."""
    problems: list[str] = []
    for check in checks:
        try:
            check(config)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
