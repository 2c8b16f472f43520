"""What `train` refuses before anything is started. Free of torch, so that the answer comes at once."""

from pipeline.config import RunConfig
from pipeline.errors import ConfigError
from pipeline.training import branch, deepspeed_config, parametrisation, resume, trackers

PARTS = (deepspeed_config.check, parametrisation.check, resume.check, branch.check, trackers.check)


def check(config: RunConfig) -> None:
    """Raise ConfigError with every problem of template, batch, vocabulary, muP, resume, branch and trackers."""
    problems: list[str] = []
    for part in PARTS:
        try:
            part(config)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
