"""Where the time of a run went, over all its jobs: training, lost steps, start-up and the rest.

`account` is pure; `account_of_run` reads events.jsonl, metrics.jsonl and the abandoned metrics of a
run folder. Works for runs of older versions, too: time that their files do not explain is counted
as not recorded. All parts together are the wall time of the run.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

from pipeline.reporting.made_steps import Stretch, steps_in_order, steps_of_starts
from pipeline.reporting.run_starts import Cause, Start, find_starts
from pipeline.store.events import Event, all_events
from pipeline.store.layout import RunFolder
from pipeline.store.metrics import StepTimes, StepTimesTable, read_step_times

Part = Literal[
    "training",
    "waiting for data",
    "validation",
    "saving",
    "lost steps",
    "start-up",
    "restarts",
    "ending",
    "before training",
    "queue",
    "between jobs",
    "not recorded",
]
"""A part of the wall time of a run. Each moment is in one of them.

training: steps that the run kept, without waiting for data. saving: training waited for a
checkpoint. lost steps: steps that a later start abandoned, with their validations and saves, and
the time from the last step of a start until its ranks had ended. start-up: from the launcher to the
first step. restarts: between two starts of one job. ending: from the last checkpoint until the ranks
had ended. before training: from the beginning of a command to its first launcher, earlier stages of
`pipeline run` included. queue: from the submission of a Slurm job, or the end of the job before, to
its beginning. between jobs: the same where nobody had submitted, or nothing tells when.
"""
PARTS: tuple[Part, ...] = get_args(Part)
CAUSES: tuple[Cause, ...] = get_args(Cause)
CLOCK_SECONDS = 2.0
"""An event that is so much earlier than what came before it shows that the clock was set back. Less
may be rounding, or the clock of another machine."""


@dataclass(frozen=True)
class StepMoment:
    """What a run had taken until one of its steps, and the validation after it, was over.

    Counts from the first launch of the ranks: start-up, validation, saves, restarts and lost steps are
    in it; earlier stages, queues and the time between jobs are not.
    """

    step: int
    seconds: float
    device_seconds: float
    """Ranks x time, start by start."""
    joules: float | None
    """Energy of each start, in proportion to its time; None where one until then recorded none."""


@dataclass(frozen=True)
class RunAccount:
    """Wall time of a run, in seconds by part."""

    seconds: dict[Part, float]
    """Every part, in the order of PARTS; they add up to the wall time."""
    lost_seconds: dict[Cause, float]
    """`lost steps` by cause."""
    lost_steps: dict[Cause, int]
    """Steps that were made, and then abandoned because a later start continued before them."""
    steps: int
    """Steps that the run has kept."""
    jobs: int
    """Calls of the command that have started ranks."""
    starts: int
    """Starts of the ranks."""
    device_hours: float
    """Devices of each job x its time from the beginning of the command to the end of its ranks."""
    device: str | None
    """Name of the devices, `CPU` without GPUs; None where not recorded."""
    joules: float | None
    """Energy that the devices have used; None where no start of the ranks recorded any."""
    joules_seconds: float
    """Time of the starts for which the energy was recorded."""
    moments: Sequence[StepMoment] = ()
    """Steps that the run has kept, oldest first; empty where they were not asked for."""

    @property
    def wall_seconds(self) -> float:
        """Time from the beginning of the first job to the end of the last one."""
        return sum(self.seconds.values())

    @property
    def effective_training_time_ratio(self) -> float:
        """ETTR = time of the steps that were kept / (wall time - time between jobs).

        Time in a queue counts, time in which no job was submitted does not.
        Source: Kokolis et al. 2024, arXiv 2410.21680, section II: productive runtime / available
        wall-clock time of a run of one or more jobs.
        """
        available = self.wall_seconds - self.seconds["between jobs"]
        if available <= 0:
            return 0.0
        return self.seconds["training"] / available


@dataclass
class _Ledger:
    """Adds up parts while it walks along the time of the run."""

    now: float
    """Seconds of the epoch up to which all time is in a part."""
    shift: float = 0.0
    """Seconds to add to the clock of the events, because it was set back."""
    seconds: dict[Part, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    lost_seconds: dict[Cause, float] = field(default_factory=lambda: dict.fromkeys(CAUSES, 0.0))
    marks: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    """Steps that were kept, each with `now` when it and its validation were over."""

    def spend(self, part: Part, seconds: float, cause: Cause | None = None) -> None:
        """Add measured seconds to a part, or to lost steps if there is a cause."""
        self.now += seconds
        if cause is not None:
            part = "lost steps"
            self.lost_seconds[cause] += seconds
        self.seconds[part] += seconds

    def until(self, part: Part, moment: float, cause: Cause | None = None) -> None:
        """Add the time until a moment to a part; none if that is over already."""
        self.spend(part, max(0.0, self.on_this_clock(moment) - self.now), cause)

    def on_this_clock(self, moment: float) -> float:
        """Return a moment on a clock that is never set back; moments must come in their order."""
        if moment + self.shift < self.now - CLOCK_SECONDS:
            self.shift = self.now - moment
        return moment + self.shift


def account_of_run(run_dir: Path, *, with_moments: bool = False) -> RunAccount | None:
    """Return where the time of a run went so far, None where no start of ranks is recorded.

    `with_moments`: the moment of each step as well, which takes most of the memory.
    """
    run = RunFolder(run_dir)
    return account(
        all_events(run_dir),
        read_step_times(run.metrics),
        read_step_times(run.abandoned_metrics),
        with_moments=with_moments,
    )


def account(
    events: Sequence[Event],
    steps: StepTimesTable,
    abandoned: StepTimesTable,
    *,
    with_moments: bool = True,
) -> RunAccount | None:
    """Return where the time of a run went, None where no start of ranks is recorded.

    `steps`: steps that the run has kept, in their order; `abandoned`: all others, as they were
    abandoned, start after start.
    """
    starts = find_starts(events)
    if not starts:
        return None
    made = steps_of_starts(starts, steps, abandoned)

    # Walk through the starts, and add up what each job held.
    began = starts[0].command_began
    if starts[0].submitted is not None:
        began = min(began, starts[0].submitted)
    ledger = _Ledger(began)
    device_seconds = 0.0
    moments: list[StepMoment] = []
    taken = StepMoment(0, 0.0, 0.0, 0.0)
    for number, start in enumerate(starts):
        if start.is_first:
            _wait_for_job(ledger, start)
        held_since = ledger.now
        ledger.until("before training" if start.is_first else "restarts", start.launched)
        # A job trains from its first launch on; the pause before a restart counts.
        launched = ledger.now
        pause = 0.0 if start.is_first else launched - held_since
        _add_start(ledger, start, made[number], with_moments)
        device_seconds += start.ranks * (ledger.now - held_since)
        moments += [
            _moment_after(taken, start, step, pause, now - launched) for step, now in ledger.marks
        ]
        ledger.marks.clear()
        taken = _moment_after(taken, start, taken.step, pause, ledger.now - launched)

    lost: Counter[Cause | None] = Counter()
    for stretch in chain.from_iterable(made):
        lost[stretch.cause] += len(stretch)
    measured = [start for start in starts if start.joules is not None]
    devices = [start.device for start in starts if start.device is not None]
    return RunAccount(
        seconds=ledger.seconds,
        lost_seconds=ledger.lost_seconds,
        lost_steps={cause: lost[cause] for cause in CAUSES},
        steps=len(steps),
        jobs=sum(start.is_first for start in starts),
        starts=len(starts),
        device_hours=device_seconds / 3600,
        device=devices[-1] if devices else None,
        joules=sum(start.joules or 0.0 for start in measured) if measured else None,
        joules_seconds=sum(start.energy_seconds for start in measured),
        moments=moments,
    )


def _moment_after(
    taken: StepMoment, start: Start, step: int, pause: float, seconds: float
) -> StepMoment:
    """Return what a run had taken when its ranks had run for `seconds` after a pause.

    `taken`: all that came before the pause.
    """
    joules = None
    if taken.joules is not None and start.joules is not None and start.energy_seconds > 0:
        share = min(1.0, seconds / start.energy_seconds)
        joules = taken.joules + share * start.joules
    held = pause + seconds
    return StepMoment(step, taken.seconds + held, taken.device_seconds + start.ranks * held, joules)


def _wait_for_job(ledger: _Ledger, start: Start) -> None:
    """Add the time before a job; it may have been submitted while the one before ran."""
    if start.submitted is None:
        ledger.until("between jobs", start.command_began)
        return
    if start.submitted + ledger.shift > ledger.now:
        ledger.until("between jobs", start.submitted)
    ledger.until("queue", start.command_began)


def _add_start(ledger: _Ledger, start: Start, made: Sequence[Stretch], with_moments: bool) -> None:
    """Add the time from a launch until the ranks have ended."""
    end = start.last_sign if start.ended is None else start.ended

    # Before the first step ranks are starting, however that ends.
    if not made:
        ledger.until("start-up", end)
        return
    last = next(iter(made[0]))
    ledger.until("start-up", _beginning_of_steps(start, last))

    # The steps, and what lies between them.
    for step in steps_in_order(made):
        times = step.times
        last = times
        ledger.spend("waiting for data", times.data_wait, step.cause)
        ledger.spend("training", max(0.0, times.seconds - times.data_wait), step.cause)
        ledger.spend("validation", times.validation, step.cause)
        if step.cause is None and with_moments:
            ledger.marks.append((times.step, ledger.now))
        if step.following is not None:
            saving, other = _between(times, step.following, start)
            ledger.spend("saving", saving, step.cause)
            ledger.spend("not recorded", other, step.cause)

    # The last save, or whatever ended the ranks instead.
    if start.finished is not None:
        _add_last_save(ledger, start, last)
        ledger.until("ending", end)
    elif start.ended is not None:
        ledger.until("lost steps", end, start.cause)
    else:
        ledger.until("not recorded", end)


def _beginning_of_steps(start: Start, first: StepTimes) -> float:
    """Return when the first step of a start began."""
    if first.unix_time is not None:
        return first.unix_time - first.seconds
    if start.first_step is not None:
        return start.first_step - first.validation - first.seconds
    assert start.started is not None, "a start without a `start` event has made no step"
    return start.started


def _between(before: StepTimes, after: StepTimes, start: Start) -> tuple[float, float]:
    """Return the seconds between two steps in which training waited for a save, and the others.

    Older runs record the time for which a save made training wait, but not when steps ended.
    """
    is_saved = before.step in start.save_stalls
    if before.unix_time is None or after.unix_time is None:
        return start.save_stalls.get(before.step, 0.0), 0.0
    gap = max(0.0, after.unix_time - before.unix_time - after.seconds - before.validation)
    if is_saved:
        return gap, 0.0
    return 0.0, gap


def _add_last_save(ledger: _Ledger, start: Start, last: StepTimes) -> None:
    """Add the time from the last step until its checkpoint was complete.

    Without the times at which steps ended, more time than the save took was spent between steps.
    """
    assert start.finished is not None, "the loop has ended"
    if last.unix_time is None:
        longest = start.save_seconds.get(last.step, 0.0)
        waited = max(0.0, ledger.on_this_clock(start.finished) - ledger.now)
        ledger.spend("not recorded", max(0.0, waited - longest))
    ledger.until("saving", start.finished)
