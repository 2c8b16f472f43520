"""Samples that a run does not consume: skipped by its settings, or by a rollback.

Reads the rollbacks in the run's `events.jsonl`.
"""

from collections.abc import Iterable

from pipeline.config.run_config import RunConfig
from pipeline.sampling.order import Ranges
from pipeline.store.events import ROLLBACK, RollbackEvent, read_events


def skipped_samples(config: RunConfig, *more: Iterable[tuple[int, int]]) -> Ranges:
    """Return the samples skipped by the run file and by the run's rollbacks, and `more`."""
    rollbacks: list[RollbackEvent] = read_events(config.paths.run_dir, ROLLBACK)
    skipped = [(event["samples"][0], event["samples"][1]) for event in rollbacks]
    return merge_ranges(config.data.skipped_samples, skipped, *more)


def merge_ranges(*parts: Iterable[tuple[int, int]]) -> Ranges:
    """Merge ranges `[first, end)` into ascending ones that neither overlap nor touch."""
    merged: list[tuple[int, int]] = []
    for first, end in sorted((int(first), int(end)) for part in parts for first, end in part):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((first, end))
    return tuple(merged)
