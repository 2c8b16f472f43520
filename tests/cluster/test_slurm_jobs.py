"""What Slurm's commands print, read and put in words."""

import pytest

from pipeline.cluster.slurm_jobs import JobState, read_sacct, read_scontrol

RUNNING = (
    "JobId=7 JobName=train-run UserId=me(1000) JobState=RUNNING Reason=None Dependency=(null) "
    "Requeue=1 Restarts=2 BatchFlag=1 Reboot=0 ExitCode=0:0 StartTime=2000-01-31T12:00:00 "
    "EndTime=2000-02-01T12:00:00 Partition=gpu ReqNodeList=(null) ExcNodeList=(null) "
    "NodeList=n[1-2] BatchHost=n1 NumNodes=2\n"
)


def test_a_running_job_as_scontrol_prints_it() -> None:
    state = read_scontrol(RUNNING)
    assert state == JobState("RUNNING", "", 0, "2000-01-31T12:00:00", "n[1-2]", 2)
    assert [state.in_words(), state.has_ended] == ["running", False]
    assert read_scontrol("") is None


@pytest.mark.parametrize(
    ("state", "words", "has_ended"),
    [
        (JobState("PENDING", "Priority"), "queued (Priority)", False),
        (JobState("PENDING", "BeginTime", requeues=1), "queued again (BeginTime)", False),
        (JobState("PENDING"), "queued (no reason given)", False),
        (JobState("COMPLETING"), "ending", False),
        (JobState("COMPLETED"), "done", True),
        (JobState("FAILED", "NonZeroExitCode", 2), "failed with exit code 2", True),
        (JobState("FAILED", "", 75), "stopped after saving (exit code 75)", True),
        (JobState("TIMEOUT", "TimeLimit"), "ended by the time limit", True),
        (JobState("CANCELLED"), "cancelled", True),
        (
            JobState("CANCELLED", "DependencyNeverSatisfied"),
            "cancelled: its dependency failed",
            True,
        ),
        (JobState("NODE_FAIL", "NodeDown"), "ended by a node failure", True),
        (JobState("OUT_OF_MEMORY"), "ended for want of memory", True),
        (JobState("PREEMPTED"), "preempted", True),
    ],
)
def test_a_state_in_words(state: JobState, words: str, has_ended: bool) -> None:
    assert [state.in_words(), state.has_ended] == [words, has_ended]


def test_sacct_has_a_line_for_each_time_that_a_job_ran() -> None:
    text = (
        "7|REQUEUED|0:0|2000-01-30T12:00:00|n[1-2]\n"
        "7|TIMEOUT|0:15|2000-01-31T12:00:00|n[3-4]\n"
        "8|CANCELLED by 1000|0:0|Unknown|None assigned\n"
        "9|FAILED|3:0|2000-01-31T12:00:00|n1\n"
        "a line of another form\n"
    )
    states = read_sacct(text)
    assert states["7"] == JobState("TIMEOUT", "", 0, "2000-01-31T12:00:00", "n[3-4]", 1)
    assert states["8"] == JobState("CANCELLED")
    assert states["9"].in_words() == "failed with exit code 3"
    assert list(states) == ["7", "8", "9"]
