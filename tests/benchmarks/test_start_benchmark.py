"""The arithmetic of `pipeline benchmark start`, and one round of it."""

from pathlib import Path

import pytest

from pipeline.benchmarks.starting import start
from pipeline.benchmarks.starting.measured_start import (
    TOGETHER,
    MeasuredStart,
    PartTimes,
    parts_of_start,
)
from pipeline.benchmarks.starting.process_times import (
    COMMAND,
    FORK_SERVER,
    LAUNCHERS,
    OTHERS,
    PROGRAMS,
    ProcessTime,
    cpu_seconds_of_parts,
    part_of,
)
from pipeline.benchmarks.starting.start_results import (
    FORKED,
    SEPARATE,
    show_start_results,
    summarise_starts,
)
from pipeline.errors import ConfigError, Interrupted
from pipeline.store.events import FirstStepEvent
from pipeline.store.files import read_json

WORKER = "pipeline.training.worker"
EVENT: FirstStepEvent = {
    "unix_time": 110.0,
    "seconds": 10.0,
    "phases": {"before_train": 1.0, "plan": 0.5, "launcher": 5.0, "imports": 3.0, "model": 0.5},
    "cpu_phases": {"imports": 2.0, "model": 0.25},
}


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("python -u -m pipeline.training.worker --local_rank=1 /run/config.yaml", "rank 1"),
        (f"/venv/bin/python /venv/bin/deepspeed --num_gpus 2 --module {WORKER} c.yaml", LAUNCHERS),
        (f"python -u -m deepspeed.launcher.launch --module {WORKER} c.yaml", LAUNCHERS),
        (f"python -m pipeline.cluster.warm.rank_forks 2 2001 {WORKER} c.yaml", LAUNCHERS),
        ("python -m pipeline.work.warm.fork_server", FORK_SERVER),
        ("git rev-parse HEAD", OTHERS),
        ("", OTHERS),
    ],
)
def test_processes_are_told_apart_by_their_command_lines(command: str, part: str) -> None:
    assert part_of(command.split()) == part


def test_cpu_seconds_of_parts_by_hand() -> None:
    before = {
        1: ProcessTime(COMMAND, own=1.0, ended=0.5),
        2: ProcessTime(FORK_SERVER, own=5.0, ended=0.0),
        3: ProcessTime("rank 0", own=0.25, ended=0.0),
    }
    assert cpu_seconds_of_parts(before) == {
        COMMAND: 1.0,
        FORK_SERVER: 5.0,
        "rank 0": 0.25,
        PROGRAMS: 0.5,
    }
    # The server has waited for rank 0, whose seconds were counted before; a new one has begun.
    after = {
        1: ProcessTime(COMMAND, own=1.5, ended=0.5),
        2: ProcessTime(FORK_SERVER, own=5.25, ended=0.5),
        4: ProcessTime("rank 0", own=0.75, ended=0.125),
    }
    assert cpu_seconds_of_parts(after, before) == {
        COMMAND: 0.5,
        FORK_SERVER: 0.25,
        "rank 0": 0.75,
        PROGRAMS: 0.125,
    }


def test_parts_of_a_start_and_of_a_restart() -> None:
    cpu = {"rank 0": 2.5, COMMAND: 1.0, LAUNCHERS: 4.0}
    parts = parts_of_start(cpu, EVENT, 10.0)
    assert parts == {
        COMMAND: PartTimes(1.0, 1.5),
        LAUNCHERS: PartTimes(4.0, 5.0),
        "rank 0": PartTimes(2.5, None),
        "rank 0: imports": PartTimes(2.0, 3.0),
        "rank 0: model": PartTimes(0.25, 0.5),
        TOGETHER: PartTimes(7.5, 10.0),
    }
    assert list(parts)[-1] == TOGETHER
    restart = parts_of_start(cpu, EVENT, 8.0, has_command=False)
    assert restart[COMMAND] == PartTimes(1.0, None)
    assert restart[TOGETHER] == PartTimes(7.5, 8.0)


def rounds_of(*cpu_seconds: float) -> list[MeasuredStart]:
    return [
        MeasuredStart(
            {COMMAND: PartTimes(1.0, None), TOGETHER: PartTimes(seconds, 2 * seconds)},
            {TOGETHER: PartTimes(seconds / 2, seconds)},
        )
        for seconds in cpu_seconds
    ]


def test_medians_spreads_and_ratios_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    results = summarise_starts({FORKED: rounds_of(6.0, 3.0, 4.0), SEPARATE: rounds_of(9.0, 7.0)})
    forked = results["sides"][FORKED]
    assert forked["rounds"] == 3
    assert forked["start"][TOGETHER] == {
        "cpu_seconds": {"median": 4.0, "least": 3.0, "most": 6.0},
        "seconds": {"median": 8.0, "least": 6.0, "most": 12.0},
    }
    assert forked["start"][COMMAND]["seconds"] is None
    assert (results["start_ratio"], results["restart_ratio"]) == (0.5, 0.5)
    show_start_results(results)
    printed = capsys.readouterr().out
    assert f"forked ranks take 0.50 of the CPU seconds of {SEPARATE} (0.5 at most wanted: met)" in (
        printed
    )
    assert "3.00 to 6.00" in printed

    results = summarise_starts({FORKED: rounds_of(4.0), SEPARATE: []})
    assert (list(results["sides"]), results["start_ratio"]) == ([FORKED], None)


def test_on_a_machine_with_gpus_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(ConfigError, match="2 GPUs, and CPU ranks are measured: hide them with"):
        start.benchmark_start(1, tmp_path / "results.json")


@pytest.mark.ranks
@pytest.mark.full
def test_every_part_is_measured_and_kept_when_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Interrupted in its second round, it writes the first one.
    measure = start.measure_start
    measured: list[str] = []

    def interrupt(run_file: Path, run_dir: Path, variables: dict[str, str]) -> MeasuredStart:
        measured.append(run_dir.name)
        if run_dir.name.startswith("round2"):
            raise KeyboardInterrupt
        return measure(run_file, run_dir, variables)

    monkeypatch.setattr(start, "measure_start", interrupt)
    output = tmp_path / "results.json"
    with pytest.raises(Interrupted):
        start.benchmark_start(5, output)
    assert measured == ["first", "round1-0", "round1-1", "round2-0"]
    results = read_json(output)
    assert [side["rounds"] for side in results["sides"].values()] == [1, 1]
    forked, separate = (results["sides"][side] for side in (FORKED, SEPARATE))
    assert forked["start"][FORK_SERVER]["cpu_seconds"]["median"] > 0.5
    assert FORK_SERVER not in separate["start"]
    for side in (forked, separate):
        for parts in (side["start"], side["restart"]):
            seconds = {name: part["cpu_seconds"] for name, part in parts.items()}
            whole = sum(
                spread["median"]
                for name, spread in seconds.items()
                if ":" not in name and name != TOGETHER
            )
            assert seconds[TOGETHER]["median"] == pytest.approx(whole)
            assert seconds["rank 1"]["median"] > 0
    # Ranks that are forked import nothing.
    imports = [
        side["start"]["rank 0: imports"]["cpu_seconds"]["median"] for side in (forked, separate)
    ]
    assert imports[0] < 0.5 * imports[1]
    assert results["start_ratio"] < 1
    assert results["restart_ratio"] < results["start_ratio"]
