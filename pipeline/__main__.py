"""The `pipeline` command: a command for each stage in `store/stages.py`, and those around them.

Commands of two words, such as `pipeline tasks list`, are listed in `cli/command_line/later_groups.py`.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
import typer.main

from pipeline.cli.before_a_run import BEFORE_A_RUN
from pipeline.cli.command_groups import (
    Overrides,
    RunFile,
    output_file,
    output_folder,
)
from pipeline.cli.command_line.later_groups import AROUND_THEM, CommandsAndGroups
from pipeline.cli.command_line.looking_command import LookingCommand
from pipeline.cli.command_line.plain_help import CommandLine
from pipeline.cli.stages.stage_commands import command_class, stage_command
from pipeline.errors import Interrupted, UserError, out_of_reach, out_of_space
from pipeline.harmless_text import make_library_messages_visible, print_plain
from pipeline.store.stages import STAGES

app = CommandLine(
    CommandsAndGroups,
    help="From raw text to few-shot scores, stage by stage: every stage reads and writes folders only.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


for _stage in STAGES:
    _flow = f"{_stage.reads} -> {_stage.writes}"
    _add = app.command(
        _stage.name,
        cls=command_class(_stage),
        help=f"{_stage.help}\n\n{_flow}",
        short_help=f"{_stage.help}\n{_flow}",
        rich_help_panel="Stages, in order",
    )
    _add(stage_command(_stage))


@app.command(rich_help_panel=AROUND_THEM)
def run(run_file: RunFile, overrides: Overrides = None) -> None:
    """Run all stages in order, skip what is done, print the summary."""
    from pipeline.cli import commands

    commands.run_all(STAGES, run_file, overrides or [])


@app.command(cls=LookingCommand, rich_help_panel=AROUND_THEM)
def status(run_file: RunFile, overrides: Overrides = None) -> None:
    """Show each stage: done, running, stale (and why) or missing, with counts, sizes and times."""
    from pipeline.cli import status_view

    status_view.show_status(STAGES, run_file, overrides or [])


for _command in BEFORE_A_RUN:
    app.command(cls=LookingCommand, rich_help_panel=AROUND_THEM)(_command)


@app.command(cls=LookingCommand, rich_help_panel=AROUND_THEM)
def inspect(
    run_file: RunFile,
    overrides: Overrides = None,
    *,
    # Which documents; without these, all sources are described.
    source: Annotated[str | None, typer.Option(help="Only this source.", metavar="NAME")] = None,
    document: Annotated[
        int | None, typer.Option(help="Show the N-th document, from 0.", metavar="N")
    ] = None,
    split: Annotated[str, typer.Option(help="train or validation.")] = "train",
    id: Annotated[
        str | None,
        typer.Option(help="Show the document of this id, original id or url.", metavar="ID"),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Show N documents of each source.", metavar="N")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed for picking samples.")] = 1,
    # How a document is printed.
    characters: Annotated[
        int | None,
        typer.Option(
            min=1, help="Cut documents after this number of characters (2,000; at --quantile 200)."
        ),
    ] = None,
    ids: Annotated[bool, typer.Option("--ids", help="Also print the token ids.")] = False,
    # Other questions than about documents.
    tokenizer: Annotated[
        bool, typer.Option("--tokenizer", help="Measure the tokenizer and compare it with others.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every byte with what was written.")
    ] = False,
    # The signals that `annotate` has computed.
    signals: Annotated[
        bool, typer.Option("--signals", help="Show the quantiles of each signal, by source.")
    ] = False,
    signal: Annotated[
        str | None, typer.Option(help="With --signals: only this one.", metavar="NAME")
    ] = None,
    quantile: Annotated[
        float | None,
        typer.Option(help="With --signal: show the documents there.", min=0, max=1, metavar="Q"),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            help="With --signals: write histograms, HTML.", callback=output_file, metavar="FILE"
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at the data: sources with counts and lengths, documents with token boundaries."""
    from pipeline.cli.inspect_view import show_inspection
    from pipeline.config.run_file import load
    from pipeline.tokens.inspected_data import Question

    # Signals are a question of their own, about annotations instead of documents.
    if signals or signal is not None or quantile is not None or page is not None:
        from pipeline.cli.curation.signals_view import show_signals

        show_signals(
            load(run_file, overrides or [], needs=()),
            source=source,
            signal=signal,
            quantile=quantile,
            characters=characters,
            page=page,
            as_json=json,
        )
        return

    # All others are about documents and their tokens.
    question = Question(source, document, split, id, samples, seed, characters or 2000)
    show_inspection(
        load(run_file, overrides or [], needs=()),
        question,
        tokenizer=tokenizer,
        verify=verify,
        with_ids=ids,
        as_json=json,
    )


