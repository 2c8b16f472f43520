"""Which run ends lowest: no winner below the printed digits, and what chance makes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from runs_to_compare import run_by_hand, with_end

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.reporting.many_runs.comparable import Basis
from pipeline.reporting.many_runs.compared_run import ComparedRun, StepPoint
from pipeline.reporting.many_runs.verdict import (
    distances_of_seeds,
    end_losses,
    last_training_loss,
    verdict_sentences,
)

HELD_OUT = Basis("nats a token", is_held_out=True, reasons=[])
TRAINING = Basis("nats a token", is_held_out=False, reasons=[])
NOTHING_OF_CHANCE = (
    "No two of the runs differ in train.seed alone: nothing here tells how large a difference "
    "chance makes."
)


@pytest.fixture
def config(run_file: Path) -> RunConfig:
    return load(run_file)


def ending_at(config: RunConfig, losses: Sequence[float]) -> list[ComparedRun]:
    """Return runs with these losses, each of another batch."""
    return [
        with_end(run_by_hand(config.model_copy(update={"preset": str(number)}), "a"), loss)
        for number, loss in enumerate(losses)
    ]


def test_the_lowest_end_is_named_with_the_distance_of_the_others(config: RunConfig) -> None:
    runs = ending_at(config, [3.6, 3.35])
    assert verdict_sentences(runs, ["a", "b"], HELD_OUT) == [
        "Lowest validation loss at the end: b, 3.3500 (a +0.2500).",
        NOTHING_OF_CHANCE,
    ]
    longer = replace(runs[0], points=[*runs[0].points, replace(runs[0].last, tokens=300)])
    sentence = verdict_sentences([longer, runs[1]], ["a", "b"], HELD_OUT)[0]
    assert sentence.endswith("different numbers of tokens; the curves show the way there.")


def test_no_run_wins_below_the_printed_digits(config: RunConfig) -> None:
    runs = ending_at(config, [3.60001, 3.6, 3.7])
    assert verdict_sentences(runs, ["a", "b", "c"], HELD_OUT)[0] == (
        "Lowest validation loss at the end: 3.6000, with no difference between a and b (c +0.1000)."
    )
    same = verdict_sentences(runs[:2], ["a", "b"], HELD_OUT)[0]
    assert same.endswith(": 3.6000, with no difference between a and b.")


def test_of_many_runs_the_first_ones_are_named(config: RunConfig) -> None:
    runs = ending_at(config, [3 + number / 4 for number in range(9)])
    sentence = verdict_sentences(runs, list("abcdefghi"), HELD_OUT)[0]
    assert sentence.endswith("f +1.2500; 3 more up to +2.0000).")
    tied = verdict_sentences(ending_at(config, [3.0] * 9), list("abcdefghi"), HELD_OUT)[0]
    assert tied.endswith("no difference between a, b, c, d, e, f and 3 more.")


def test_seeds_tell_what_chance_makes(config: RunConfig) -> None:
    """Pairs 0.25, 0.5 and 0.75 apart; a run of another batch is in none."""
    runs = [with_end(run_by_hand(config, "a"), loss) for loss in (3.0, 3.25, 3.75)] + ending_at(
        config, [9.0]
    )
    seeds = [
        run.config.model_copy(update={"train": run.config.train.model_copy(update={"seed": seed})})
        for seed, run in enumerate(runs)
    ]
    runs = [replace(run, config=seed) for run, seed in zip(runs, seeds, strict=True)]
    names = list("abcd")
    assert sorted(distances_of_seeds(end_losses(runs, names, HELD_OUT))) == [0.25, 0.5, 0.75]
    assert verdict_sentences(runs, names, HELD_OUT)[1] == (
        "Runs that differ in train.seed alone end 0.5000 apart (median of 3 pairs): a difference of that "
        "size is what chance makes."
    )
    assert "apart (1 pair)" in verdict_sentences(runs[:2], names[:2], HELD_OUT)[1]


def test_a_training_loss_is_the_mean_of_the_last_steps(config: RunConfig) -> None:
    """The last tenth of 30 steps: 28, 29 and 30, of which the last one is an outlier."""
    points = [StepPoint(step, 1.0, None, 30.0 - step, None, None) for step in range(1, 30)]
    run = run_by_hand(config, "a", points=[*points, StepPoint(30, 1.0, None, 9.0, None, None)])
    assert last_training_loss(run) == (2 + 1 + 9) / 3
    other = run_by_hand(config, "b", points=points[:20])
    assert verdict_sentences([run, other], ["a", "b"], TRAINING)[0].startswith(
        "Lowest training loss, mean of the last 2 to 3 steps: a, 4.0000 (b +6.5000)."
    )
    assert "mean of the last 3 steps" in verdict_sentences([run, run], ["a", "b"], TRAINING)[0]
    single = run_by_hand(config, "c", points=points[:5])
    assert "loss, of the last step: " in verdict_sentences([single] * 2, ["a", "b"], TRAINING)[0]
