"""Jobs of a chain, by hand."""

import pytest

from pipeline.cluster.batch_script import BATCH_SCRIPTS, sbatch_options
from pipeline.planning.job_chain import (
    LEAST_SIGNALLED_SECONDS,
    SIGNAL_SECONDS,
    JobTimes,
    chain_of_jobs,
    lost_margin_seconds,
)

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


def test_a_long_job_loses_what_the_batch_script_takes() -> None:
    """The signal comes 300 s before the end, or up to 60 s earlier; the supervisor needs
    30 + 2 x (step + validation + save)."""
    assert lost_margin_seconds(24 * HOUR, step=1, validation=10, save=20) == 360
    assert lost_margin_seconds(24 * HOUR, step=1, validation=10, save=200) == 30 + 2 * 211
    # A job under a quarter of an hour gets no signal.
    assert lost_margin_seconds(900, step=1, validation=10, save=20) == 360
    assert lost_margin_seconds(899, step=1, validation=10, save=20) == 30 + 2 * 31


def test_the_signal_is_that_of_the_batch_script() -> None:
    script = (BATCH_SCRIPTS / "train.sbatch").read_text()
    assert sbatch_options(script)["signal"] == f"B:USR1@{SIGNAL_SECONDS:.0f}"
    assert f"[ $length -lt {LEAST_SIGNALLED_SECONDS:.0f} ]" in script


def test_a_chain_that_the_supervisor_alone_would_not_need() -> None:
    """95.5 h at 24 h and 5 min of start-up: 4 jobs if each stopped 32 s before its end, but 5."""
    own = JobTimes(24 * HOUR, 5 * MINUTE, margin_seconds=32, save_seconds=0.25)
    margin = lost_margin_seconds(24 * HOUR, step=0.5, validation=0.25, save=0.25)
    lost = JobTimes(24 * HOUR, 5 * MINUTE, margin, save_seconds=0.25)
    chains = [own.chain(95.5 * HOUR), lost.chain(95.5 * HOUR)]
    assert [chain.jobs for chain in chains if chain is not None] == [4, 5]
    # Each holds its devices from its start to the end of its last save.
    assert lost.held_seconds(95.5 * HOUR) == 95.5 * HOUR + 5 * (5 * MINUTE + 0.25)


def test_a_job_that_is_too_short_has_no_chain() -> None:
    short = JobTimes(10 * MINUTE, 6 * MINUTE, margin_seconds=4 * MINUTE, save_seconds=1)
    assert short.chain(HOUR) is None
    assert short.held_seconds(HOUR) == HOUR
