"""The command line as a user meets it: help, messages, exit codes."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from facts_by_hand import facts_of_no_model
from program_here import pipeline_here

from pipeline.__main__ import main
from pipeline.config.run_file import load
from pipeline.errors import out_of_reach
from pipeline.harmless_text import print_traceback
from pipeline.store.lease import Lease
from pipeline.store.stages import STAGES
from pipeline.work import separate_checks

ROOT = Path(__file__).parents[1]


def pipeline(*arguments: object, code: int | None = None) -> "subprocess.CompletedProcess[str]":
    """Run `pipeline ...` from the root; with `code`, check the exit code and that no traceback was
    shown."""
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    process = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env=environment, cwd=ROOT
    )
    if code is not None:
        assert process.returncode == code, process.stderr
        assert "Traceback" not in process.stderr
    return process


def here(*arguments: object, code: int) -> tuple[str, str]:
    """Run `pipeline ...` in this process, check the exit code, and return output and errors."""
    ended = pipeline_here(*arguments)
    assert ended.returncode == code, ended.stderr
    return ended.stdout, ended.stderr


@pytest.mark.ranks
def test_help_lists_the_stages_in_order() -> None:
    text = pipeline("--help", code=0).stdout
    places = [re.search(rf"^\W*{stage.name}\s", text, re.MULTILINE) for stage in STAGES]
    assert all(places)
    assert [place.start() for place in places if place] == sorted(
        place.start() for place in places if place
    )
    for name in ("run", "status", "submit", "inspect", "config"):
        assert re.search(rf"^\W*{name}\s", text, re.MULTILINE)


@pytest.mark.ranks
@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["bogus"], ["train"]])
def test_help_and_usage_errors_import_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        f"sys.argv = ['pipeline', *{arguments!r}]\n"
        "from pipeline.__main__ import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    heavy = {'torch', 'deepspeed', 'transformers', 'numpy', 'pyarrow', 'yaml', "
        "'pydantic', 'rich'} & set(sys.modules)\n"
        "    sys.stderr.write(f'heavy: {sorted(heavy)}')\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT
    )
    # Typer itself takes pydantic where a command's arguments are read.
    allowed = {"'pydantic'"} if arguments == ["train"] else set()
    assert (
        set(filter(None, re.search(r"heavy: \[(.*)\]$", process.stderr)[1].split(", "))) <= allowed
    )
    assert process.returncode == (0 if "--help" in arguments else 2)


@pytest.mark.ranks
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["config", "--describe"],
        ["config", "--example"],
        ["config", "RUN"],
        ["train", "nowhere.yaml"],
    ],
)
def test_answers_about_arguments_come_at_once(run_file: Path, arguments: list[str]) -> None:
    """They import few modules, which is what such a command's time is spent on."""
    words = [str(run_file) if word == "RUN" else word for word in arguments]
    script = (
        "import sys\n"
        f"sys.argv = ['pipeline', *{words!r}]\n"
        "from pipeline.__main__ import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    heavy = {'torch', 'deepspeed', 'transformers', 'numpy', 'pyarrow'} & set(sys.modules)\n"
        "    sys.stderr.write(f'\\n{len(sys.modules)} {sorted(heavy)}')\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT
    )
    modules, heavy = process.stderr.splitlines()[-1].split(" ", 1)
    assert heavy == "[]"
    assert int(modules) <= 500


def test_a_run_file_that_does_not_exist() -> None:
    error = here("train", "nonsense.yaml", code=2)[1]
    assert (
        error
        == "error: 1 problem in nonsense.yaml:\n  - cannot read the file: No such file or directory\n"
    )


@pytest.mark.ranks
def test_argument_errors_do_not_import_torch(run_file: Path) -> None:
    script = (
        "import sys\n"
        f"sys.argv = ['pipeline', 'train', {str(run_file)!r}, 'train.sed=1']\n"
        "from pipeline.__main__ import main\n"
        "try:\n    main()\n"
        "finally:\n    sys.stderr.write(str({'torch', 'deepspeed', 'transformers'} & "
        "set(sys.modules)))\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT
    )
    assert process.returncode == 2
    assert process.stderr.endswith("train.sed: unknown key; did you mean seed?\nset()")


def test_a_file_that_is_not_yaml_or_not_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("paths: [")
    assert "not valid YAML" in here("run", path, code=2)[1]
    path.write_text("nonsense")
    assert (
        "must be a YAML mapping of sections (paths, sources, model, ...)"
        in here("run", path, code=2)[1]
    )
    path.write_bytes(b"\x00\xff\xfe")
    assert "not valid YAML" in here("status", path, code=2)[1]


def test_a_stage_before_its_input_names_the_remedy_and_writes_nothing(
    run_file: Path,
) -> None:
    error = here("train-tokenizer", run_file, code=2)[1]
    assert error == (
        "error: train-tokenizer reads the output of prepare, which is missing\n"
        "Run `pipeline prepare` with the same run file first, or `pipeline run` for all in order.\n"
    )
    assert list((run_file.parent / "data").rglob("*")) == []