@app.command(cls=LookingCommand, rich_help_panel=AROUND_THEM)
def explain(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or its run file.")],
    overrides: Overrides = None,
    *,
    document: Annotated[
        str, typer.Option(help="Explain the document of this id, original id or url.", metavar="ID")
    ],
    characters: Annotated[
        int, typer.Option(min=1, help="Cut texts after this number of characters.")
    ] = 600,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show why a document is read or not: verdict, values against the rules, the copy that stays."""
    from pipeline.cli.curation.explain_view import show_explanation

    show_explanation(run, overrides or [], document, characters, json)


@app.command(cls=LookingCommand, rich_help_panel=AROUND_THEM)
def trace(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or its run file.")],
    overrides: Overrides = None,
    *,
    # The question, which is one of these three.
    step: Annotated[
        int | None, typer.Option(help="List the documents of this step.", metavar="N")
    ] = None,
    document: Annotated[
        str | None, typer.Option(help="List the steps that read this document.", metavar="ID|URL")
    ] = None,
    item: Annotated[
        str | None,
        typer.Option(
            help="List the documents that hold a task's question, and the steps that read them.",
            metavar="TASK/ID",
        ),
    ] = None,
    # The part of the answer that is printed.
    rank: Annotated[
        int | None, typer.Option(help="Only this rank's rows of the step.", metavar="R")
    ] = None,
    row: Annotated[
        int | None, typer.Option(help="Only this row of the step's batch.", metavar="B")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=0, help="Largest number of rows to print; 0 for all.")
    ] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the documents of a step, or the steps that read a document or a task's question."""
    from pipeline.cli.trace_view import show_trace

    show_trace(
        run,
        overrides or [],
        step=step,
        document=document,
        item=item,
        rank=rank,
        row=row,
        limit=limit,
        as_json=json,
    )


@app.command(rich_help_panel=AROUND_THEM)
def generate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="RUN[@STEP]|FOLDER",
            help="A run's folder or run file, with a step; or a transformers folder.",
        ),
    ],
    overrides: Overrides = None,
    *,
    prompt: Annotated[
        str | None,
        typer.Option(help="Text to continue; default: standard input, or lines that you type."),
    ] = None,
    # How tokens are drawn.
    temperature: Annotated[
        float, typer.Option(help="Divisor of the logits; 0 takes the most likely token.")
    ] = 0.8,
    top_p: Annotated[
        float, typer.Option(help="Draw among the likeliest tokens with this probability together.")
    ] = 1.0,
    top_k: Annotated[
        int, typer.Option(help="Draw among this number of likeliest tokens; 0 for all.")
    ] = 50,
    max_tokens: Annotated[int, typer.Option(help="Largest number of tokens to write.")] = 100,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 0,
    ids: Annotated[bool, typer.Option("--ids", help="Also print the token ids.")] = False,
) -> None:
    """Continue a text with the model of a run, of any of its checkpoints, or of a folder."""
    from pipeline.cli.generate_view import show_generation
    from pipeline.evaluation.generation import Sampling

    sampling = Sampling(temperature, top_k, top_p, max_tokens, seed)
    show_generation(model, overrides or [], prompt, sampling, ids)


