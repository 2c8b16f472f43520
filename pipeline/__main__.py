"""The `pipeline` command: the stages as one ordered table, and the commands around them."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.command_groups import Overrides, RunFile, benchmarks, checkpoints
from pipeline.errors import Interrupted, UserError, out_of_reach, out_of_space
from pipeline.logs import make_library_messages_visible, print_plain
from pipeline.store import versions
from pipeline.store.artifacts import Check, Stage
from pipeline.store.layout import PACK_MANIFEST, REPORT_MANIFEST, data_folder, run_folder

STAGES = (
    Stage(
        name="prepare",
        help="Read raw text, check every row, split off held-out documents.",
        reads="sources",
        writes="data_dir/documents",
        function="pipeline.corpus.prepare:prepare",
        folder=lambda config: data_folder(config).documents,
        settings=(
            "sources",
            "prepare.validation_fraction",
            "prepare.on_broken_file",
            "prepare.shard_text_bytes",
        ),
        outside="pipeline.corpus.source_kind:describe_sources",
        version=versions.PREPARE,
        is_asked=lambda config: any(source.has_documents for source in config.sources.values()),
        is_made_unasked=True,
        shared=True,
        on_workers=True,
    ),
    Stage(
        name="train-tokenizer",
        help="Learn the vocabulary; export an exact fast tokenizer.",
        reads="documents",
        writes="data_dir/tokenizer",
        function="pipeline.tokens.train_tokenizer:train_tokenizer",
        folder=lambda config: data_folder(config).tokenizer,
        settings=("tokenizer",),
        inputs=("prepare",),
        outside="pipeline.tokens.kinds.tokenizer_kind:tokenizer_inventory",
        checks=(
            Check("pipeline.tokens.kinds.tokenizer_kind:check_tokenizer_files", is_ahead=True),
        ),
        version=versions.TRAIN_TOKENIZER,
        shared=True,
        # Added text must not change the ids of text that is already tokenized.
        keeps_output=True,
        # A tokenizer that is learned again may be a different one.
        rebuilds=False,
    ),
    Stage(
        name="tokenize",
        help="Turn documents into token ids in Megatron's indexed format.",
        reads="documents or existing ids, tokenizer",
        writes="data_dir/tokens",
        function="pipeline.tokens.tokenize:tokenize",
        folder=lambda config: data_folder(config).tokens,
        settings=("tokens",),
        inputs=("prepare", "train-tokenizer"),
        outside="pipeline.tokens.existing_pairs:pair_inventory",
        checks=(Check("pipeline.tokens.existing_pairs:find_pairs"),),
        version=versions.TOKENIZE,
        shared=True,
        on_workers=True,
    ),
    Stage(
        name="pack",
        help="With data.packing best-fit, pack whole documents into rows.",
        reads="tokens",
        writes="data_dir/packing",
        function="pipeline.sampling.pack:pack",
        folder=lambda config: data_folder(config).packing(config.data.sequence_length),
        settings=("data.sequence_length",),
        inputs=("tokenize",),
        made_before="pipeline.sampling.pack:complete_index",
        version=versions.PACK,
        # manifest.json describes the index itself.
        manifest=PACK_MANIFEST,
        is_asked=lambda config: config.data.packs_documents,
        shared=True,
        on_workers=True,
    ),
    Stage(
        name="train",
        help="Train the model with DeepSpeed; resume from the newest checkpoint.",
        reads="tokens or packed rows of them, tokenizer",
        writes="run_dir/checkpoints, metrics.jsonl, events.jsonl",
        function="pipeline.cluster.supervisor:run_training_job",
        folder=lambda config: run_folder(config).checkpoints,
        settings=(
            "model",
            "data",
            "optimizer",
            "schedule",
            "batch.global_batch_tokens",
            "batch.ramp",
            "precision",
            "train.train_tokens",
            "train.seed",
            "train.init_from",
            "train.init_take",
        ),
        inputs=("train-tokenizer", "tokenize"),
        needs=("pack",),
        outside="pipeline.training.origin:origin_content",
        checks=(
            Check("pipeline.training.preflight:check_settings", is_ahead=True),
            Check("pipeline.training.preflight:check_start"),
            Check("pipeline.cluster.launch_checks:check_launch"),
            Check("pipeline.training.preflight:check_model", is_ahead=True, is_heavy=True),
            Check("pipeline.training.preflight:check_disk", is_heavy=True),
            Check("pipeline.cluster.launch_checks:check_device", is_heavy=True),
        ),
        resume_check="pipeline.training.resume:check_resume",
        version=versions.TRAIN,
        grows=True,
        # A checkpoint that was moved away is not worth days of training.
        rebuilds=False,
    ),
    Stage(
        name="export",
        help="Write the trained model as a transformers folder and check its logits.",
        reads="checkpoints, tokenizer",
        writes="run_dir/export",
        function="pipeline.evaluation.export:export",
        folder=lambda config: run_folder(config).export,
        settings=("evaluation.prompt",),
        inputs=("train-tokenizer", "train"),
        version=versions.EXPORT,
        grows=True,
    ),
    Stage(
        name="evaluate",
        help="Score the exported model: few-shot tasks, bits per byte per source.",
        reads="export, documents",
        writes="run_dir/evaluation",
        function="pipeline.evaluation.evaluate:evaluate",
        folder=lambda config: run_folder(config).evaluation,
        settings=(
            "evaluation.tasks",
            "evaluation.shots",
            "evaluation.items",
            "evaluation.heldout_bytes",
        ),
        inputs=("prepare", "export"),
        outside="pipeline.evaluation.task_facts:describe_task_files",
        checks=(
            Check("pipeline.evaluation.evaluate:refuse_cloze_without_text"),
            Check("pipeline.evaluation.task_facts:check_named_tasks", is_ahead=True),
            Check("pipeline.evaluation.task_facts:check_built_tasks", is_ahead=True, is_heavy=True),
        ),
        version=versions.EVALUATE,
    ),
    Stage(
        name="report",
        help="Draw the run as one HTML page.",
        reads="all manifests, metrics.jsonl",
        writes="run_dir/report.html",
        function="pipeline.reporting.report:report",
        folder=lambda config: config.paths.run_dir,
        settings=(),
        inputs=("prepare", "tokenize", "train", "export", "evaluate"),
        outside="pipeline.tokens.tokenizer_report:compared_inventory",
        checks=(Check("pipeline.tokens.tokenizer_report:check_compared"),),
        version=versions.REPORT,
        manifest=REPORT_MANIFEST,
        reads_files=False,
    ),
)

app = typer.Typer(
    help="From raw text to few-shot scores, stage by stage: every stage reads and writes folders only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _add_stage_command(stage: Stage) -> None:
    def command(run_file: RunFile, overrides: Overrides = None) -> None:
        from pipeline.cli import commands

        commands.run_one(STAGES, stage, run_file, overrides or [])

    text = f"{stage.help} [dim]{stage.reads} -> {stage.writes}[/dim]"
    app.command(stage.name, help=text, rich_help_panel="Stages, in order")(command)


for _stage in STAGES:
    _add_stage_command(_stage)


@app.command(rich_help_panel="Around them")
def run(run_file: RunFile, overrides: Overrides = None) -> None:
    """Run all stages in order, skip what is done, print the summary."""
    from pipeline.cli import commands

    commands.run_all(STAGES, run_file, overrides or [])


@app.command(rich_help_panel="Around them")
def status(run_file: RunFile, overrides: Overrides = None) -> None:
    """Show each stage: done, running, stale (and why) or missing, with counts, sizes and times."""
    from pipeline.cli import status_view

    status_view.show_status(STAGES, run_file, overrides or [])


@app.command(rich_help_panel="Around them")
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
        int, typer.Option(min=1, help="Cut documents after this number of characters.")
    ] = 2000,
    ids: Annotated[bool, typer.Option("--ids", help="Also print the token ids.")] = False,
    # Other questions than about documents.
    tokenizer: Annotated[
        bool, typer.Option("--tokenizer", help="Measure the tokenizer and compare it with others.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every byte with what was written.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at the data: sources with counts and lengths, documents with token boundaries."""
    from pipeline.cli.inspect_view import show_inspection
    from pipeline.config.run_file import load
    from pipeline.tokens.inspected_data import Question

    question = Question(source, document, split, id, samples, seed, characters)
    show_inspection(
        load(run_file, overrides or []),
        question,
        tokenizer=tokenizer,
        verify=verify,
        with_ids=ids,
        as_json=json,
    )


