"""The command lines of `pipeline benchmark ...`, and the arguments that many commands have.

Each command imports what it needs when it runs, so that `--help` stays fast.
"""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.command_line.plain_help import CommandLine
from pipeline.errors import UserError

MOST_HOURS = 8760
"""Largest number of hours that an option takes: a year."""

RunFile = Annotated[Path, typer.Argument(metavar="RUN.YAML", help="The run file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[SECTION.FIELD=VALUE]...", help="Settings to change.")
]


def output_file(param: typer.CallbackParam, path: Path | None) -> Path | None:
    """Return the file of an option. Raises UserError where it cannot be written, before any work."""
    from pipeline.store.files import refuse_unwritable

    if path is not None:
        refuse_unwritable(path, param.opts[0], is_folder=False)
    return path


def output_folder(param: typer.CallbackParam, path: Path | None) -> Path | None:
    """Return the folder of an option. Raises UserError where it cannot be written."""
    from pipeline.store.files import refuse_unwritable

    if path is not None:
        refuse_unwritable(path, param.opts[0], is_folder=True)
    return path


def limited_hours(param: typer.CallbackParam, hours: float | None) -> float | None:
    """Return the hours of an option. Raises UserError unless they are above 0 and at most a year."""
    # A comparison with NaN is false.
    if hours is None or 0 < hours <= MOST_HOURS:
        return hours
    raise UserError(
        f"{param.opts[0]} = {hours:g}: must be above 0 and at most {MOST_HOURS:,} hours, a year; "
        "give another number of hours"
    )


ResultsFile = Annotated[Path, typer.Option(help="JSON file of the results.", callback=output_file)]

benchmarks = CommandLine()
Rounds = Annotated[int, typer.Option(min=1, help="Measurements of each part; medians are printed.")]


@benchmarks.command("tokenize")
def benchmark_tokenize(
    run_file: RunFile,
    overrides: Overrides = None,
    rounds: Rounds = 3,
    repeat: Annotated[
        int, typer.Option(min=1, help="Copies of the documents in the large corpus.")
    ] = 10,
    megatron: Annotated[
        Path | None, typer.Option(help="Folder of Megatron-LM's code, to compare with.")
    ] = None,
    output: ResultsFile = Path("benchmark-tokenize.json"),
) -> None:
    """Measure tokenizing: MB/s and memory of each part, and core-hours for RedPajama-1T."""
    from pipeline.benchmarks import tokenize
    from pipeline.config.run_file import load

    config = load(run_file, overrides or [], needs=("tokenizer",), reader="`benchmark tokenize`")
    tokenize.benchmark_tokenize(config, rounds, repeat, megatron, output)


@benchmarks.command("search")
def benchmark_search(
    run_file: RunFile,
    overrides: Overrides = None,
    rounds: Rounds = 3,
    output: ResultsFile = Path("benchmark-search.json"),
) -> None:
    """Measure the search of documents for tasks' questions: MB/s and memory of each part."""
    from pipeline.benchmarks import search
    from pipeline.config.run_file import load

    search.benchmark_search(load(run_file, overrides or [], needs=()), rounds, output)


@benchmarks.command("curate")
def benchmark_curate(
    corpus: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CORPUS]",
            help="A run file with prepared documents, or a folder of JSON lines; default: the text of "
            "this Python installation.",
        ),
    ] = None,
    rounds: Rounds = 3,
    megabytes: Annotated[int, typer.Option(min=1, help="Text to measure on, in 10^6 bytes.")] = 8,
    repeat: Annotated[
        int,
        typer.Option(min=0, help="Samples in the large corpus of memory; 0 leaves memory out."),
    ] = 10,
    output: ResultsFile = Path("benchmark-curate.json"),
) -> None:
    """Measure annotating: MB/s of each part and together, memory, core-hours of RedPajama."""
    from pipeline.benchmarks.curating import curate

    curate.benchmark_curate(corpus, rounds, megabytes, repeat, output)


@benchmarks.command("commands")
def benchmark_commands(
    rounds: Rounds = 5,
    output: ResultsFile = Path("benchmark-commands.json"),
) -> None:
    """Measure commands that only look: CPU seconds of help, status, config, report, trace."""
    from pipeline.benchmarks.command_line import command_seconds

    command_seconds.benchmark_commands(rounds, output)


@benchmarks.command("loader")
def benchmark_loader(
    rounds: Rounds = 3,
    output: ResultsFile = Path("benchmark-loader.json"),
) -> None:
    """Measure the loader: start-up at 2.4 TB, tokens/s from memory, waiting for slow files."""
    from pipeline.benchmarks import loader

    loader.benchmark_loader(rounds, output)


@benchmarks.command("evaluate")
def benchmark_evaluate(
    rounds: Rounds = 3,
    output: ResultsFile = Path("benchmark-evaluate.json"),
) -> None:
    """Measure scoring: CPU time of answers with shared contexts, beside lm-eval's own model."""
    from pipeline.benchmarks import evaluate

    evaluate.benchmark_evaluate(rounds, output)


