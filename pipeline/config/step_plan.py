"""Which samples each optimizer step takes, and the length of the rows into which it cuts them.

A run consumes the same samples in the same order with any ramps: they only decide where one step
ends and the next begins. Pure arithmetic; its cost grows with the entries of the ramps, not with
the steps.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config.groups import GroupSizes


@dataclass(frozen=True)
class StepRange:
    """Consecutive steps that take equally many samples."""

    first_step: int
    """First step, counted from 1."""
    first_position: int
    """Position of the first sample among all samples that the run consumes, from 0."""
    samples: int
    """Samples that each step takes."""


@dataclass(frozen=True)
class StepPlan:
    """The samples of every optimizer step. Steps count from 1, positions of samples from 0."""

    sample_tokens: int
    """Tokens in a sample."""
    ranges: tuple[StepRange, ...]
    """All steps, in ascending order; a range ends where the next one begins."""
    total_steps: int
    length_ramp: tuple[tuple[int, int], ...] = ()
    """Entries `(position, length)`, in ascending order.

    A step that begins before `position` cuts its samples into rows of `length` tokens; the first
    such entry counts.
    """

    @property
    def total_samples(self) -> int:
        """Number of samples that the whole run consumes."""
        return self.first_position(self.total_steps + 1)

    @property
    def total_tokens(self) -> int:
        """Number of tokens that the whole run consumes."""
        return self.tokens_after(self.total_steps)

    def samples(self, step: int) -> int:
        """Return the number of samples that a step takes, over all ranks."""
        return self._range_of(step).samples

    def tokens(self, step: int) -> int:
        """Return the number of tokens that a step takes, over all ranks."""
        return self.samples(step) * self.sample_tokens

    def accumulation(self, step: int, micro_batch_samples: int, sizes: GroupSizes) -> int:
        """Return the number of micro-batches of each data rank in a step."""
        return self.samples(step) // (sizes.data * micro_batch_samples)

    def first_position(self, step: int) -> int:
        """Return the position of a step's first sample."""
        steps = self._range_of(step)
        return steps.first_position + (step - steps.first_step) * steps.samples

    def tokens_after(self, step: int) -> int:
        """Return the tokens consumed at the end of a step; 0 for step 0."""
        return self.first_position(step + 1) * self.sample_tokens

    def sequence_length(self, step: int) -> int:
        """Return the tokens in each row that the model sees in a step."""
        position = self.first_position(step)
        for until, length in self.length_ramp:
            if position < until:
                return length
        return self.sample_tokens

    def step_of(self, position: int) -> int:
        """Return the step that consumes the sample at a position."""
        after = bisect_right(self.ranges, position, key=lambda steps: steps.first_position)
        steps = self.ranges[after - 1]
        return steps.first_step + (position - steps.first_position) // steps.samples

    def sizes(self) -> list[tuple[int, int]]:
        """Return `(number of steps, tokens of each)` for every range of equal steps, in order."""
        ends = [steps.first_step for steps in self.ranges[1:]] + [self.total_steps + 1]
        return [
            (end - steps.first_step, steps.samples * self.sample_tokens)
            for steps, end in zip(self.ranges, ends, strict=True)
        ]

    def _range_of(self, step: int) -> StepRange:
        after = bisect_right(self.ranges, step, key=lambda steps: steps.first_step)
        return self.ranges[after - 1]


def plan_steps(
    sample_tokens: int,
    batch_tokens: int,
    train_tokens: int,
    batch_ramp: Sequence[tuple[int, int]] = (),
    length_ramp: Sequence[tuple[int, int]] = (),
) -> StepPlan:
    """Divide a run of at least `train_tokens` tokens into whole steps.

    Both ramps hold entries `(until, tokens)` with rising `until`, in tokens consumed. A step takes
    the first entry whose `until` is above the tokens consumed before the step: its `tokens` are the
    size of the step (`batch_ramp`, a multiple of `sample_tokens`) or the length of its rows
    (`length_ramp`, a divisor of `sample_tokens`). After the last entry these are `batch_tokens` and
    `sample_tokens`.
    """
    ranges: list[StepRange] = []
    step = 1
    position = 0
    for until, tokens in [*batch_ramp, (train_tokens, batch_tokens)]:
        samples = tokens // sample_tokens
        # A step begins before `until` tokens if its first position is below until / sample_tokens,
        # rounded up.
        end = -(-min(until, train_tokens) // sample_tokens)
        steps = -(-(end - position) // samples)
        if steps > 0:
            ranges.append(StepRange(step, position, samples))
            step = step + steps
            position = position + steps * samples
    lengths = tuple((-(-until // sample_tokens), length) for until, length in length_ramp)
    return StepPlan(sample_tokens, tuple(ranges), step - 1, lengths)