def test_a_second_job_on_the_same_folder(run_file: Path) -> None:
    with Lease(run_file.parent / "run", "pipeline train"):
        error = here("export", run_file, code=2)[1]
    assert error.startswith(
        f"error: {run_file.parent}/run is in use by `pipeline train`: process {os.getpid()} on "
    )


def test_config_prints_what_can_be_loaded_again(run_file: Path, tmp_path: Path) -> None:
    printed = here("config", run_file, "train.seed=7", code=0)[0]
    assert "seed: 7" in printed
    copy = tmp_path / "copy.yaml"
    copy.write_text(printed)
    assert here("config", copy, code=0)[0] == printed


def test_config_explains_settings_by_name() -> None:
    assert here("config", "--describe", "optimizer.beta2", code=0)[0].startswith(
        "optimizer.beta2\n    number, at least 0, below 1; default 0.95\n"
    )
    error = here("config", "--describe", "optimiser", code=2)[1]
    assert error == (
        "error: 1 problem in --describe:\n  - optimiser: no such setting; did you mean optimizer?\n"
    )
    assert "RUN.YAML" in here("config", code=2)[1]


@pytest.mark.ranks
def test_ctrl_c_says_how_to_go_on() -> None:
    script = (
        "import sys, pipeline.cli.config_view\n"
        "def interrupted(*arguments):\n    raise KeyboardInterrupt\n"
        "pipeline.cli.config_view.show_config = interrupted\n"
        "sys.argv = ['pipeline', 'config', 'x.yaml']\n"
        "from pipeline.__main__ import main\n"
        "main()\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT
    )
    assert (process.returncode, process.stderr) == (
        75,
        "\nstopped: run the same command again to go on\n",
    )


def test_files_out_of_reach_are_told_without_a_traceback() -> None:
    told = out_of_reach(
        PermissionError(errno.EACCES, "Permission denied", "/disk/run/events.jsonl")
    )
    assert str(told).startswith("/disk/run/events.jsonl: Permission denied. Correct that")
    assert out_of_reach(OSError(errno.EACCES, "Permission denied")) is None, (
        "of which file is not known"
    )
    assert out_of_reach(FileNotFoundError(errno.ENOENT, "No such file", "/x")) is None


def run_here(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run `pipeline ...` in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["pipeline", *map(str, arguments)])
    monkeypatch.setattr(
        "pipeline.__main__.make_library_messages_visible", lambda: None
    )  # it is for the whole process
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def moved_to(name: str, run_file: Path) -> Path:
    """Move a run file with all that it names into a folder of that name."""
    folder = run_file.parent / name
    folder.mkdir(parents=True)
    for path in [path for path in run_file.parent.iterdir() if path.is_file()]:
        shutil.move(path, folder)
    return folder / run_file.name


def test_names_of_folders_are_neither_markup_nor_commands_to_the_terminal(
    run_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = moved_to("d[/red]x\x1b[31m", run_file)
    assert run_here(monkeypatch, "status", path) == 0
    printed = capsys.readouterr().out
    assert "d[/red]x<1B>[31m/data\n" in printed
    assert "\x1b" not in printed
    path.unlink()
    assert run_here(monkeypatch, "status", path) == 2
    assert "\x1b" not in capsys.readouterr().err
    path.write_text('paths: "\\u202e"\n"\\e[2J": 1\n')
    assert run_here(monkeypatch, "config", path) == 2
    printed = capsys.readouterr().err
    assert not {"\x1b", "\u202e"} & set(printed)
    assert "<1B>[2J" in printed


def test_settings_are_printed_as_yaml_that_does_not_act(
    run_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    prompt = "right \u202e to left \x1b[2J"
    run_file.write_text(
        run_file.read_text() + 'evaluation: {prompt: "right \\u202e to left \\e[2J"}\n'
    )
    assert run_here(monkeypatch, "config", run_file) == 0
    printed = capsys.readouterr().out
    assert printed.isascii()
    (tmp_path / "again.yaml").write_text(printed)
    assert load(tmp_path / "again.yaml").evaluation.prompt == prompt


def test_a_name_in_a_data_file_does_not_act_on_the_terminal(
    run_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = facts_of_no_model()
    monkeypatch.setattr(
        separate_checks, "_ask", lambda *_: [{"problems": [], "facts": facts}]
    )  # the model is right
    file = run_file.parent / "a\x1b[31m\x9bb.parquet"
    pq.write_table(pa.table({"\x1b]0;title\x07": ["text"]}), file)
    settings = [
        f"sources.web={{kind: parquet, paths: [{run_file.parent}/*.parquet]}}",
        "executor.workers=1",
    ]
    assert run_here(monkeypatch, "prepare", run_file, *settings) == 2
    printed = capsys.readouterr().err
    assert not {"\x1b", "\x9b", "\x07"} & set(printed)
    assert "<1B>]0;title<07>" in printed
    assert "a<1B>[31m<U+009B>b.parquet" in printed


def test_a_bug_keeps_the_traceback_that_cannot_act_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(sys, "argv", ["pipeline", "--help"])
    monkeypatch.setattr(
        "pipeline.__main__.make_library_messages_visible",
        lambda: setattr(sys, "excepthook", print_traceback),
    )
    with pytest.raises(SystemExit):
        main()
    assert sys.excepthook is print_traceback
