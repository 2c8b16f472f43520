"""Commands of two words: `pipeline checkpoints ...` and `pipeline benchmark ...`; imports happen
when one runs."""

from pathlib import Path
from typing import Annotated

import typer

RunFile = Annotated[Path, typer.Argument(metavar="RUN.YAML", help="The run file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[SECTION.FIELD=VALUE]...", help="Settings to change.")
]

checkpoints = typer.Typer(
    help="What a run has saved: list, verify, prune, convert.", no_args_is_help=True
)
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or its run file.")]
Step = Annotated[int | None, typer.Option(help="Only the checkpoint of this step.", metavar="N")]


@checkpoints.command("list")
def list_checkpoints(
    run: Run, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Show every checkpoint: tokens, ZeRO stage, ranks, size, time; and folders that are none."""
    from pipeline.cli import checkpoint_commands

    checkpoint_commands.list_checkpoints(_run_dir(run), json)


@checkpoints.command("verify")
def verify_checkpoints(run: Run, step: Step = None) -> None:
    """Compare every byte with what was written."""
    from pipeline.cli import checkpoint_commands

    checkpoint_commands.verify_checkpoints(_run_dir(run), step)


@checkpoints.command("prune")
def prune_checkpoints(
    run: Run,
    keep_last: Annotated[int, typer.Option(min=1, help="Newest that stay.")],
    keep_every_steps: Annotated[
        int | None, typer.Option(min=1, help="Multiples of it stay.", metavar="N")
    ] = None,
    keep_log_spaced: Annotated[
        bool, typer.Option("--keep-log-spaced", help="1, 2, 4, 8, ... stay.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted.")] = False,
) -> None:
    """Delete checkpoints; never before the newest has been verified."""
    from pipeline.cli import checkpoint_commands
    from pipeline.config.run_sections import Checkpoint

    kept = Checkpoint(
        keep_last=keep_last, keep_every_steps=keep_every_steps, keep_log_spaced=keep_log_spaced
    )
    checkpoint_commands.prune_checkpoints(_run_dir(run), kept, dry_run)


@checkpoints.command("convert")
def convert_checkpoint(
    run: Run,
    output: Annotated[Path, typer.Option(help="Folder that is to be made.")],
    step: Step = None,
) -> None:
    """Write fp32 weights and moments, whole and by name, as safetensors: free of pickles, ranks and
    ZeRO stages."""
    from pipeline.cli import checkpoint_commands

    checkpoint_commands.convert_checkpoint(_run_dir(run), step, output)


def _run_dir(run: Path) -> Path:
    from pipeline.config.run_file import load

    return run if run.is_dir() else load(run).paths.run_dir


benchmarks = typer.Typer(help="Measure speed and memory on this machine.", no_args_is_help=True)


@benchmarks.command("tokenize")
def benchmark_tokenize(
    run_file: RunFile,
    overrides: Overrides = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Measurements of each part; medians are shown.")
    ] = 3,
    repeat: Annotated[
        int, typer.Option(min=1, help="Times that the documents stand in the large corpus.")
    ] = 10,
    megatron: Annotated[
        Path | None, typer.Option(help="Checkout of Megatron-LM to compare with.")
    ] = None,
    output: Annotated[Path, typer.Option(help="JSON file of the results.")] = Path(
        "benchmark-tokenize.json"
    ),
) -> None:
    """Text to tokens: MB/s of each part, what limits it, memory, core-hours for RedPajama-1T."""
    from pipeline.benchmarks import tokenize
    from pipeline.config.run_file import load

    tokenize.benchmark_tokenize(load(run_file, overrides or []), rounds, repeat, megatron, output)


@benchmarks.command("loader")
def benchmark_loader(
    rounds: Annotated[
        int, typer.Option(min=1, help="Measurements of each part; medians are shown.")
    ] = 3,
    output: Annotated[Path, typer.Option(help="JSON file of the results.")] = Path(
        "benchmark-loader.json"
    ),
) -> None:
    """Tokens to batches: start-up at 2.4 TB, tokens/s from memory, waiting for slow files. Needs no
    run file."""
    from pipeline.benchmarks import loader

    loader.benchmark_loader(rounds, output)


@benchmarks.command("recipe")
def benchmark_recipe(
    run_file: RunFile,
    overrides: Overrides = None,
    rate: Annotated[
        list[float] | None, typer.Option(help="Baseline's peak learning rates.")
    ] = None,
    fraction: Annotated[
        list[float] | None, typer.Option(help="Of the baseline's tokens, for the recipe.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Of each, from train.seed on.")] = 3,
    jobs: Annotated[
        int, typer.Option(min=1, help="Trainings at a time; above 1 each has one rank.")
    ] = 1,
    baseline_sequences: Annotated[
        int | None, typer.Option(min=1, help="In the baseline's batch; else as in the run file.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where they are kept: run again to go on.")] = Path(
        "benchmark-recipe"
    ),
    output: Annotated[Path, typer.Option(help="JSON file of the results.")] = Path(
        "benchmark-recipe.json"
    ),
    figure: Annotated[Path, typer.Option(help="SVG file of the curves.")] = Path(
        "benchmark-recipe.svg"
    ),
) -> None:
    """The run file's recipe against a tuned AdamW with cosine: tokens to the same loss. Trains some
    16 times."""
    from pipeline.benchmarks import recipe
    from pipeline.config.run_file import load

    rates = rate or [5e-4, 1e-3, 2e-3, 4e-3, 8e-3]
    sizes = recipe.ComparisonSizes(
        rates, fraction or [0.4, 0.5, 0.6], seeds, jobs, baseline_sequences
    )
    recipe.benchmark_recipe(load(run_file, overrides or []), sizes, folder, output, figure)


@benchmarks.command("checkpoint")
def benchmark_checkpoint(
    rounds: Annotated[int, typer.Option(min=1, help="Saves of each kind; medians are shown.")] = 3,
    folder: Annotated[
        Path | None, typer.Option(help="Scratch folder on the disk in question.")
    ] = None,
    output: Annotated[Path, typer.Option(help="JSON file of the results.")] = Path(
        "benchmark-checkpoint.json"
    ),
) -> None:
    """What a save costs training, beside DeepSpeed's own save brought to the disk; 94 million
    parameters on CPUs."""
    from pipeline.benchmarks import checkpoint

    checkpoint.benchmark_checkpoint(rounds, folder, output)


@benchmarks.command("train")
def benchmark_train(
    run_file: Annotated[
        Path | None, typer.Argument(metavar="[RUN.YAML]", help="Its model, else built-in ones.")
    ] = None,
    overrides: Overrides = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Measurements of each part; medians are shown.")
    ] = 3,
    preset: Annotated[
        list[str] | None, typer.Option(help="On GPUs: shipped models; gpt3-125m, gpt3-1.3b.")
    ] = None,
    template: Annotated[
        list[str] | None, typer.Option(help="On GPUs: shipped templates; zero1, zero2, zero3.")
    ] = None,
    output: Annotated[Path, typer.Option(help="JSON file of the results.")] = Path(
        "benchmark-train.json"
    ),
) -> None:
    """Our loop beside plain PyTorch, two ranks beside one; on GPUs MFU. Makes its own tokens."""
    from pipeline.benchmarks import train
    from pipeline.cluster.gpus import gpu_count
    from pipeline.config.run_file import load

    config = load(run_file, overrides or []) if run_file else None
    train.benchmark_train(config, rounds, output, gpu_count(), preset or (), template or ())
