"""Memory and time of a step by ZeRO stage, micro-batch and recomputation, and which of them fit.

The sums are those by which training refuses a run (`engine/memory.py`). Pure arithmetic.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pipeline.engine.memory import FreeMemory, MemoryPart, MemorySetting

ZERO_STAGES = (0, 1, 2, 3)
MOST_MICRO_BATCH = 65_536
"""Sequences of the largest micro-batch that is looked at: even of a tiny model, one fills a device.
Without a limit, the divisors of a huge batch would take hours to find."""


@dataclass(frozen=True)
class MemoryCase:
    """One way to execute a run."""

    zero_stage: int
    micro_batch_sequences: int
    recomputes: bool
    """Whether the layers' forward pass is computed once more in the backward pass
    (`train.activation_checkpointing`)."""
    parts: Sequence[MemoryPart]
    """Every line of the sum."""
    fits: bool
    step_seconds: float | None
    """None where it is not predicted."""

    @classmethod
    def of(
        cls,
        setting: MemorySetting,
        parts: Sequence[MemoryPart],
        free: FreeMemory,
        step_seconds: float | None,
    ) -> "MemoryCase":
        """Return the case of a setting whose parts and step time are known."""
        return cls(
            setting.zero_stage,
            setting.micro_batch_sequences,
            setting.activation_checkpointing,
            parts,
            free.fits(parts),
            step_seconds,
        )

    @property
    def device_bytes(self) -> float:
        """Memory of the device."""
        return sum(part.device for part in self.parts)

    @property
    def host_bytes(self) -> float:
        """Memory of the host, for each device."""
        return sum(part.host for part in self.parts)


def memory_grid(
    setting: MemorySetting,
    free: FreeMemory,
    parts_of: Callable[[MemorySetting], list[MemoryPart]],
    seconds_of: Callable[[MemorySetting], float | None],
) -> list[MemoryCase]:
    """Return every case that DeepSpeed can execute with this batch on these ranks.

    Micro-batches are those of at most MOST_MICRO_BATCH sequences.
    `parts_of`: every line of a setting's sum; `seconds_of`: the time of its step. ZeRO stage 0 is
    refused but in fp32.
    """
    cases: list[MemoryCase] = []
    for zero_stage in ZERO_STAGES:
        if zero_stage == 0 and setting.dtype != "fp32":
            continue
        for recomputes in (False, True):
            for micro in _divisors(setting.global_batch_sequences // setting.ranks):
                changed = replace(
                    setting,
                    zero_stage=zero_stage,
                    micro_batch_sequences=micro,
                    activation_checkpointing=recomputes,
                )
                cases.append(MemoryCase.of(changed, parts_of(changed), free, seconds_of(changed)))
    return cases


def fastest_that_fits(cases: Sequence[MemoryCase]) -> MemoryCase | None:
    """Return the case with the shortest step; None where nothing fits.

    Of equally fast ones, or where steps are not predicted, that without recomputation, with the
    lowest ZeRO stage, and then with the largest micro-batch, whose matrix products are the larger
    ones.
    """
    fitting = [case for case in cases if case.fits]
    return min(
        fitting,
        key=lambda case: (
            case.step_seconds or 0.0,
            case.recomputes,
            case.zero_stage,
            -case.micro_batch_sequences,
        ),
        default=None,
    )


def _divisors(number: int) -> list[int]:
    """Return the divisors up to MOST_MICRO_BATCH, ascending."""
    largest = min(number, MOST_MICRO_BATCH)
    return [divisor for divisor in range(1, largest + 1) if number % divisor == 0]
