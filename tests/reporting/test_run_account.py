"""Accounts of runs whose events and steps are written by hand: each moment is in one part."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.reporting.run_account import (
    CAUSES,
    RunAccount,
    StepMoment,
    account,
    account_of_run,
)
from pipeline.reporting.run_starts import find_starts
from pipeline.store.metrics import StepTimes, StepTimesTable

T = 1_000_000.0
"""When the first job begins, in seconds of the epoch."""


def event(at: float, kind: str, **details: Any) -> Any:
    return {"time": "", "unix_time": T + at, "event": kind, **details}


def launch(at: float, command: float, ranks: int = 4, submitted: float | None = None) -> Any:
    began = None if submitted is None else T + submitted
    return event(at, "launch", ranks=ranks, command_began=T + command, submitted=began)


def begin(at: float, step: int, abandoned: int, ranks: int = 4) -> list[Any]:
    """Return the events of a start whose engine is built at `at`; its first step takes 2 s."""
    details = {"step": step, "abandoned_steps": abandoned, "ranks": ranks, "device": "H100"}
    return [event(at, "start", **details), event(at + 2, "first step", phases={})]


def save(at: float, step: int, stalled: float = 1.0) -> Any:
    return event(at, "save", step=step, stalled_seconds=stalled, seconds=3.0)


def step(number: int, ended: float, validation: float = 0.0) -> StepTimes:
    """Return a step of 2 s, half a second of which it waited for data."""
    return StepTimes(number, 2.0, 0.5, validation, T + ended)


def account_of(
    events: list[Any], steps: list[StepTimes], abandoned: list[StepTimes]
) -> RunAccount | None:
    return account(events, StepTimesTable(steps), StepTimesTable(abandoned))


def seconds_of(found: RunAccount | None) -> dict[str, float]:
    """Return the parts that took any time."""
    assert found is not None
    return {part: seconds for part, seconds in found.seconds.items() if seconds}


def lost_of(found: RunAccount | None) -> dict[str, tuple[int, float]]:
    """Return the lost steps and seconds of each cause that cost any."""
    assert found is not None
    pairs = {cause: (found.lost_steps[cause], found.lost_seconds[cause]) for cause in CAUSES}
    return {cause: pair for cause, pair in pairs.items() if any(pair)}


def test_a_start_begins_with_the_imports_that_its_ranks_are_forked_from() -> None:
    events = [launch(10, command=0) | {"launcher_began": T + 6}, *begin(11, step=0, abandoned=0)]
    (start,) = find_starts(events)
    assert (start.launched, start.is_launch_recorded) == (T + 6, True)
    (older,) = find_starts([launch(10, command=0)])
    assert older.launched == T + 10


def test_each_moment_of_an_undisturbed_run_is_in_one_part() -> None:
    events = [
        launch(10, command=0),
        *begin(30, step=0, abandoned=0),
        save(36, 2),
        event(38.5, "energy", joules=900.0, seconds=20.0),
        event(40, "end", step=3),
        event(43, "ranks ended"),
    ]
    # Between steps 1 and 2 a quarter of a second passes, between 2 and 3 a save of a second.
    steps = [step(1, 32), step(2, 34.25, validation=1), step(3, 38.25)]
    found = account_of(events, steps, [])
    assert seconds_of(found) == {
        "before training": 10,
        "start-up": 20,
        "waiting for data": 1.5,
        "training": 4.5,
        "validation": 1,
        "saving": 1 + 1.75,
        "not recorded": 0.25,
        "ending": 3,
    }
    assert found is not None
    assert found.wall_seconds == 43
    assert found.effective_training_time_ratio == 4.5 / 43
    assert found.device_hours == 4 * 43 / 3600
    assert (found.steps, found.jobs, found.starts, found.device) == (3, 1, 1, "H100")
    assert (found.joules, found.joules_seconds) == (900, 20)
    assert lost_of(found) == {}
    # From the launch at 10 s; the devices used 45 W in the 20 s that were measured.
    assert found.moments == [
        StepMoment(1, 22, 88, 900),
        StepMoment(2, 25.25, 101, 900),
        StepMoment(3, 28.25, 113, 900),
    ]


def test_lost_steps_have_the_cause_that_ended_their_start() -> None:
    """A kill, a hang, a rollback and a time limit, each of which costs two or more steps."""
    events = [
        # 1 to 4, saved at 2; a rank is killed.
        launch(1, command=0),
        *begin(10, step=0, abandoned=0),
        save(15, 2, stalled=0),
        event(20, "ranks ended"),
        event(20, "restart", number=1, reason=""),
        # 3 and 4 again; the ranks hang.
        launch(21, command=0),
        *begin(30, step=2, abandoned=2),
        event(94, "stall", reason=""),
        event(95, "ranks ended"),
        event(95, "restart", number=2, reason=""),
        # 3 to 6, saved at 4; they roll back beyond the last checkpoint.
        launch(95, command=0),
        *begin(100, step=2, abandoned=2),
        save(104, 4, stalled=0),
        event(109, "rollback", step=6, to_step=2),
        event(110, "ranks ended"),
        # 3 and 4; the job ends while they save.
        launch(112, command=0),
        *begin(120, step=2, abandoned=4),
        event(123, "out of time"),
        # Another job, queued for 7 s, finishes.
        launch(202, command=200, submitted=193),
        *begin(210, step=2, abandoned=2),
        event(212.5, "end", step=3),
        event(213, "ranks ended"),
    ]
    steps = [step(1, 12), step(2, 14), step(3, 212)]
    abandoned = [
        *(step(3, 16), step(4, 18)),
        *(step(3, 32), step(4, 34)),
        *(step(3, 102), step(4, 104), step(5, 106), step(6, 108)),
        *(step(3, 122), step(4, 124)),
    ]
    found = account_of(events, steps, abandoned)
    assert lost_of(found) == {
        "kill": (2, 4 + 2),
        "hang": (2, 4 + 61),
        "rollback": (4, 8 + 2),
        "time limit": (2, 4),
    }
    assert seconds_of(found) == {
        "before training": 1 + 2,
        "start-up": 9 + 9 + 5 + 8 + 8,
        "training": 3 * 1.5,
        "waiting for data": 3 * 0.5,
        "lost steps": 6 + 65 + 10 + 4,
        "saving": 0.5,
        "restarts": 1 + 0 + 2,
        "between jobs": 193 - 124,
        "queue": 7,
        "ending": 0.5,
    }
    assert found is not None
    assert found.wall_seconds == 213
    assert found.effective_training_time_ratio == 4.5 / (213 - 69)
    assert (found.jobs, found.starts) == (2, 5)
    assert found.device_hours * 3600 == pytest.approx(4 * (124 + 13))
    # The first job held the devices from 1 to 124 s, the second one from 202 s on.
    assert found.moments == [
        StepMoment(1, 11, 44, None),
        StepMoment(2, 13, 52, None),
        StepMoment(3, 133, 532, None),
    ]


def test_a_rollback_also_loses_steps_that_earlier_starts_made() -> None:
    events = [
        *(launch(0, 0), *begin(0, 0, 0), save(4, 2, 0), event(4, "stop"), event(4, "ranks ended")),
        *(launch(10, 10), *begin(10, 2, 0), event(14, "rollback"), event(14, "ranks ended")),
        *(launch(14, 10), *begin(14, 1, 3), event(16, "stop"), event(16, "ranks ended")),
    ]
    abandoned = [step(2, 4), step(3, 12), step(4, 14)]
    found = account_of(events, [step(1, 2), step(2, 16)], abandoned)
    assert lost_of(found) == {"rollback": (3, 6)}
    assert seconds_of(found) == {
        "training": 3,
        "waiting for data": 1,
        "lost steps": 6,
        "between jobs": 6,
    }


def test_steps_after_a_checkpoint_that_is_gone_are_lost_to_another_cause() -> None:
    events = [
        *(launch(0, 0), *begin(0, 0, 0), save(4, 2, 0), event(4, "end"), event(4, "ranks ended")),
        *(launch(10, 10), *begin(10, 1, 1), event(12, "end"), event(12, "ranks ended")),
    ]
    found = account_of(events, [step(1, 2), step(2, 12)], [step(2, 4)])
    assert lost_of(found) == {"other": (1, 2)}


def test_starts_that_never_step_are_start_up() -> None:
    """One that is refused while it starts, and one that dies after its engine is built."""
    started = event(28, "start", step=0, abandoned_steps=0, ranks=2)
    events = [
        *(launch(1, 0, ranks=2), event(9, "ranks ended"), event(9, "restart", number=1)),
        *(launch(10, 0, ranks=2), started, event(30, "ranks ended")),
    ]
    found = account_of(events, [], [])
    assert seconds_of(found) == {"before training": 1, "start-up": 8 + 20, "restarts": 1}
    assert found is not None
    assert found.effective_training_time_ratio == 0
    assert found.device_hours == 2 * 30 / 3600


def test_a_branch_and_a_lengthened_run_lose_nothing() -> None:
    """A branch that took everything begins at the other run's step."""
    events = [
        event(1, "branch", take="everything", step=7),
        *(launch(0, 0), *begin(5, 7, 0), event(9, "end"), event(9, "ranks ended")),
        event(51, "lengthened", step=9),
        *(launch(50, 50), *begin(55, 9, 0), event(57, "end"), event(57, "ranks ended")),
    ]
    found = account_of(events, [step(8, 7), step(9, 9), step(10, 57)], [])
    assert lost_of(found) == {}
    assert seconds_of(found) == {
        "start-up": 5 + 5,
        "training": 4.5,
        "waiting for data": 1.5,
        "between jobs": 41,
    }


