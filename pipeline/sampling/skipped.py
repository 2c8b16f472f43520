"""Samples that a run does not consume: as its settings say, and what it has gone back behind."""

from collections.abc import Iterable

from pipeline.config.run_config import RunConfig
from pipeline.sampling.order import Ranges
from pipeline.store.events import ROLLBACK, RollbackEvent, read_events

"""Event of a run that goes back to a checkpoint, with the samples that it does not see again."""


def skipped_samples(config: RunConfig, *more: Iterable[tuple[int, int]]) -> Ranges:
    """Return all that the run file and the run's events say is skipped, and more."""
    rollbacks: list[RollbackEvent] = read_events(config.paths.run_dir, ROLLBACK)
    skipped = [(event["samples"][0], event["samples"][1]) for event in rollbacks]
    return merge_ranges(config.data.skipped_samples, skipped, *more)


def merge_ranges(*parts: Iterable[tuple[int, int]]) -> Ranges:
    """Return ranges `[first, end)` as ascending ones that neither overlap nor touch."""
    found: list[tuple[int, int]] = []
    for first, end in sorted((int(first), int(end)) for part in parts for first, end in part):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((first, end))
    return tuple(found)
