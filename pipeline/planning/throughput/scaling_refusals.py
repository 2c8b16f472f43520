"""Why measured steps allow no fit over the number of devices, or no prediction. Pure arithmetic."""

from collections.abc import Sequence

from pipeline.errors import RequirementError
from pipeline.logs import counted_noun
from pipeline.planning.throughput.step_points import StepPoint, numbers_of_devices

LEAST_NUMBERS = 2
"""Numbers of devices that a fit needs."""
MOST_TIMES_BEYOND = 4
"""Largest multiple of the largest measured number of devices that is predicted: further away other
switches, other algorithms of the collective operations, and stragglers set in."""


MOST_ERROR = 0.1
"""Relative error of a median step above which a law is none."""


def refuse_unfit_steps(points: Sequence[StepPoint]) -> None:
    """Raise RequirementError where the points have too few numbers of devices for a fit."""
    numbers = numbers_of_devices(points)
    if len(numbers) >= LEAST_NUMBERS:
        return
    had = "no number of devices"
    if numbers:
        had = f"{counted_noun(numbers[0], 'device')} only"
    raise RequirementError(
        f"the runs that count have {had}, and a fit over the number of devices needs at least "
        f"{LEAST_NUMBERS}; train on more numbers of devices (axes.ranks)"
    )


def refuse_far_prediction(devices: int, largest: int) -> None:
    """Raise RequirementError for more than MOST_TIMES_BEYOND times the largest measured K."""
    if devices <= MOST_TIMES_BEYOND * largest:
        return
    raise RequirementError(
        f"{devices:,} devices are {devices / largest:.3g} times the largest measured number, "
        f"{largest:,}; a fit predicts at most {MOST_TIMES_BEYOND} times it, so measure on at least "
        f"{-(-devices // MOST_TIMES_BEYOND):,}"
    )


def refuse_poor_law(relative_error: float) -> None:
    """Raise RequirementError where a law misses the median steps by more than MOST_ERROR."""
    if relative_error <= MOST_ERROR:
        return
    raise RequirementError(
        f"the law misses a median step by {relative_error:.0%}, more than {MOST_ERROR:.0%}: something else "
        "than computing and sending decided the steps, such as other programs or machines of several "
        "kinds; train the runs again while nothing else runs, or more seeds"
    )
