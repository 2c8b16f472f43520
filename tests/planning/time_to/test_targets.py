"""When runs reach a target: the first reading at or beyond it, the interval before it, refusals."""

from collections.abc import Sequence

import pytest

from pipeline.planning.time_to.targets import Target, arrival, refusal
from pipeline.planning.time_to.timed_run import Reading, TimedRun


def reading(step: int, value: float | None, seconds: float | None = None) -> Reading:
    """Return a reading of 10 tokens and 2 s a step, of two devices with 100 W each."""
    if seconds is None:
        seconds = 2.0 * step
    return Reading(step, 10 * step, value, seconds, 2 * seconds, 200 * seconds)


def run(losses: Sequence[float | None], left_out: str = "", **scores: Sequence[float]) -> TimedRun:
    return TimedRun(
        name="a",
        recipe="a",
        ranks=2,
        batch_tokens=10,
        tokens_per_second=5.0,
        losses=[reading(step, loss) for step, loss in enumerate(losses, start=1)],
        scores={
            task: [reading(step, score) for step, score in enumerate(values, start=1)]
            for task, values in scores.items()
        },
        left_out=left_out,
    )


def test_a_loss_is_reached_at_the_first_validation_at_or_below_it() -> None:
    found = arrival(run([5.0, 4.0, 3.0, 2.0]), Target(3.5))
    assert found.at == reading(3, 3.0)
    assert (found.seconds, found.interval_seconds, found.reason) == (6, 2, "")
    assert arrival(run([5.0, 4.0, 3.0]), Target(4.0)).at == reading(2, 4.0)
    # A loss that is not finite is above every target, and a later rise changes nothing.
    assert arrival(run([5.0, None, 3.0, 4.0]), Target(3.5)).at == reading(3, 3.0)


def test_a_score_is_reached_from_below() -> None:
    found = arrival(run([], copa=[0.5, 0.6, 0.7]), Target(0.6, "copa"))
    assert found.at == reading(2, 0.6)
    assert found.target.label == "copa 0.6"
    assert arrival(run([], copa=[0.5, 0.55]), Target(0.6, "copa")).reason == (
        "not reached; its best is 0.55"
    )


def test_what_is_not_reached_or_not_told_has_its_reason() -> None:
    assert arrival(run([5.0, 4.0]), Target(3.0)).reason == "not reached; its best is 4"
    early = arrival(run([5.0, 4.0]), Target(6.0))
    assert (early.reason, early.is_early) == ("there at its first validation already", True)
    assert not arrival(run([5.0, 4.0]), Target(3.0)).is_early
    assert arrival(run([None]), Target(3.0)).reason == "no finite validation loss"
    assert arrival(run([3.0]), Target(1.0, "copa")).reason == "its checkpoints have no score"
    assert arrival(run([3.0], left_out="other text"), Target(1.0)).reason == "other text"


def test_without_times_a_run_arrives_and_tells_no_time() -> None:
    old = run([5.0, 3.0])
    timeless = [
        Reading(each.step, each.tokens, each.value, None, None, None) for each in old.losses
    ]
    found = arrival(TimedRun("a", "a", 1, 10, 5.0, timeless, {}), Target(4.0))
    assert found.at is not None
    assert (found.seconds, found.interval_seconds) == (None, None)


@pytest.mark.parametrize(
    ("losses", "target", "expected"),
    [
        (
            [5.0, 4.0],
            Target(3.0),
            "loss 3: no run reached it, the best is 4; ask for a target at or abo",
        ),
        (
            [5.0, 4.0],
            Target(5.5),
            "loss 5.5: every run that reached it was there at its first reading",
        ),
        ([], Target(3.0), "loss 3: no run has a validation loss; train and evaluate the runs"),
        ([5.0], Target(0.5, "copa"), "copa 0.5: no run has scores of copa; train and evaluate"),
    ],
)
def test_a_target_that_no_run_tells_is_refused(
    losses: list[float], target: Target, expected: str
) -> None:
    found = run(losses)
    assert refusal(target, [arrival(found, target)]).startswith(expected)


def test_a_target_that_one_run_reached_is_not_refused() -> None:
    target = Target(4.5)
    both = [arrival(run([5.0]), target), arrival(run([5.0, 4.0]), target)]
    assert refusal(target, both) == ""


def test_runs_that_are_left_out_do_not_decide_a_refusal() -> None:
    target = Target(3.0)
    both = [arrival(run([5.0, 2.0], left_out="other text"), target), arrival(run([5.0]), target)]
    assert "the best is 5" in refusal(target, both)
