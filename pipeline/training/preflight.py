"""What `train` refuses before anything is started. Free of torch, so that the answer comes at
once."""

from collections.abc import Callable, Iterable

from pipeline.checkpoint.disk import disk_space_needed
from pipeline.config.run_config import RunConfig
from pipeline.engine.deepspeed_config import read_template, refuse_execution, zero_stage
from pipeline.engine.memory import checkpoint_bytes
from pipeline.errors import ConfigError
from pipeline.model.model_facts import model_facts
from pipeline.model.parametrisation import refuse_mup
from pipeline.training import branch, resume, trackers

Part = Callable[[RunConfig], None]


def check_settings(config: RunConfig) -> None:
    """Raise ConfigError with every problem of template, batch, vocabulary and muP: wrong wherever
    the run is trained."""
    _all_of((refuse_execution, refuse_mup), config)


def check_start(config: RunConfig) -> None:
    """Raise ConfigError with every problem of resume, branch and trackers: of what this machine and
    run_dir hold now."""
    _all_of((resume.check_resume, branch.check_branch, trackers.check_trackers), config)


def check_model(config: RunConfig) -> None:
    """Raise ConfigError with every problem of `model`, found by building it without values
    (`model_check`)."""
    model_facts(config)


def check_disk(config: RunConfig) -> None:
    """Raise ConfigError where run_dir's disk has too little free for the checkpoints that the run
    will keep."""
    facts = model_facts(config)
    template = read_template(config.deepspeed)
    each = checkpoint_bytes(
        facts.parameters, config.precision.dtype, zero_stage(template), facts.moment_bytes
    )
    _, problems = disk_space_needed(config, each)
    if problems:
        raise ConfigError(problems)


def _all_of(parts: Iterable[Part], config: RunConfig) -> None:
    problems: list[str] = []
    for part in parts:
        try:
            part(config)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
