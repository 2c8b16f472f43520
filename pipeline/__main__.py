"""The `pipeline` command: the stages as one ordered table, and the commands around them."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.artifacts import Stage
from pipeline.errors import Interrupted, UserError

STAGES = (
    Stage(
        name="prepare",
        help="Read raw text, check every row, split off held-out documents.",
        reads="sources",
        writes="data_dir/documents",
        function="pipeline.corpus.prepare:prepare",
        folder=lambda config: config.paths.data_dir / "documents",
        settings=("sources", "prepare.validation_fraction", "prepare.on_broken_file", "prepare.shard_text_bytes"),
        outside="pipeline.corpus.sources:inventory",
        version=2,
        shared=True,
    ),
    Stage(
        name="train-tokenizer",
        help="Learn the vocabulary; export an exact fast tokenizer.",
        reads="documents",
        writes="data_dir/tokenizer",
        function="pipeline.tokens.train_tokenizer:train_tokenizer",
        folder=lambda config: config.paths.data_dir / "tokenizer",
        settings=("tokenizer",),
        inputs=("prepare",),
        outside="pipeline.tokens.train_tokenizer:pretrained_inventory",
        shared=True,
    ),
    Stage(
        name="tokenize",
        help="Turn documents into token ids in Megatron's indexed format.",
        reads="documents, tokenizer",
        writes="data_dir/tokens",
        function="pipeline.tokens.tokenize:tokenize",
        folder=lambda config: config.paths.data_dir / "tokens",
        settings=("tokens",),
        inputs=("prepare", "train-tokenizer"),
        shared=True,
    ),
    Stage(
        name="train",
        help="Train the model with DeepSpeed; goes on from the newest checkpoint.",
        reads="tokens, tokenizer",
        writes="run_dir/checkpoints, metrics.jsonl, events.jsonl",
        function="pipeline.cluster.supervisor:train",
        folder=lambda config: config.paths.run_dir / "checkpoints",
        settings=(
            "model",
            "data",
            "optimizer",
            "schedule",
            "batch.global_batch_tokens",
            "precision",
            "train.train_tokens",
            "train.seed",
        ),
        inputs=("train-tokenizer", "tokenize"),
        check="pipeline.training.preflight:check",
        grows=True,
    ),
    Stage(
        name="export",
        help="Write the trained model as a transformers folder and check its logits.",
        reads="checkpoints, tokenizer",
        writes="run_dir/export",
        function="pipeline.evaluation.export:export",
        folder=lambda config: config.paths.run_dir / "export",
        settings=("evaluation.prompt",),
        inputs=("train-tokenizer", "train"),
    ),
    Stage(
        name="evaluate",
        help="Score the exported model: few-shot tasks, bits per byte per source.",
        reads="export, documents",
        writes="run_dir/evaluation",
        function="pipeline.evaluation.evaluate:evaluate",
        folder=lambda config: config.paths.run_dir / "evaluation",
        settings=("evaluation.tasks", "evaluation.shots", "evaluation.items", "evaluation.heldout_bytes"),
        inputs=("prepare", "export"),
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
        manifest="report.manifest.json",
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

RunFile = Annotated[Path, typer.Argument(metavar="RUN.YAML", help="The run file.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[SECTION.FIELD=VALUE]...", help="Settings to change.")]


def _add_stage_command(stage: Stage) -> None:
    def command(run_file: RunFile, overrides: Overrides = None) -> None:
        from pipeline import commands

        commands.run_one(STAGES, stage, run_file, overrides or [])

    text = f"{stage.help} [dim]{stage.reads} -> {stage.writes}[/dim]"
    app.command(stage.name, help=text, rich_help_panel="Stages, in order")(command)


for _stage in STAGES:
    _add_stage_command(_stage)


@app.command(rich_help_panel="Around them")
def run(run_file: RunFile, overrides: Overrides = None) -> None:
    """Run all stages in order, skip what is done, print the summary."""
    from pipeline import commands

    commands.run_all(STAGES, run_file, overrides or [])


@app.command(rich_help_panel="Around them")
def status(run_file: RunFile, overrides: Overrides = None) -> None:
    """Show each stage: done, stale (and why) or missing, with counts, sizes and times."""
    from pipeline import commands

    commands.show_status(STAGES, run_file, overrides or [])


@app.command(rich_help_panel="Around them")
def config(run_file: RunFile, overrides: Overrides = None) -> None:
    """Print the resolved settings as YAML."""
    from pipeline import commands

    commands.show_config(run_file, overrides or [])


def main() -> None:
    """Run the command line; user errors become a message and their exit code."""
    # Read when torch is imported, by whichever stage needs it first. Waiting threads sleep: on a busy machine, spinning
    # ones take the core that the working one needs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"{'stopped' if isinstance(error, Interrupted) else 'error'}: {error}\n")
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code != 130:  # what Typer makes of Ctrl-C
            raise
        sys.stderr.write("\nstopped: run the same command again to go on\n")
        sys.exit(Interrupted.exit_code)


if __name__ == "__main__":
    main()
