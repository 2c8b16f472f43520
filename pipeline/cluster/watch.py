"""Watching the ranks of one start: progress, events, requests to stop, hanging ranks.

Reads metrics.jsonl, events.jsonl, outcome.json, heartbeats and scores of the run folder, the same way on
one machine and on many nodes. Writes the events `out of time` and `energy`.
"""

import time
from collections.abc import Callable, Sequence

from pipeline.cluster.energy_event import EnergyWatch
from pipeline.cluster.live_line import Course, LiveLine, course_so_far
from pipeline.cluster.ranks import Ranks
from pipeline.cluster.stall import StallWatch
from pipeline.cluster.stop_request import StopRequest
from pipeline.cluster.tail import Tail
from pipeline.cluster.time_limit import TimeLimit
from pipeline.config.run_config import RunConfig
from pipeline.logs import columns_for_detail, note, progress
from pipeline.store.counts import ModelScore
from pipeline.store.events import OUT_OF_TIME, Event, is_save, is_start, write_event
from pipeline.store.layout import run_folder
from pipeline.store.metrics import StepRecord
from pipeline.store.outcome import has_outcome
from pipeline.store.scores_folder import ScoresFolder

POLL_SECONDS = 0.2
"""Time between two looks at the ranks."""
LAUNCHER_GRACE_SECONDS = 15.0
"""Time for the launcher to notice that its ranks have ended."""


class RunWatch:
    """Follows the files that the ranks of one start write, and shows what is new in them."""

    def __init__(
        self, config: RunConfig, stall: StallWatch, limit: TimeLimit, stop: StopRequest
    ) -> None:
        """Begin at the present end of the files."""
        run = run_folder(config)
        self._config = config
        self._stall = stall
        self._limit = limit
        self._stop = stop
        self._metrics: Tail[StepRecord] = Tail(run.metrics)
        self._events: Tail[Event] = Tail(run.events)
        self._scores: Tail[ModelScore] = Tail(ScoresFolder(run.evaluation).table)
        self._line = LiveLine(Course(), config.total_steps)
        self._first_step = config.total_steps
        """Last step of earlier starts of the ranks; from the event `start`."""

    def follow(self, update: Callable[[float, str], None]) -> None:
        """Show new steps and messages, and measure steps and saves for the limits."""
        # The events are read after the steps, so that they include the start of any step read.
        steps = self._metrics.new_records()
        events = self._events.new_records()
        self._take_starts(events)
        self._line.add_scores(self._scores.new_records())
        self._take_steps([step for step in steps if step["step"] > self._first_step], update)
        for event in events:
            if is_save(event):
                self._limit.saw_save(event["seconds"])
            if "message" in event:
                note(f"train: {event['message']}")

    def _take_starts(self, events: Sequence[Event]) -> None:
        for event in events:
            # A start has dropped the steps after it from metrics.jsonl.
            if is_start(event):
                course = course_so_far(self._config.paths.run_dir)
                self._line = LiveLine(course, self._config.total_steps, self._line)
                self._first_step = event["step"]

    def _take_steps(
        self, steps: Sequence[StepRecord], update: Callable[[float, str], None]
    ) -> None:
        for step in steps:
            self._line.add(step)
            self._stall.saw_step(step["step_seconds"])
            self._limit.saw_step(step["step_seconds"], step.get("validation_seconds", 0.0))
        if steps:
            self._stop.has_stepped = True
            update(steps[-1]["tokens"], self._line.text(columns_for_detail("train")))


def watch_ranks(
    config: RunConfig, ranks: Ranks, stall: StallWatch, limit: TimeLimit, stop: StopRequest
) -> str | None:
    """Show progress until the ranks have ended or hang.

    Returns how they hang, or None once the launcher has ended, or all ranks have without it.
    """
    run_dir = config.paths.run_dir
    watch = RunWatch(config, stall, limit, stop)
    energy = EnergyWatch(run_dir)
    outcome_seen: float | None = None
    has_warned = False
    has_ended = False
    with progress("train", config.step_plan.total_tokens, "tokens", has_bar=False) as update:
        while not has_ended:
            # Whether they have ended is asked first: what they wrote at their end is shown, too.
            time.sleep(POLL_SECONDS)
            has_ended = ranks.has_ended()

            # Requests to stop are passed on. Near a time limit there may still be time for a first
            # step and its save.
            stop.take_time(limit)
            if stop.is_out_of_time and not has_warned:
                has_warned = True
                write_event(run_dir, OUT_OF_TIME)
            ranks.pass_on(stop.count, stop.has_stepped or stop.is_out_of_time)
            ranks.refuse_if_taken_over()

            watch.follow(update)
            energy.look()

            # Without an outcome ranks may hang; with one, only their launcher may.
            if outcome_seen is None and has_outcome(run_dir):
                outcome_seen = time.monotonic()
            if outcome_seen is not None:
                if time.monotonic() - outcome_seen > LAUNCHER_GRACE_SECONDS:
                    return None
            elif not has_ended:
                stalled = stall.stalled()
                if stalled is not None:
                    return stalled
    return None