def test_a_queue_begins_when_the_first_job_is_submitted() -> None:
    events = [launch(1, 0, submitted=-60), *begin(5, 0, 0), event(7, "end")]
    found = account_of(events, [step(1, 7)], [])
    assert seconds_of(found)["queue"] == 60
    assert seconds_of(account_of(events, [step(1, 7)], []))["before training"] == 1
    assert found is not None
    assert found.wall_seconds == 67
    assert found.device_hours == 4 * 7 / 3600, "nothing is held in a queue"


def test_a_chain_that_is_submitted_at_once_queues_from_the_end_of_each_job() -> None:
    events = [
        *(launch(0, 0, submitted=-5), *begin(0, 0, 0), event(2, "stop"), event(2, "ranks ended")),
        *(launch(9, 9, submitted=-5), *begin(9, 1, 0), event(11, "end"), event(11, "ranks ended")),
    ]
    found = account_of(events, [step(1, 2), step(2, 11)], [])
    assert seconds_of(found) == {"queue": 5 + 7, "training": 3, "waiting for data": 1}


def test_a_clock_that_is_set_back_costs_no_part() -> None:
    """Between two jobs, and between two steps, where what the steps measured still counts."""
    hour = 3600
    first = [launch(0, 0), *begin(5, 0, 0), event(7, "stop"), event(8, "ranks ended")]
    second = [launch(21, 20), *begin(30, 1, 0), event(36, "end"), event(37, "ranks ended")]
    steps = [step(1, 7), step(2, 32), step(3, 34), step(4, 36)]
    for late in second:
        late["unix_time"] -= hour
    second[0]["command_began"] -= hour
    back = [StepTimes(s.step, 2, 0.5, 0, s.unix_time - hour) for s in steps[1:] if s.unix_time]
    found = account_of([*first, *second], [steps[0], *back], [])
    assert seconds_of(found) == {
        "start-up": 5 + 9,
        "training": 6,
        "waiting for data": 2,
        "ending": 2,
        "before training": 1,
    }
    for late in second[:3]:
        late["unix_time"] += hour
    second[0]["command_began"] += hour
    found = account_of([*first, *second], [*steps[:3], back[2]], [])
    assert seconds_of(found) == {
        "start-up": 5 + 9,
        "training": 6,
        "waiting for data": 2,
        "ending": 2,
        "before training": 1,
        "between jobs": 12,
    }