@benchmarks.command("start")
def benchmark_start(rounds: Rounds = 5, output: ResultsFile = Path("benchmark-start.json")) -> None:
    """Measure a start and a restart of two CPU ranks: CPU seconds of each part."""
    from pipeline.benchmarks.starting import start

    start.benchmark_start(rounds, output)


@benchmarks.command("executor")
def benchmark_executor(
    tasks: Annotated[int, typer.Option(min=1, help="Tasks in the list.")] = 20_000,
    workers: Annotated[int, typer.Option(min=2, help="Dask workers on this machine.")] = 2,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Folder on the disk of the records; default: temporary files.",
            callback=output_folder,
        ),
    ] = None,
    output: ResultsFile = Path("benchmark-executor.json"),
) -> None:
    """Measure what a task costs client and scheduler, in batches and alone; and a restart."""
    from pipeline.benchmarks import executor

    executor.benchmark_executor(tasks, workers, folder, output)


@benchmarks.command("recipe")
def benchmark_recipe(
    run_file: RunFile,
    overrides: Overrides = None,
    rate: Annotated[
        list[float] | None, typer.Option(help="Peak learning rates to tune the baseline over.")
    ] = None,
    fraction: Annotated[
        list[float] | None,
        typer.Option(help="Fractions of the baseline's tokens to train the recipe on."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, from train.seed on.")] = 3,
    jobs: Annotated[
        int, typer.Option(min=1, help="Trainings at a time; above 1, each has one rank.")
    ] = 1,
    baseline_sequences: Annotated[
        int | None,
        typer.Option(min=1, help="Sequences in the baseline's batch; default: as in the run file."),
    ] = None,
    folder: Annotated[
        Path,
        typer.Option(
            help="Folder of the trainings, which are kept: run again to resume.",
            callback=output_folder,
        ),
    ] = Path("benchmark-recipe"),
    output: ResultsFile = Path("benchmark-recipe.json"),
    figure: Annotated[
        Path, typer.Option(help="SVG file of the curves.", callback=output_file)
    ] = Path("benchmark-recipe.svg"),
) -> None:
    """Compare the run file's recipe with a tuned AdamW: tokens to the same loss. Trains 16 times."""
    from pipeline.benchmarks import recipe
    from pipeline.config.run_file import load

    rates = rate or [5e-4, 1e-3, 2e-3, 4e-3, 8e-3]
    sizes = recipe.ComparisonSizes(
        rates, fraction or [0.4, 0.5, 0.6], seeds, jobs, baseline_sequences
    )
    recipe.benchmark_recipe(load(run_file, overrides or []), sizes, folder, output, figure)


@benchmarks.command("checkpoint")
def benchmark_checkpoint(
    rounds: Annotated[
        int, typer.Option(min=1, help="Saves of each kind; medians are printed.")
    ] = 3,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Folder on the disk to measure; default: temporary files.", callback=output_folder
        ),
    ] = None,
    output: ResultsFile = Path("benchmark-checkpoint.json"),
) -> None:
    """Measure what a save costs training, beside DeepSpeed's own save; 94 million parameters."""
    from pipeline.benchmarks import checkpoint

    checkpoint.benchmark_checkpoint(rounds, folder, output)


@benchmarks.command("train")
def benchmark_train(
    run_file: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN.YAML]", help="Run file with the model; default: built-in."),
    ] = None,
    overrides: Overrides = None,
    rounds: Rounds = 3,
    preset: Annotated[
        list[str] | None, typer.Option(help="Presets on GPUs; default: gpt3-125m and gpt3-1.3b.")
    ] = None,
    template: Annotated[
        list[str] | None, typer.Option(help="DeepSpeed templates; default: zero0 to zero3.")
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(help="Sizes on CPUs: 1m-2k, 1m-50k, 10m-2k, 10m-50k; default: all."),
    ] = None,
    side: Annotated[
        list[str] | None,
        typer.Option(
            help="Sides on CPUs: plain, nanogpt, deepspeed, accelerate, trainer, ours; default: all."
        ),
    ] = None,
    parts: Annotated[bool, typer.Option(help="Also the parts of a step.")] = True,
    scaling: Annotated[bool, typer.Option(help="Also two ranks beside one.")] = True,
    output: ResultsFile = Path("benchmark-train.json"),
) -> None:
    """Measure a step of our loop beside what others would use, and two ranks; on GPUs, MFU."""
    from pipeline.benchmarks.training import train
    from pipeline.cluster.gpus import gpu_count
    from pipeline.config.run_file import load

    config = None
    if run_file is not None:
        config = load(run_file, overrides or [])
    chosen = (template or (), preset or (), size or (), side or ())
    choice = train.Choice(*chosen, with_parts=parts, with_scaling=scaling)
    train.benchmark_train(config, choice, rounds, output, gpu_count())
