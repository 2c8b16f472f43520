"""Memory and time of a step by ZeRO stage, micro-batch and recomputation, and which of them fit.

The sums are those by which training refuses a run (`engine/memory.py`). Pure arithmetic.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pipeline.engine.memory import FreeMemory, MemoryPart, MemorySetting, memory_parts
from pipeline.model.shape import ModelShape

ZERO_STAGES = (0, 1, 2, 3)


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
    step_seconds: float

    @property
    def device_bytes(self) -> float:
        """Memory of the device."""
        return sum(part.device for part in self.parts)

    @property
    def host_bytes(self) -> float:
        """Memory of the host, for each device."""
        return sum(part.host for part in self.parts)


def memory_grid(
    shape: ModelShape,
    setting: MemorySetting,
    free: FreeMemory,
    logit_tokens: Callable[[int], int],
    step_seconds: Callable[[MemorySetting], float],
) -> list[MemoryCase]:
    """Return every case that DeepSpeed can execute with this batch on these ranks.

    `logit_tokens`: tokens of a micro-batch -> tokens whose logits are computed at once.
    `step_seconds`: time of a step in a setting. ZeRO stage 0 is refused but in fp32.
    """
    cases: list[MemoryCase] = []
    per_rank = setting.global_batch_sequences // setting.ranks
    for zero_stage in ZERO_STAGES:
        if zero_stage == 0 and setting.dtype != "fp32":
            continue
        for recomputes in (False, True):
            for micro in _divisors(per_rank):
                changed = replace(
                    setting,
                    zero_stage=zero_stage,
                    micro_batch_sequences=micro,
                    activation_checkpointing=recomputes,
                )
                tokens = logit_tokens(micro * setting.sequence_length)
                parts = memory_parts(shape, changed, tokens)
                cases.append(
                    MemoryCase(
                        zero_stage,
                        micro,
                        recomputes,
                        parts,
                        free.fits(parts),
                        step_seconds(changed),
                    )
                )
    return cases


def fastest_that_fits(cases: Sequence[MemoryCase]) -> MemoryCase | None:
    """Return the case with the shortest step; None where nothing fits.

    Of equally fast ones that with the lowest ZeRO stage, and then with the largest micro-batch,
    whose matrix products are the larger ones.
    """
    fitting = [case for case in cases if case.fits]
    return min(
        fitting,
        key=lambda case: (case.step_seconds, case.zero_stage, -case.micro_batch_sequences),
        default=None,
    )


def _divisors(number: int) -> list[int]:
    """Return all divisors, ascending."""
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]
