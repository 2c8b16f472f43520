"""Jobs of a chain, by hand."""

import pytest

from pipeline.planning.job_chain import chain_of_jobs

HOUR = 3600.0
MINUTE = 60.0


def test_start_up_margin_and_save_are_taken_off_each_job() -> None:
    """95.5 h are less than four days, but four jobs of 24 h train for 4 x 23.75 = 95 h only."""
    chain = chain_of_jobs(95.5 * HOUR, 24 * HOUR, 10 * MINUTE, 5 * MINUTE)
    assert chain.jobs == 5
    assert chain.overhead_seconds == 15 * MINUTE
    assert chain.last_job_seconds == pytest.approx(0.5 * HOUR + 15 * MINUTE)


def test_a_training_that_fills_its_jobs_needs_no_further_one() -> None:
    assert chain_of_jobs(95 * HOUR, 24 * HOUR, 10 * MINUTE, 5 * MINUTE).jobs == 4
    assert chain_of_jobs(1.0, 24 * HOUR, 10 * MINUTE, 5 * MINUTE).jobs == 1


def test_a_job_that_ends_before_its_first_step_is_refused() -> None:
    with pytest.raises(ValueError, match="ends before its first step"):
        chain_of_jobs(HOUR, 10 * MINUTE, 6 * MINUTE, 4 * MINUTE)