def older(at: int, kind: str, **details: Any) -> Any:
    """Return an event as older versions wrote it: to the second, in another zone."""
    return {"time": f"2026-01-01T02:00:{at:02d}+0200", "event": kind, **details}


def older_start(at: int, began: int, plan: float, step: int = 0) -> list[Any]:
    """Return the events of a start that took 4 s from its launcher to the end of its first step."""
    phases = {"before_train": 3.0, "plan": plan, "launcher": 1.0, "imports": 1.0, "first_step": 2.0}
    first = older(at, "first step", seconds=float(at - began), phases=phases)
    return [older(at, "start", step=step, ranks=2), first]


def older_step(number: int, validation: float = 0.0) -> StepTimes:
    return StepTimes(number, 2.0, 0.0, validation, None)


def test_a_run_of_an_older_version_adds_up_too() -> None:
    """A kill costs step 3, whose records do not say which start lost it."""
    events = [
        *older_start(10, began=0, plan=3.0),
        older(13, "save", step=2, seconds=2.0, stalled_seconds=1.0),
        older(20, "restart", number=1, reason=""),
        older(26, "resume", step=2),
        *older_start(27, began=0, plan=20.0, step=2),
        older(31, "save", step=4, seconds=1.5, stalled_seconds=0.5),
        older(32, "end", step=4),
        # Another job makes it longer.
        *older_start(50, began=40, plan=3.0, step=4),
        older(52, "end", step=5),
    ]
    steps = [*map(older_step, (1, 2, 3, 4, 5))]
    found = account_of(events, steps, [older_step(3)])
    assert seconds_of(found) == {
        "before training": 6 + 6,
        "start-up": 2 + 2 + 2,
        "training": 10,
        "saving": 1 + 1.5,
        "lost steps": 2 + 5,
        "restarts": 3,
        "not recorded": 1.5 + 2,
        "between jobs": 8,
    }
    assert lost_of(found) == {"kill": (1, 7)}
    assert found is not None
    assert found.wall_seconds == 52
    assert (found.jobs, found.starts, found.joules, found.device) == (2, 3, None, None)


