"""The beginning of runs that all branch off one checkpoint of another run (`train.init_from`).

Reads the checkpoint's manifest. A run that takes everything over counts the steps and tokens of the
checkpoint as its own; those had the other run's batch, which a ramp then says.
"""

from dataclasses import dataclass

from pipeline.config.run_config import RunConfig
from pipeline.config.sections import BatchStep
from pipeline.errors import ConfigError
from pipeline.training.origin import origin_at


@dataclass(frozen=True)
class TakenOver:
    """What a run takes over from a checkpoint as its own."""

    steps: int = 0
    ramp: tuple[BatchStep, ...] = ()
    """The batch of those steps; empty without any."""


def taken_over(config: RunConfig) -> TakenOver:
    """Return the steps before a run's own ones, and their batch.

    Nothing for a run that begins at its beginning, or takes weights only. Raises ConfigError where
    there is no such checkpoint, or its steps had batches of several sizes.
    """
    location = config.train.init_from
    if location is None or config.train.init_take == "weights":
        return TakenOver()
    state = origin_at(location).manifest["state"]
    steps = state["step"]
    batch = state["tokens"] // steps
    if batch * steps != state["tokens"] or batch % config.data.sequence_length:
        raise ConfigError(
            [
                f"train.init_from = {location}: its {steps:,} steps took "
                f"{state['tokens']:,} tokens in batches of several sizes, which runs of another batch "
                "cannot continue; set train.init_take to weights"
            ]
        )
    return TakenOver(steps, (BatchStep(until_tokens=state["tokens"], global_batch_tokens=batch),))
