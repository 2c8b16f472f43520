"""The starts of a run's ranks, as its events tell them: when each began and ended, and why.

Pure: takes events that have been read. Older runs have no events of launches and ends; what their
other events do not tell is None.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pipeline.store.events import (
    ENERGY,
    FIRST_STEP,
    LAUNCH,
    OUT_OF_TIME,
    RANKS_ENDED,
    ROLLBACK,
    Event,
)

Cause = Literal["kill", "hang", "rollback", "time limit", "other"]
"""Why steps were lost. Kill: a process or a machine died, or somebody ended it at once. Hang: the
supervisor ended ranks that made no progress. Rollback: the guards rolled the run back. Time limit:
the job ended before a save that its time limit had asked for. Other: the ranks had saved and ended,
but the next start did not find that checkpoint, because it is damaged or was removed."""
SAME_COMMAND_SECONDS = 3.0
"""Older runs record times to the second: starts belong to one command if they differ by less in
when it began."""
PHASES_BEFORE_LAUNCH = ("before_train", "plan")
"""Phases of the `first step` event that were over when the launcher began."""


@dataclass
class Start:
    """One start of the ranks; times are seconds of the epoch, by the clock of the events."""

    command_began: float
    """When the command that made this start began."""
    is_first: bool
    """Whether it is the first start of its job; a job is one call of the command."""
    launched: float
    """When the launcher began."""
    is_launch_recorded: bool
    submitted: float | None = None
    """When the Slurm job was submitted; None where not known."""
    ranks: int = 1
    device: str | None = None
    """Name of the devices; None where not recorded."""
    step: int | None = None
    """Completed steps from which the ranks continued; None if they did not get there."""
    abandoned_steps: int | None = None
    """Recorded steps of earlier starts that this one abandoned; None where not recorded."""
    started: float | None = None
    """When the engine was built, before the first step."""
    first_step: float | None = None
    """When the first step, and the validation after it, had ended."""
    finished: float | None = None
    """When the loop had ended and the last checkpoint was complete."""
    ended: float | None = None
    """When all ranks had ended; None where no event tells it."""
    last_sign: float = 0.0
    """Time of the last event of this start."""
    is_out_of_time: bool = False
    """Whether the ranks were asked to stop because of a time limit."""
    trouble: Cause | None = None
    """Rollback or hang, where an event tells of one."""
    save_stalls: dict[int, float] = field(default_factory=dict[int, float])
    """Step -> seconds for which training waited for the save after it."""
    save_seconds: dict[int, float] = field(default_factory=dict[int, float])
    """Step -> seconds until the save after it was complete."""
    joules: float | None = None
    """Energy that the devices have used; None where they do not tell."""
    energy_seconds: float = 0.0
    """Time for which the energy was measured."""

    @property
    def cause(self) -> Cause:
        """Why steps that this start made were lost, if the next start abandoned some."""
        if self.trouble is not None:
            return self.trouble
        if self.finished is not None:
            return "other"
        if self.is_out_of_time:
            return "time limit"
        return "kill"


def find_starts(events: Sequence[Event]) -> list[Start]:
    """Return all starts of the ranks, oldest first. Leaves out events whose time is broken."""
    starts: list[Start] = []
    for event in events:
        moment = time_of_event(event)
        if moment is None:
            continue
        # Which fields there are depends on the kind of the event.
        details: Mapping[str, Any] = event
        kind = event.get("event")
        if kind == LAUNCH:
            starts.append(_recorded_launch(details, moment, starts))
        elif kind == "start":
            if not starts or starts[-1].step is not None or not starts[-1].is_launch_recorded:
                starts.append(_unrecorded_launch(moment, starts))
            _take_start(starts[-1], details, moment)
        elif kind == FIRST_STEP and starts:
            _take_first_step(starts, details, moment)
        elif starts:
            _take_other(starts[-1], kind, details, moment)
    return starts


def time_of_event(event: Event) -> float | None:
    """Return when an event happened, in seconds of the epoch; None where its time is broken."""
    if "unix_time" in event:
        return event["unix_time"]
    try:
        return datetime.strptime(event["time"], "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except (KeyError, TypeError, ValueError):
        return None


def _recorded_launch(details: Mapping[str, Any], moment: float, before: Sequence[Start]) -> Start:
    command_began = details["command_began"]
    return Start(
        command_began,
        is_first=not before or before[-1].command_began != command_began,
        launched=details.get("launcher_began", moment),
        is_launch_recorded=True,
        submitted=details.get("submitted"),
        ranks=details["ranks"],
        last_sign=moment,
    )


def _unrecorded_launch(moment: float, before: Sequence[Start]) -> Start:
    """Return a start of an older run; its first step will tell more exactly when it began."""
    # The supervisor starts the ranks again after a restart event and after a rollback.
    goes_on = bool(before) and (before[-1].ended is not None or before[-1].trouble == "rollback")
    return Start(
        before[-1].command_began if goes_on else moment,
        is_first=not goes_on,
        launched=moment,
        is_launch_recorded=False,
        last_sign=moment,
    )


def _take_start(start: Start, details: Mapping[str, Any], moment: float) -> None:
    start.step = details["step"]
    start.ranks = details.get("ranks", start.ranks)
    start.abandoned_steps = details.get("abandoned_steps")
    start.device = details.get("device")
    start.started = moment
    start.last_sign = moment


def _take_first_step(starts: Sequence[Start], details: Mapping[str, Any], moment: float) -> None:
    start = starts[-1]
    start.first_step = moment
    start.last_sign = moment
    phases: Mapping[str, float] = details.get("phases", {})
    if start.is_launch_recorded or not phases:
        return

    # The phases of an older run tell when launcher and command began.
    since_launch = [
        seconds for phase, seconds in phases.items() if phase not in PHASES_BEFORE_LAUNCH
    ]
    start.launched = moment - sum(since_launch)
    command_began = moment - details["seconds"]
    if len(starts) > 1:
        difference = abs(command_began - starts[-2].command_began)
        start.is_first = difference > SAME_COMMAND_SECONDS
    start.command_began = command_began
    if not start.is_first:
        start.command_began = starts[-2].command_began


def _take_other(start: Start, kind: str, details: Mapping[str, Any], moment: float) -> None:
    if kind in ("save", "slow save"):
        _take_save(start, kind, details)
    elif kind in ("end", "stop"):
        start.finished = moment
    elif kind == ROLLBACK:
        start.trouble = "rollback"
    elif kind == "stall":
        start.trouble = "hang"
    elif kind == OUT_OF_TIME:
        start.is_out_of_time = True
    elif kind == "restart":
        # In older runs nothing else tells when the ranks had ended.
        start.ended = start.ended or moment
    elif kind == RANKS_ENDED:
        start.ended = moment
    elif kind == ENERGY:
        start.joules = details["joules"]
        start.energy_seconds = details["seconds"]
    else:
        # Other events may belong to the next start.
        return
    start.last_sign = moment


def _take_save(start: Start, kind: str, details: Mapping[str, Any]) -> None:
    """Add the time for which training waited; a slow save tells of the wait for the one before."""
    step = details["step"]
    waited = details.get("seconds", 0.0)
    if kind == "save":
        start.save_seconds[step] = details.get("seconds", 0.0)
        waited = details.get("stalled_seconds", 0.0)
    start.save_stalls[step] = start.save_stalls.get(step, 0.0) + waited
