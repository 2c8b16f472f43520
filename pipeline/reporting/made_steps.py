"""Which steps each start of the ranks made, and why those were lost that a later start abandoned.

Pure. Steps stay in the tables that were read, of which a start made whole stretches: a run may have
millions of steps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.reporting.run_starts import Cause, Start
from pipeline.store.metrics import StepTimes, StepTimesTable


@dataclass(frozen=True)
class Stretch:
    """Recorded steps that one start made, and why they were lost."""

    table: StepTimesTable
    first: int
    """Place of the first one in the table."""
    end: int
    """Place after the last one."""
    cause: Cause | None = None
    """None for steps that the run has kept."""

    def __len__(self) -> int:
        return self.end - self.first

    def __iter__(self) -> Iterator[StepTimes]:
        return (self.table[place] for place in range(self.first, self.end))

    def divided_after(self, step: int) -> tuple["Stretch", "Stretch"]:
        """Return what comes up to the last step that is not after `step`, and the rest."""
        steps = self.table.steps[self.first : self.end]
        kept = np.flatnonzero(steps <= step)
        place = self.first
        if len(kept):
            place += int(kept[-1]) + 1
        before = Stretch(self.table, self.first, place, self.cause)
        return before, Stretch(self.table, place, self.end, self.cause)


@dataclass(frozen=True)
class MadeStep:
    """A step, why it was lost, and the next one of its start."""

    times: StepTimes
    cause: Cause | None
    following: StepTimes | None


def steps_in_order(made: Sequence[Stretch]) -> Iterator[MadeStep]:
    """Yield the steps of a start."""
    last: StepTimes | None = None
    last_cause: Cause | None = None
    for stretch in made:
        for times in stretch:
            if last is not None:
                yield MadeStep(last, last_cause, times)
            last = times
            last_cause = stretch.cause
    if last is not None:
        yield MadeStep(last, last_cause, None)


def steps_of_starts(
    starts: Sequence[Start], steps: StepTimesTable, abandoned: StepTimesTable
) -> list[list[Stretch]]:
    """Return the steps that each start made, with the cause of those that were lost.

    Goes back in time: before a start, metrics.jsonl held the lines that it kept, and then those
    that it moved away.
    """
    made: list[list[Stretch]] = [[] for _ in starts]
    moved = _abandoned_at_starts(starts, abandoned)
    present = [Stretch(steps, 0, len(steps))]
    for number in reversed(range(len(starts))):
        step = starts[number].step
        if step is None:
            continue
        while present:
            before, after = present.pop().divided_after(step)
            if len(after):
                made[number].append(after)
            if len(before):
                present.append(before)
                break
        made[number].reverse()
        if number > 0 and len(moved[number]):
            cause = last_with_steps(starts[:number]).cause
            present.append(Stretch(abandoned, moved[number].start, moved[number].stop, cause))
    return made


def last_with_steps(starts: Sequence[Start]) -> Start:
    """Return the newest start that got to its first step, else the newest one."""
    return next((start for start in reversed(starts) if start.first_step is not None), starts[-1])


def _abandoned_at_starts(starts: Sequence[Start], abandoned: StepTimesTable) -> list[range]:
    """Divide the abandoned steps by the start that abandoned them; returns their places.

    Older runs do not record how many these were: they follow each other from the step of the start
    on, up to where the steps of the next start begin.
    """
    divided = [range(0)] * len(starts)
    place = 0
    for number, start in enumerate(starts):
        if start.step is None or number == 0:
            continue
        count = start.abandoned_steps
        if count is None:
            count = _steps_in_a_row(abandoned, place, start, starts[number + 1 :])
        divided[number] = range(place, min(place + count, len(abandoned)))
        place += count
    return divided


def _steps_in_a_row(
    abandoned: StepTimesTable, place: int, start: Start, later: Sequence[Start]
) -> int:
    """Return how many abandoned steps from a place on follow each other after the step of a start."""
    assert start.step is not None, "the start got to its step"
    next_start = next((other for other in later if other.step is not None), None)
    # After a finished loop nothing is abandoned, so no steps of the next start are here.
    ends_before: int | None = None
    if next_start is not None and start.finished is None:
        ends_before = next_start.step
    count = 0
    steps: list[int] = abandoned.steps[place:].tolist()
    for expected, step in enumerate(steps, start.step + 1):
        if step != expected or (count and ends_before == step - 1):
            break
        count += 1
    return count
