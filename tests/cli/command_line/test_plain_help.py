"""Help as plain text: sections, narrow terminals, usage lines, exit codes."""

import re

import pytest
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.cli.command_line.plain_help import paragraphs, section, text_column, usage


def help_of(*words: str, columns: int = 80) -> str:
    """Return what `pipeline words` prints on a terminal of that width."""
    result = CliRunner().invoke(app, [*words], env={"COLUMNS": str(columns)}, prog_name="pipeline")
    assert result.stderr == ""
    return result.stdout


def test_commands_stand_in_two_sections_with_texts_in_one_column() -> None:
    text = help_of("--help")
    headings = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert headings == ["Stages, in order", "Around them", "Options"]
    for line in (
        "  prepare          Read raw text, check every row, split off held-out documents.",
        "                   sources -> data_dir/documents",
        "  status           Show each stage: done, running, stale (and why) or missing,",
        "  benchmark        Measure speed and memory on this machine.",
        "  -h, --help  Show this message and exit.",
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize("words", [("--help",), ("train", "-h"), ("study", "fit", "--help")])
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(words: tuple[str, ...], columns: int) -> None:
    lines = help_of(*words, columns=columns).splitlines()
    # A word is not broken.
    too_wide = [line for line in lines if len(line) > min(columns, 100) and " " in line.strip()]
    assert too_wide == []
    assert not [line for line in lines if "[dim]" in line or "\x1b" in line or "│" in line]


def test_a_command_shows_usage_arguments_and_options() -> None:
    assert help_of("train", "--help") == (
        "Usage: pipeline train [OPTIONS] RUN.YAML [SECTION.FIELD=VALUE]...\n"
        "\n"
        "Train the model with DeepSpeed; resume from the newest checkpoint.\n"
        "\n"
        "tokens or packed rows of them, tokenizer -> run_dir/checkpoints, metrics.jsonl,\n"
        "events.jsonl\n"
        "\n"
        "Arguments:\n"
        "  RUN.YAML                  The run file.  [required]\n"
        "  [SECTION.FIELD=VALUE]...  Settings to change.\n"
        "\n"
        "Options:\n"
        "  --if-described  Do nothing where the run file lacks the sections of this\n"
        "                  stage.\n"
        "  -h, --help      Show this message and exit.\n"
    )
    fit = help_of("study", "fit", "-h")
    assert "  --unit <nats|bits|bits-per-byte>\n" in fit
    assert "  --resamples N               Resamples of the points, for the intervals.\n" in fit
    assert "[default: 400; x>=40]" in fit


def test_without_a_word_it_prints_help_and_exits_with_2() -> None:
    for words in ((), ("study",)):
        result = CliRunner().invoke(app, [*words], env={"COLUMNS": "80"}, prog_name="pipeline")
        assert result.exit_code == 2
        assert result.stdout == help_of(*words, "--help")
        assert result.stderr == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("trian", "No such command 'trian'. Did you mean 'train', 'trace'?"),
        ("study fti", "No such command 'fti'. Did you mean 'fit'?"),
        ("train --foo", "No such option: --foo"),
        ("train", "Missing argument 'RUN.YAML'."),
        ("checkpoints prune RUN", "Missing option '--keep-last'."),
        (
            "study fit --unit pounds x.csv",
            "Invalid value for '--unit': Value error, 'pounds' is not one of 'nats', 'bits', "
            "'bits-per-byte'.",
        ),
    ],
)
def test_a_mistyped_word_is_named_with_what_was_meant(words: str, message: str) -> None:
    result = CliRunner().invoke(app, words.split(), env={"COLUMNS": "80"}, prog_name="pipeline")
    assert result.exit_code == 2
    assert result.stdout == ""
    first, *_, last = result.stderr.splitlines()
    assert first.startswith("Usage: pipeline ")
    assert " -h' for help." in result.stderr
    assert last == f"Error: {message}"


def test_the_parts_of_a_page() -> None:
    assert usage("pipeline fit", ["[OPTIONS]", "A B [C]..."], 32) == (
        "Usage: pipeline fit [OPTIONS]\n    A B [C]..."
    )
    assert paragraphs("one two\nthree\n\nfour", 9) == "one two\nthree\n\nfour"
    names = ["a", "a-name-of-more-than-26-letters"]
    assert text_column(names, 80) == 30
    assert text_column(names, 40) == 6
    assert section("Rows", [("a", "one\ntwo"), (names[1], "three")], 80, 30) == (
        "Rows:\n"
        "  a                           one\n"
        "                              two\n"
        "  a-name-of-more-than-26-letters\n"
        "                              three"
    )
