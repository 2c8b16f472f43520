"""What `train` refuses before anything is started. Free of torch, so that the answer comes at once."""

from pipeline.config import RunConfig
from pipeline.errors import ConfigError
from pipeline.training import deepspeed_config, resume, trackers


def check(config: RunConfig) -> None:
    """Raise ConfigError with every problem of the DeepSpeed template, the batch, the vocabulary, the resume, the trackers."""
    problems: list[str] = []
    for part in (deepspeed_config.check, resume.check, trackers.check):
        try:
            part(config)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
