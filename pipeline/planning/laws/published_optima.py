"""How others divide a compute into parameters and tokens. Pure arithmetic."""

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.planning.laws.loss_law import FLOPS_PER_PARAMETER_AND_TOKEN

PF_DAY = 8.64e19
"""FLOPs of a petaflop/s-day: 1e15 x 86,400."""
TOKENS_PER_PARAMETER = 20.0
"""D_opt / N_opt. Source: Hoffmann et al. 2022 (arXiv:2203.15556), table 3: 67e9 parameters and
1.5e12 tokens at 5.76e23 FLOPs are 22, 1e9 and 20.2e9 are 20."""
KAPLAN_SIZE = 1.3e9
KAPLAN_SIZE_EXPONENT = 0.73
KAPLAN_TOKENS = 2e10
KAPLAN_TOKENS_EXPONENT = 0.27
"""N_opt = 1.3e9 C^0.73 without embeddings and D_opt = 2e10 C^0.27, C in PF-days, the least one that
reaches a loss. Source: Kaplan et al. 2020 (arXiv:2001.08361), table 6."""


@dataclass(frozen=True)
class PublishedOptimum:
    """A published rule for the best division of a compute."""

    name: str
    """Rule and source."""
    parameters: Callable[[float], float]
    """N_opt at a number of FLOPs."""
    tokens: Callable[[float], float]
    """D_opt at a number of FLOPs."""


def twenty_tokens_parameters(flops: float) -> float:
    """Return N of C = 6 N D with D = 20 N."""
    return (flops / FLOPS_PER_PARAMETER_AND_TOKEN / TOKENS_PER_PARAMETER) ** 0.5


PUBLISHED_OPTIMA = (
    PublishedOptimum(
        "20 tokens a parameter (Hoffmann 2022)",
        twenty_tokens_parameters,
        lambda flops: TOKENS_PER_PARAMETER * twenty_tokens_parameters(flops),
    ),
    PublishedOptimum(
        "N grows as C^0.73 (Kaplan 2020)",
        lambda flops: KAPLAN_SIZE * (flops / PF_DAY) ** KAPLAN_SIZE_EXPONENT,
        lambda flops: KAPLAN_TOKENS * (flops / PF_DAY) ** KAPLAN_TOKENS_EXPONENT,
    ),
)
