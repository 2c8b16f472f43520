"""How a run's samples are divided among its optimizer steps, and into how long rows a step cuts
them.

A run consumes the same samples in the same order whatever its ramps say: they decide only where one
step ends and the next begins. Pure arithmetic, whose cost grows with the entries of the ramps and
not with the steps.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config.groups import GroupSizes


@dataclass(frozen=True)
class Part:
    """Steps of one size, one after another."""

    first_step: int
    """From 1."""
    first_position: int
    """Where its first sample stands among those that the run consumes, from 0."""
    samples: int
    """Of each step."""


@dataclass(frozen=True)
class StepPlan:
    """Size and place of every optimizer step. Steps count from 1, samples are rows of
    `sample_tokens` tokens."""

    sample_tokens: int
    parts: tuple[Part, ...]
    """In their order; each goes on until the next one begins."""
    total_steps: int
    length_ramp: tuple[tuple[int, int], ...] = ()
    """`(position, length)`: a step that begins before this position cuts its samples into rows of
    that length."""

    @property
    def total_samples(self) -> int:
        """Samples that the whole run consumes."""
        return self.first_position(self.total_steps + 1)

    @property
    def total_tokens(self) -> int:
        """Tokens that the whole run consumes."""
        return self.tokens_after(self.total_steps)

    def samples(self, step: int) -> int:
        """Return how many samples a step takes, over all ranks."""
        return self._part(step).samples

    def tokens(self, step: int) -> int:
        """Return how many tokens a step takes, over all ranks."""
        return self.samples(step) * self.sample_tokens

    def accumulation(self, step: int, micro_batch_samples: int, sizes: GroupSizes) -> int:
        """Return the micro-batches of each data rank in a step."""
        return self.samples(step) // (sizes.data * micro_batch_samples)

    def first_position(self, step: int) -> int:
        """Return the position of a step's first sample."""
        part = self._part(step)
        return part.first_position + (step - part.first_step) * part.samples

    def tokens_after(self, step: int) -> int:
        """Return the tokens consumed when a step is done; 0 after step 0."""
        return self.first_position(step + 1) * self.sample_tokens

    def sequence_length(self, step: int) -> int:
        """Return the length of the rows that the model sees in a step."""
        position = self.first_position(step)
        return next(
            (length for until, length in self.length_ramp if position < until), self.sample_tokens
        )

    def step_of(self, position: int) -> int:
        """Return the step that consumes the sample at a position."""
        part = self.parts[
            bisect_right(self.parts, position, key=lambda part: part.first_position) - 1
        ]
        return part.first_step + (position - part.first_position) // part.samples

    def sizes(self) -> list[tuple[int, int]]:
        """Return `(steps, tokens of each)` for steps of one size after another."""
        ends = [part.first_step for part in self.parts[1:]] + [self.total_steps + 1]
        return [
            (end - p.first_step, p.samples * self.sample_tokens)
            for p, end in zip(self.parts, ends, strict=True)
        ]

    def _part(self, step: int) -> Part:
        return self.parts[bisect_right(self.parts, step, key=lambda part: part.first_step) - 1]


def plan_steps(
    sample_tokens: int,
    batch_tokens: int,
    train_tokens: int,
    batch_ramp: Sequence[tuple[int, int]] = (),
    length_ramp: Sequence[tuple[int, int]] = (),
) -> StepPlan:
    """Divide a run of at least `train_tokens` tokens into steps; the last one is whole.

    A step that begins before `until` consumed tokens has the size, or the length, of the first
    entry `(until, tokens)` of its ramp that says so, else the full one. Sizes are multiples of
    `sample_tokens`, lengths divide it, `until` rises.
    """
    parts: list[Part] = []
    step = 1
    position = 0
    for until, tokens in [*batch_ramp, (train_tokens, batch_tokens)]:
        samples = tokens // sample_tokens
        # A step begins before `until` tokens where its first position is below until /
        # sample_tokens, rounded up.
        end = -(-min(until, train_tokens) // sample_tokens)
        steps = -(-(end - position) // samples)
        if steps > 0:
            parts.append(Part(step, position, samples))
            step = step + steps
            position = position + steps * samples
    lengths = tuple((-(-until // sample_tokens), length) for until, length in length_ramp)
    return StepPlan(sample_tokens, tuple(parts), step - 1, lengths)
