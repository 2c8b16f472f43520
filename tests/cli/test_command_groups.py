"""Options and run files of grouped commands are checked before the command works."""

from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError

COMMANDS = {
    "compare A B --page": "file",
    "report A B --compare --output": "file",
    "plan --published --page": "file",
    "checkpoints convert RUN --output": "folder",
    "checkpoints merge RUN --last 2 --output": "folder",
    "tasks fetch copa --to": "folder",
    "verify-resume run.yaml --folder": "folder",
    "benchmark tokenize run.yaml --output": "file",
    "benchmark search run.yaml --output": "file",
    "benchmark loader --output": "file",
    "benchmark evaluate --output": "file",
    "benchmark recipe run.yaml --output": "file",
    "benchmark recipe run.yaml --figure": "file",
    "benchmark recipe run.yaml --folder": "folder",
    "benchmark checkpoint --output": "file",
    "benchmark checkpoint --folder": "folder",
    "benchmark train --output": "file",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_cannot_be_written_is_refused_first(tmp_path: Path, command: str) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    words = command.split()
    below = CliRunner().invoke(app, [*words, str(taken / "x")]).exception
    assert isinstance(below, UserError)
    assert str(below) == (
        f"{words[-1]} {taken / 'x'}: cannot be written, because {taken} is not a folder; give "
        "another path"
    )
    other_kind = tmp_path if COMMANDS[command] == "file" else taken
    refused = CliRunner().invoke(app, [*words, str(other_kind)]).exception
    assert isinstance(refused, UserError)
    assert f"{words[-1]} {other_kind}: is a " in str(refused)
    assert taken.read_text() == "mine"


@pytest.mark.parametrize("command", ["plan run.yaml --hours-per-job", "submit run.yaml --hours"])
@pytest.mark.parametrize("hours", ["inf", "nan", "0", "-1", "8761", "1e300"])
def test_hours_are_finite_and_at_most_a_year(command: str, hours: str) -> None:
    words = command.split()
    refused = CliRunner().invoke(app, [*words, hours]).exception
    assert isinstance(refused, UserError)
    assert str(refused) == (
        f"{words[-1]} = {float(hours):g}: must be above 0 and at most 8,760 hours, a year; give "
        "another number of hours"
    )


@pytest.mark.parametrize("name", ["tokenize", "search"])
def test_what_is_measured_on_documents_needs_no_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_file = tmp_path / "corpus.yaml"
    run_file.write_text(
        "paths: {data_dir: data, run_dir: run}\n"
        "sources: {notes: {kind: text, paths: [notes]}}\n"
        "tokenizer: {kind: byte-level-bpe, vocab_size: 384}\n"
    )
    measured: list[RunConfig] = []
    module = import_module(f"pipeline.benchmarks.{name}")
    monkeypatch.setattr(module, f"benchmark_{name}", lambda config, *_: measured.append(config))
    ended = CliRunner().invoke(app, ["benchmark", name, str(run_file)])
    assert ended.exception is None
    assert [config.paths.data_dir for config in measured] == [tmp_path / "data"]