@app.command(cls=LookingCommand, rich_help_panel=AROUND_THEM)
def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="A B [C]...",
            help="RUN (its last scored checkpoint), RUN@STEP, or a transformers folder scored there.",
        ),
    ],
    *,
    metric: Annotated[
        str | None, typer.Option(help="Compare all tasks by this metric; default: each its own.")
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="Compare this suite's tasks, each by the metric that its source publishes."
        ),
    ] = None,
    checkpoints: Annotated[
        int,
        typer.Option(min=0, help="Scored checkpoints of each run from which noise is estimated."),
    ] = 8,
    page: Annotated[
        Path | None,
        typer.Option(
            help="Also write an HTML page with the figures.", metavar="FILE", callback=output_file
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare scores question by question: which model is better, and whether that can be said."""
    from pipeline.cli.compare_view import show_comparison

    show_comparison(
        models,
        metric=metric,
        suite=suite,
        last_checkpoints=checkpoints,
        as_json=json,
        page=page,
    )


@app.command(cls=LookingCommand, rich_help_panel=AROUND_THEM)
def config(
    run_file: Annotated[
        Path | None, typer.Argument(metavar="RUN.YAML", help="The run file.")
    ] = None,
    overrides: Overrides = None,
    *,
    describe: Annotated[
        bool,
        typer.Option(
            "--describe", help="Explain all settings, or those named in place of a run file."
        ),
    ] = False,
    example: Annotated[
        bool, typer.Option("--example", help="Print a run file with comments, to start from.")
    ] = False,
) -> None:
    """Print the resolved settings as YAML, or explain the settings of a run file."""
    from pipeline.cli.config_view import print_settings

    print_settings(run_file, overrides or [], describe=describe, example=example)


@app.command(cls=LookingCommand, rich_help_panel=AROUND_THEM)
def presets(
    vocab_size: Annotated[
        int, typer.Option(help="Rows of the embedding, for the sizes.", metavar="N")
    ] = 32_000,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the shipped models: parameters, sequence length, batch, learning rate."""
    from pipeline.cli.preset_table import show_presets

    show_presets(vocab_size, json)


@app.command("verify-resume", rich_help_panel=AROUND_THEM)
def verify_resume(
    run_file: RunFile,
    overrides: Overrides = None,
    steps: Annotated[int, typer.Option(help="Steps to train; killed after half of them.")] = 20,
    other_ranks: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Also resume on this number of ranks; default: half as many. Only with launch.kind local.",
        ),
    ] = None,
    folder: Annotated[
        Path, typer.Option(help="Folder of the runs, which are kept.", callback=output_folder)
    ] = Path("verify-resume"),
) -> None:
    """Kill a short training, resume it, and compare it with one that was not disturbed."""
    from pipeline.cli.verify_resume import compare_resumed_runs
    from pipeline.config.run_file import load

    compare_resumed_runs(load(run_file, overrides or []), steps, other_ranks, folder)


def main() -> None:
    """Run the command line; user errors become a message and their exit code."""
    # OpenMP reads this when torch is imported. Waiting threads then sleep: on a busy machine,
    # spinning threads take the core that a working thread needs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Pydantic would look through all installed packages for plugins.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    make_library_messages_visible()
    try:
        # Not `app()`, which would put a hook for tracebacks in place of ours.
        typer.main.get_command(app)()
    except Interrupted as error:
        print_plain(f"stopped: {error}")
        sys.exit(error.exit_code)
    except UserError as error:
        print_plain(f"error: {error}")
        sys.exit(error.exit_code)
    except OSError as error:
        # A full disk or a file without access is the user's to correct; anything else is a bug.
        mistake = out_of_space(error, "a file") or out_of_reach(error)
        if mistake is None:
            raise
        print_plain(f"error: {mistake}")
        sys.exit(mistake.exit_code)
    except SystemExit as end:
        # Typer exits with 130 after Ctrl-C.
        if end.code != 130:
            raise
        print_plain("\nstopped: run the same command again to go on")
        sys.exit(Interrupted.exit_code)


if __name__ == "__main__":
    main()
