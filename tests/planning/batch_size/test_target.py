"""When a run reached a target loss, by hand."""

import math

import pytest

from pipeline.planning.batch_size.target import (
    Evaluation,
    TargetMissed,
    TargetReached,
    target_reached,
)


def evaluations(*losses: float | None) -> list[Evaluation]:
    """Return validations after 100, 200, 400, 800 ... tokens."""
    return [Evaluation(100 * 2**number, loss) for number, loss in enumerate(losses)]


def test_between_two_validations_the_loss_is_linear_in_log_tokens() -> None:
    """Half of the way from 3 to 2 in log tokens: the geometric mean of 200 and 400."""
    reached = target_reached(evaluations(4.0, 3.0, 2.0, 1.0), 2.5)
    assert isinstance(reached, TargetReached)
    assert reached.tokens == pytest.approx(math.sqrt(200 * 400))
    assert reached.tokens_evaluated == 400


def test_a_loss_that_is_linear_in_log_tokens_is_read_off_exactly() -> None:
    """L = 10 - log2(tokens / 100): 6.3 is reached after 100 x 2^3.7 tokens."""
    reached = target_reached(evaluations(10, 9, 8, 7, 6, 5), 6.3)
    assert isinstance(reached, TargetReached)
    assert reached.tokens == pytest.approx(100 * 2**3.7)


def test_a_target_is_reached_at_a_validation() -> None:
    assert target_reached(evaluations(4.0, 3.0, 2.0), 3.0) == TargetReached(pytest.approx(200), 200)


def test_the_first_time_counts() -> None:
    reached = target_reached(evaluations(4.0, 3.0, 5.0, 2.0), 3.5)
    assert isinstance(reached, TargetReached)
    assert reached.tokens == pytest.approx(math.sqrt(100 * 200))


def test_a_loss_that_is_not_finite_is_passed_over() -> None:
    reached = target_reached(evaluations(4.0, None, 2.0), 3.0)
    assert isinstance(reached, TargetReached)
    assert reached.tokens == pytest.approx(200)


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        ((4.0, 3.0, 3.25), "its lowest loss is 3.0000"),
        ((None, None), "it has no finite validation loss"),
        ((), "it has no finite validation loss"),
    ],
)
def test_a_target_that_nothing_tells_of(losses: tuple[float | None, ...], reason: str) -> None:
    assert target_reached(evaluations(*losses), 2.5) == TargetMissed(reason)


def test_a_target_at_the_first_validation_was_reached_nobody_knows_when() -> None:
    assert target_reached(evaluations(2.0, 1.0), 2.5) == TargetMissed(
        "it was there at its first validation; raise rules.validations", is_early=True
    )


def test_a_target_after_the_first_step_is_not_helped_by_more_validations() -> None:
    """A branched run of few steps validates after each; its first one was after 100 tokens."""
    missed = target_reached(evaluations(2.0, 1.0), 2.5, step_tokens=100)
    assert missed == TargetMissed(
        "it was there after its first step, before which it is not validated; ask for a lower loss "
        "(question.target_losses), or leave this batch out",
        is_early=True,
    )
    missed = target_reached(evaluations(2.0, 1.0), 2.5, step_tokens=50)
    assert isinstance(missed, TargetMissed)
    assert missed.reason == "it was there at its first validation; raise rules.validations"
