"""In which unit runs are compared, and what is said where losses a token cannot be."""

from dataclasses import replace
from pathlib import Path

import pytest
from runs_to_compare import run_by_hand

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.errors import DataError
from pipeline.reporting.many_runs.comparable import basis_of, remarks
from pipeline.reporting.many_runs.compared_run import ComparedRun


@pytest.fixture
def config(run_file: Path) -> RunConfig:
    return load(run_file)


def without_validation(run: ComparedRun) -> ComparedRun:
    points = [replace(point, validation_loss=None, bits_per_byte=None) for point in run.points]
    return replace(run, points=points)


def test_one_tokenizer_and_one_held_out_text_give_losses_a_token(config: RunConfig) -> None:
    runs = [run_by_hand(config, "a"), run_by_hand(config, "b")]
    basis = basis_of(runs)
    assert (basis.unit, basis.is_held_out, basis.reasons) == ("nats a token", True, [])
    assert basis.loss(runs[0].last) == 3.6


def test_another_tokenizer_gives_bits_per_byte(config: RunConfig) -> None:
    runs = [run_by_hand(config, "a"), run_by_hand(config, "b", tokenizer="u", held_out="i")]
    basis = basis_of(runs)
    assert basis.unit == "bits per byte"
    assert basis.loss(runs[0].last) == 1.5
    assert basis.reasons == [
        "The runs have different tokenizers, so a loss a token counts other tokens in each: what is "
        "drawn is bits per byte of held-out text."
    ]


@pytest.mark.parametrize("other", ["i", ""])
def test_other_held_out_text_gives_bits_per_byte_and_a_warning(
    config: RunConfig, other: str
) -> None:
    """Text that is not known is not taken for the same."""
    runs = [run_by_hand(config, "a"), run_by_hand(config, "b", held_out=other, held_out_text="")]
    basis = basis_of(runs)
    assert basis.unit == "bits per byte"
    assert basis.reasons[0].startswith("The runs are not known to have the same held-out text")
    assert basis.reasons[1].startswith("Nor are the held-out documents known to be the same")


def test_without_held_out_text_training_losses_are_compared(config: RunConfig) -> None:
    runs = [run_by_hand(config, "a"), without_validation(run_by_hand(config, "b"))]
    basis = basis_of(runs)
    assert (basis.unit, basis.is_held_out) == ("nats a token", False)
    assert basis.loss(runs[0].last) == 3.5
    assert basis.reasons == [
        "No validation loss: b. What is drawn is the training loss, each run's on its own text."
    ]


def test_runs_with_nothing_in_common_are_refused(config: RunConfig) -> None:
    other = run_by_hand(config, "b", tokenizer="u")
    with pytest.raises(DataError, match="b: has no validation loss, and training losses of diff"):
        basis_of([run_by_hand(config, "a"), without_validation(other)])
    points = [replace(point, bits_per_byte=None) for point in other.points]
    with pytest.raises(DataError, match="b: has no bits per byte, as its tokens do not stand"):
        basis_of([run_by_hand(config, "a"), replace(other, points=points)])


def test_what_keeps_a_run_out_of_a_figure_is_said(config: RunConfig) -> None:
    run = run_by_hand(config, "a", branches_off=True, are_data_as_read=False)
    timeless = replace(run, points=[replace(point, seconds=None) for point in run.points])
    assert remarks([timeless], ["a"]) == [
        "a has recorded no start of its ranks: it is not drawn over time.",
        "a: its data folder is gone or was rebuilt with other content since the run began; which text it "
        "was validated on is known from its record alone.",
        "a began from a checkpoint of another run: its time and FLOPs are those of its own steps, "
        "its tokens count the others too.",
    ]