def test_groups_of_abandoned_steps_are_told_apart_without_their_number() -> None:
    """Of 3, 4 | 5, 6 | 4 the second group begins where the first ends."""
    events = [
        *older_start(10, began=0, plan=3.0),
        *older_start(20, began=0, plan=13.0, step=2),
        *older_start(30, began=0, plan=23.0, step=4),
        *older_start(40, began=0, plan=33.0, step=3),
    ]
    events[2:2] = [older(15, "restart", number=1)]
    events[5:5] = [older(25, "stall", reason=""), older(25, "restart", number=2)]
    events[9:9] = [older(35, "rollback", step=5, to_step=3)]
    abandoned = [*map(older_step, (3, 4, 5, 6, 4, 5))]
    found = account_of(events, [*map(older_step, (1, 2, 3, 4))], abandoned)
    assert found is not None
    assert found.lost_steps == {"kill": 2, "hang": 2, "rollback": 2, "time limit": 0, "other": 0}


def test_only_energy_that_was_recorded_counts() -> None:
    events = [
        *(launch(0, 0), event(3, "energy", joules=10.0, seconds=1.0)),
        event(5, "energy", joules=30.0, seconds=3.0),
        *(launch(10, 10), event(12, "ranks ended")),
        *(launch(20, 20), event(25, "energy", joules=5.0, seconds=2.0)),
    ]
    found = account_of(events, [], [])
    assert found is not None
    assert (found.joules, found.joules_seconds) == (35, 5)


def test_a_run_folder_is_read_with_its_torn_lines(tmp_path: Path) -> None:
    assert account_of_run(tmp_path) is None
    torn = '{"time": "2026-01-01", "ev'
    events = [launch(0, 0), *begin(5, 0, 0), event(9, "end"), event(9, "ranks ended")]
    lines = [*map(json.dumps, events), json.dumps({"event": "start", "step": 0, "ranks": 2}), torn]
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    record = {"step_seconds": 2.0, "data_wait_seconds": 0.5}
    steps = [
        json.dumps({"step": number, **record, "unix_time": T + ended})
        for number, ended in ((1, 7), (2, 9))
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*steps, '{"step": 3, "lo']))
    (tmp_path / "metrics.abandoned.jsonl").write_text('[]\n{"step": 9, "x\n')
    assert seconds_of(account_of_run(tmp_path)) == {
        "start-up": 5,
        "training": 3,
        "waiting for data": 1,
    }


def test_an_event_without_a_readable_time_is_passed_over() -> None:
    broken = [{"time": time, "event": "start", "step": 0, "ranks": 2} for time in ("noon", None)]
    assert find_starts(broken) == []  # pyright: ignore[reportArgumentType]