@app.command(rich_help_panel="Around them")
def trace(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or its run file.")],
    overrides: Overrides = None,
    *,
    # The question, which is one of these two.
    step: Annotated[
        int | None, typer.Option(help="List the documents of this step.", metavar="N")
    ] = None,
    document: Annotated[
        str | None, typer.Option(help="List the steps that read this document.", metavar="ID|URL")
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
    """Show which documents made a step, or which steps saw a document; also while training."""
    from pipeline.cli.trace_view import show_trace

    show_trace(
        run,
        overrides or [],
        step=step,
        document=document,
        rank=rank,
        row=row,
        limit=limit,
        as_json=json,
    )


@app.command(rich_help_panel="Around them")
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


@app.command(rich_help_panel="Around them")
def presets(
    vocab_size: Annotated[
        int, typer.Option(help="Rows of the embedding, for the sizes.", metavar="N")
    ] = 32_000,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the shipped models: parameters, sequence length, batch, learning rate."""
    from pipeline.cli.preset_table import show_presets

    show_presets(vocab_size, json)


@app.command("verify-resume", rich_help_panel="Around them")
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
    folder: Annotated[Path, typer.Option(help="Folder of the runs, which are kept.")] = Path(
        "verify-resume"
    ),
) -> None:
    """Kill a short training, resume it, and compare it with one that was not disturbed."""
    from pipeline.cli.verify_resume import compare_resumed_runs
    from pipeline.config.run_file import load

    compare_resumed_runs(load(run_file, overrides or []), steps, other_ranks, folder)


app.add_typer(checkpoints, name="checkpoints", rich_help_panel="Around them")
app.add_typer(benchmarks, name="benchmark", rich_help_panel="Around them")


def main() -> None:
    """Run the command line; user errors become a message and their exit code."""
    # OpenMP reads this when torch is imported. Waiting threads then sleep: on a busy machine,
    # spinning threads take the core that a working thread needs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    make_library_messages_visible()
    try:
        app()
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
