"""What runs say at a target loss, for runs of a known hyperbola."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from pipeline.planning.batch_size.critical_figures import critical_figures, main_answer
from pipeline.planning.batch_size.critical_results import (
    NoiseAt,
    RunCurve,
    answer_at,
    common_target,
    curve_of_records,
)
from pipeline.planning.batch_size.hyperbola import Hyperbola
from pipeline.planning.batch_size.target import Evaluation, TargetMissed, TargetReached
from pipeline.planning.laws.intervals import Interval
from pipeline.store.metrics import StepRecord

TRUE = Hyperbola(100, 2048)
BATCHES = (256, 1024, 4096, 16_384)
RATES = (0.5, 1.0, 2.0)


def curve(batch: int, rate: float, noise: float = 3000.0) -> RunCurve:
    """Return a run whose loss is 4 exactly where the hyperbola says, at its best rate, 1.

    Its loss falls by 1 with each doubling of the tokens; the other rates take 1.5 times the tokens.
    """
    tokens = TRUE.total(batch) * (1.0 if rate == 1 else 1.5)
    places = [tokens * 2.0 ** (number / 4 - 2.1) for number in range(14)]
    return RunCurve(
        name=f"b{batch}-x{rate:g}",
        batch=batch,
        rate_factor=rate,
        evaluations=tuple(Evaluation(place, 4 - math.log2(place / tokens)) for place in places),
        noise=tuple(NoiseAt(place, noise, 40) for place in places),
    )


def curves(batches: Sequence[int] = BATCHES, rates: Sequence[float] = RATES) -> list[RunCurve]:
    return [
        curve(batch, rate, noise=1000.0 * (place + 1))
        for place, batch in enumerate(batches)
        for rate in rates
    ]


def test_the_critical_batch_is_found_at_the_best_rates() -> None:
    answer = answer_at(curves(), 4.0)
    assert answer.refusal == ""
    assert answer.fitted is not None
    assert answer.fitted.curve.critical_batch == pytest.approx(2048, rel=1e-6)
    assert answer.fitted.curve.fewest_steps == pytest.approx(100, rel=1e-6)
    assert [tuned.rate_factor for tuned in answer.tuned] == [1, 1, 1, 1]
    assert answer.noise == Interval(2500.0, 1000.0, 4000.0)
    assert answer.kaplan == pytest.approx(2e8 / 4**4.76)


def test_a_target_that_is_half_as_far_takes_half_of_the_tokens() -> None:
    answer = answer_at(curves(), 5.0)
    assert answer.fitted is not None
    assert answer.fitted.curve.fewest_total == pytest.approx(TRUE.fewest_total / 2, rel=1e-6)
    assert answer.fitted.curve.critical_batch == pytest.approx(2048, rel=1e-6)


@pytest.mark.parametrize(
    ("batches", "rates", "reason"),
    [
        ((256, 1024, 4096), RATES, "3 batches have reached the target, and a hyperbola needs"),
        ((16, 32, 64, 128), RATES, "batches of 16 to 128 do not bracket the critical batch size"),
        (BATCHES, (1.0, 2.0), "the best learning rate is the last one tried for 4 of 4 batches"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    batches: Sequence[int], rates: Sequence[float], reason: str
) -> None:
    answer = answer_at(curves(batches, rates), 4.0)
    assert answer.fitted is None
    assert reason in answer.refusal


def test_batches_that_missed_the_target_do_not_count() -> None:
    answer = answer_at(curves(), 0.5)
    assert answer.tuned == ()
    assert answer.noise is None
    assert answer.refusal.startswith("0 batches have reached the target")


def test_the_default_target_is_reached_by_every_batch() -> None:
    """The last validation of every run is at 2^1.15 times its tokens to 4, a loss of 2.85."""
    assert common_target(curves()) == pytest.approx(2.85)
    assert common_target([]) is None


def record(step: int, loss: float | None = None) -> StepRecord:
    made = {"step": step, "tokens": 100 * step, "gradient_noise_scale_tokens": 7.0 * step}
    if loss is not None:
        made["validation_loss"] = loss
    return made  # type: ignore[return-value]


def test_tokens_count_from_the_branch() -> None:
    """The runs begin at the checkpoint of step 10."""
    found = curve_of_records("run", 100, 1.0, [record(11), record(12, 5.0), record(13, 4.0)], 1000)
    assert found.evaluations == (Evaluation(200, 5.0), Evaluation(300, 4.0))
    assert found.noise[0] == NoiseAt(100, 77.0, 0)
    # Step 13 is measured, the first one since the branch.
    assert [each.updates for each in found.noise] == [0, 0, 1]
    assert found.lowest_loss == 4.0
    answer = answer_at([found], 4.5)
    assert answer.tries[0].result == TargetReached(pytest.approx(math.sqrt(60_000)), 300)


def test_the_noise_scale_is_that_of_the_last_quarter_before_the_target() -> None:
    """Of 100 tokens: those at 75 and 100 count, whose median is 30, and none of the rates besides."""
    measured = [NoiseAt(place, place - 60.0, 40) for place in (25, 50, 75, 100, 125)]
    noise = (*measured, NoiseAt(90, None, 40))
    runs = [
        RunCurve("best", 10, 1.0, (Evaluation(50, 5.0), Evaluation(100, 4.0)), noise),
        RunCurve(
            "other", 10, 2.0, (Evaluation(80, 5.0), Evaluation(160, 4.0)), (NoiseAt(150, 1, 40),)
        ),
    ]
    assert answer_at(runs, 4.0).noise == Interval(27.5, 27.5, 27.5)


def test_a_batch_of_too_few_measurements_has_no_noise_scale() -> None:
    """Of the batch of 4,096 the 39th and the 40th measurement are before the target, of 16,384 the
    8th."""
    runs = curves(rates=(1.0,))
    counts = {256: 500, 1024: 100, 4096: 40, 16_384: 8}
    runs = [
        replace(run, noise=tuple(replace(each, updates=counts[run.batch]) for each in run.noise))
        for run in runs
    ]
    # One reading of the batch of 4,096 is a measurement early, and has another scale.
    early = replace(runs[2].noise[7], updates=39, scale=1e9)
    runs[2] = replace(runs[2], noise=(*runs[2].noise, early))
    answer = answer_at(runs, 4.0)
    assert answer.noise_batches == (256, 1024, 4096)
    assert answer.noise == Interval(2000.0, 1000.0, 3000.0)
    few = [
        replace(run, noise=tuple(replace(each, updates=39) for each in run.noise)) for run in runs
    ]
    assert answer_at(few, 4.0).noise is None
    assert answer_at(few, 4.0).noise_batches == ()


def test_figures_of_the_lowest_target_with_a_fit() -> None:
    answers = [answer_at(curves(), target) for target in (3.5, 4.0, 0.5)]
    assert main_answer(answers).target == 3.5
    tables = {table.name: table for table in critical_figures(answers)}
    steps = tables["steps_over_batch"]
    assert [point.x for point in steps.points_of("run")] == list(BATCHES)
    assert len(steps.points_of("left out")) == 8
    ideal = [point.y * point.x for point in steps.points_of("ideal")]
    assert ideal == pytest.approx([TRUE.fewest_total * 2**0.5] * 4, rel=1e-6)
    tokens = tables["tokens_over_steps"].points_of("fit")
    assert tokens[0].x < tokens[-1].x
    assert tables["tokens_over_rate"].series_of("run")[0] == "B = 256"
    over_loss = tables["critical_batch_over_loss"]
    assert [(each.series, each.x) for each in over_loss.points_of("run")] == [
        ("B_crit, fitted", 3.5),
        ("B_crit, fitted", 4.0),
        ("noise scale, measured", 3.5),
        ("noise scale, measured", 4.0),
    ]
    assert critical_figures([]) == []


def test_a_rate_that_diverged_was_tried_and_reached_nothing() -> None:
    """Without its place among the rates, the one below would be the last that was tried."""
    own = curves(rates=(0.5, 1.0))
    assert {batch.open_side for batch in answer_at(own, 4.0).tuned} == {"higher"}
    diverged = [replace(curve(batch, 2.0), has_diverged=True) for batch in BATCHES]
    answer = answer_at([*own, *diverged], 4.0)
    assert {batch.open_side for batch in answer.tuned} == {""}
    missed = [each.result for each in answer.tries if each.rate_factor == 2]
    assert missed == [TargetMissed("it diverged")] * len(BATCHES)
    assert common_target(diverged) is None
