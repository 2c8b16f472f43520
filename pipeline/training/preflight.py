"""What `train` refuses before anything is started. Free of torch, so that the answer comes at once."""

from pipeline.config import RunConfig
from pipeline.errors import ConfigError
from pipeline.training import branch, deepspeed_config, resume


def check(config: RunConfig) -> None:
    """Raise ConfigError with every problem of the DeepSpeed template, the batch, the vocabulary, the resume and the branch."""
    problems: list[str] = []
    for part in (deepspeed_config.check, resume.check, branch.check):
        try:
            part(config)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
