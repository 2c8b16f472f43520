"""`pipeline benchmark commands`: its arithmetic, its commands, and what Ctrl-C leaves of it."""

from pathlib import Path

import pytest
from begun_run import begin_run
from helpers import run_stages

from pipeline.benchmarks.command_line.command_seconds import (
    BARE,
    HELP,
    REPORT,
    TYPER,
    MeasuredCommand,
    checked_maxima,
    commands_of_run,
    count_modules,
    imported_modules,
    measure_in_turns,
    show_command_seconds,
    summarised,
)
from pipeline.benchmarks.small_run import write_small_run_files

MODULES = {BARE: 0, TYPER: 50, HELP: 120, "config": 400}
MEASURED = {BARE: [1.0, 2.0, 9.0], TYPER: [4.0, 2.0, 3.0], HELP: [5.0, 4.0, 4.5], "config": [1.6]}


def test_ratios_are_of_medians() -> None:
    seconds = summarised(MEASURED, MODULES)
    assert seconds[HELP] == {
        "median": 4.5,
        "least": 4.0,
        "most": 5.0,
        "typers": 1.5,
        "modules": 120,
    }
    assert seconds[BARE]["typers"] == pytest.approx(2 / 3)


def test_help_is_compared_with_typer_and_others_with_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seconds = summarised(MEASURED, MODULES)
    limits = checked_maxima(seconds)
    assert limits == {
        "--help, of importing typer": {"measured": 1.5, "at_most": 1.5, "met": True},
        "config, seconds": {"measured": 1.6, "at_most": 1.5, "met": False},
    }
    show_command_seconds({"rounds": 3, "cpu_seconds": seconds, "limits": limits})
    printed = capsys.readouterr().out
    assert "CPU seconds of fresh processes, 3 rounds" in printed
    assert "MISSED" in printed


@pytest.mark.ranks
def test_modules_are_counted_without_those_of_every_python() -> None:
    command = MeasuredCommand(("-S", "-c", "import sys, this"))
    assert count_modules(command, imported_modules(("-S", "-c", "pass"))) == 1


@pytest.mark.ranks
def test_ctrl_c_leaves_the_rounds_that_were_finished() -> None:
    starts: list[int] = []

    def stop_at_the_third() -> None:
        starts.append(1)
        if len(starts) == 3:
            raise KeyboardInterrupt

    commands = {
        BARE: MeasuredCommand(("-S", "-c", "pass")),
        "stopped": MeasuredCommand(("-S", "-c", "pass"), stop_at_the_third),
    }
    measured: dict[str, list[float]] = {}
    with pytest.raises(KeyboardInterrupt):
        measure_in_turns(5, commands, measured)
    # The first round is not counted, the third one was not finished.
    assert [len(seconds) for seconds in measured.values()] == [1, 1]
    assert all(0 < seconds[0] < 5 for seconds in measured.values())


def test_the_commands_name_the_run_and_a_document_of_its_first_step(tmp_path: Path) -> None:
    small = write_small_run_files(tmp_path)
    run_file = small.run_file
    run_stages(run_file, ["prepare", "train-tokenizer", "tokenize"], [])
    begin_run(run_file, [], completed=4)
    commands = commands_of_run(small)
    *_, document = commands["trace RUN --document"].arguments
    assert document.startswith("sums/train_")
    *_, explained, _, same = commands["explain RUN --document"].arguments
    assert (explained, same) == (str(small.curated_file), document)
    assert commands["status RUN"].arguments == ("-m", "pipeline", "status", str(run_file))

    # A report that is there would not be drawn again.
    manifest = tmp_path / "run" / "report.manifest.json"
    manifest.touch()
    commands[REPORT].prepare()
    assert not manifest.exists()
