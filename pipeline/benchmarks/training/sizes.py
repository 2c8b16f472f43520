"""The sizes that `pipeline benchmark train` measures on CPUs, and what is measured of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.benchmarks.training.side_names import SIDES
from pipeline.benchmarks.training.step_settings import StepSettings, llama_section

STAGES = ("zero0", "zero1", "zero2", "zero3")
"""Templates, one for each ZeRO stage."""
SMALL_VOCABULARY = 2_048
LARGE_VOCABULARY = 50_304
"""GPT-2's, rounded up."""


@dataclass(frozen=True)
class MeasuredSize:
    """One model with its batch, and the steps that are measured."""

    settings: StepSettings
    steps: int = 4
    """Timed steps: a multiple of 4, because one step in 4 measures the noise scale."""
    warm_up: int = 2
    """Steps before them."""


def _small(vocabulary: int, steps: int) -> MeasuredSize:
    return MeasuredSize(StepSettings(llama_section(128, 4, vocabulary, 256), 256, 4, 2048), steps)


def _large(vocabulary: int) -> MeasuredSize:
    return MeasuredSize(StepSettings(llama_section(384, 5, vocabulary, 256), 256, 2, 1024))


SIZES: Mapping[str, MeasuredSize] = {
    "1m-2k": _small(SMALL_VOCABULARY, 12),
    "1m-50k": _small(LARGE_VOCABULARY, 4),
    "10m-2k": _large(SMALL_VOCABULARY),
    "10m-50k": _large(LARGE_VOCABULARY),
}
"""Parameters and ids. At 2,048 ids the models have 1.0 and 9.6 million parameters; 50,304 ids add 6.2
and 18.5 million to the embedding, which is also the head. Two micro-batches a step."""
SCALING = StepSettings(llama_section(320, 6, 8192, 256), 256, 8, 8192)
"""What each rank trains where two ranks are compared with one: 10 million parameters."""


@dataclass(frozen=True)
class CpuPlan:
    """What is measured on CPUs."""

    sizes: Mapping[str, MeasuredSize]
    """By name."""
    templates: Sequence[str] = STAGES
    sides: Sequence[str] = SIDES
    with_parts: bool = True
    """Whether the parts of a step are measured as well."""
    scaling: StepSettings | None = SCALING
    """Training of each rank, where two ranks are compared with one; None leaves it out."""
    scaling_steps: int = 2
    """Timed steps of one and of two ranks."""
