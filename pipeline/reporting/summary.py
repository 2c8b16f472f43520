"""What `pipeline run` ends with: the run on one screen, and whether it reached what the run file
requires.

Reads the stages' manifests.
"""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.config.run_config import RunConfig
from pipeline.errors import RequirementError
from pipeline.logs import console, human_bytes, human_seconds, styled
from pipeline.reporting.run_data import RunData, chance_of, mean_and_error, read_run
from pipeline.store.layout import run_folder

LEAST_WIDTH = 100
"""Columns of the tables: a narrower terminal breaks lines rather than that figures are left out."""


def print_summary(config: RunConfig) -> None:
    """Print the summary, then the requirements.

    Raises RequirementError naming every required figure that was not reached, and DataError where a
    stage is missing.
    """
    run = read_run(config)
    parts: list[RenderableType] = [
        styled(f"\n{run.name}", "bold"),
        _figures(run),
        _heading("Held-out text per source"),
        _sources(run),
    ]
    if run.score_names:
        parts += [
            _heading("Few-shot scores by number of solved examples k, ± standard error"),
            _scores(run),
        ]
    parts += [
        _heading("Seconds per stage"),
        _seconds(run),
        _heading("Continuation of the prompt"),
        _continuation(run),
    ]
    parts.append(styled(f"\nreport {run_folder(config).report}"))
    console.print(Group(*parts), width=max(console.width, LEAST_WIDTH))
    checks = requirements(config, run)
    for reached, text in checks:
        console.print(
            f"{'reached' if reached else 'NOT REACHED'}: {text}",
            style="green" if reached else "red",
        )
    if not all(reached for reached, _ in checks):
        lines = [f"{'reached' if reached else 'not reached'}: {text}" for reached, text in checks]
        raise RequirementError(
            "the run finished, but not with what its run file requires:\n  - "
            + "\n  - ".join(lines)
        )


def _validation(run: RunData) -> str:
    if run.gain_over_unigram is None:
        return "not measured: nothing is held out (prepare.validation_fraction, validation_paths)"
    train = run.counts["train"]
    return (
        f"{train['validation_loss']:.3f}, {run.gain_over_unigram:.1%} below the unigram entropy "
        f"{train['unigram_entropy']:.3f}"
    )


def requirements(config: RunConfig, run: RunData) -> list[tuple[bool, str]]:
    """Return for each `evaluation.require_*` that is set whether it is reached, and the figures."""
    checks = []
    gain = config.evaluation.require_gain_over_unigram
    if gain is not None:
        reached = run.gain_over_unigram is not None and run.gain_over_unigram >= gain
        text = (
            f"validation loss {_validation(run)}; at least {gain:.1%} required "
            "(evaluation.require_gain_over_unigram)"
        )
        checks.append((reached, text))
    errors = config.evaluation.require_cloze_standard_errors
    if errors is not None:
        checks.append(_cloze_requirement(run, errors))
    return checks


def _cloze_requirement(run: RunData, required: float) -> tuple[bool, str]:
    setting = f"more than {required:g} required (evaluation.require_cloze_standard_errors)"
    row = run.score("heldout_cloze", "acc_mutual_info", 0)
    if row is None:
        return False, f"held-out cloze at k = 0 is not measured; {setting}"
    assert row["chance"] is not None, "every question of it has choices"
    if not row["standard_error"]:
        # No spread at all means that every answer was right, or every one was wrong.
        value = f"{row['value']:.3f}, with no standard error"
        is_better = row["value"] > row["chance"]
        return is_better, f"held-out cloze at k = 0 is {value}; {setting}"
    distance = (row["value"] - row["chance"]) / row["standard_error"]
    return distance > required, (
        f"held-out cloze at k = 0 (acc_mutual_info) {mean_and_error(row)} is {distance:.1f} "
        "standard errors above "
        f"chance, {row['chance']:g}; {setting}"
    )


def _heading(text: str) -> Text:
    return styled(f"\n{text}", "bold")


def _figures(run: RunData) -> Table:
    tokens = run.counts["tokenize"]
    train = run.counts["train"]
    names = list(run.counts["prepare"]["sources"])
    documents = {
        split: sum(run.documents(name, split) for name in names)
        for split in ("train", "validation")
    }
    size = sum(run.text_bytes(name) for name in names)
    of_text = human_bytes(size) if size else "no text: ids that existed"
    held = {
        split: sum(s[split]["tokens"] for s in tokens["sources"].values())
        for split in ("train", "validation")
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_row(
        "documents",
        f"{documents['train']:,} to train on, {documents['validation']:,} held out ({of_text})",
    )
    table.add_row("tokens", f"{held['train']:,} to train on, {held['validation']:,} held out")
    table.add_row("parameters", f"{train['parameters']:,}")
    table.add_row(
        "steps",
        f"{train['step']:,} = {train['tokens']:,} tokens, {train['tokens_per_second']:,.0f} "
        "tokens/s "
        f"({train['ranks']} ranks on {train['device']}, ZeRO {train['zero_stage']})",
    )
    table.add_row("loss", f"{train['loss']:.3f} nats per token at the last step")
    table.add_row("validation loss", _validation(run))
    return table


def _sources(run: RunData) -> Table:
    train = run.counts["train"]
    bits = run.counts["evaluate"]["bits_per_byte"]
    table = Table("source", box=None, pad_edge=False, header_style="dim")
    for heading in (
        "bits per byte",
        "validation bits per byte",
        "validation loss",
        "unigram entropy",
    ):
        table.add_column(heading, justify="right")
    for source in run.counts["prepare"]["sources"]:
        figures = (
            bits.get(source, {}).get("value"),
            train["validation_bits_per_byte_by_source"].get(source),
            train["validation_loss_by_source"].get(source),
            train["unigram_entropy_by_source"].get(source),
        )
        table.add_row(source, *("" if figure is None else f"{figure:.3f}" for figure in figures))
    return table


def _scores(run: RunData) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("task", "metric"):
        table.add_column(heading, no_wrap=True)
    for shots in run.shots:
        table.add_column(f"k = {shots}", justify="right", no_wrap=True)
    table.add_column("chance", justify="right", no_wrap=True)
    previous = None
    for task, metric in run.score_names:
        rows = [run.score(task, metric, shots) for shots in run.shots]
        cells = [mean_and_error(row) for row in rows]
        table.add_row("" if task == previous else task, metric, *cells, chance_of(rows))
        previous = task
    return table


def _seconds(run: RunData) -> Table:
    table = Table(*run.seconds, "together", box=None, pad_edge=False, header_style="dim")
    for column in table.columns:
        column.justify = "right"
    together = human_seconds(sum(run.seconds.values()))
    table.add_row(*(f"{seconds:.1f}" for seconds in run.seconds.values()), together)
    return table


def _continuation(run: RunData) -> Text:
    export = run.counts["export"]
    return styled(export["prompt"], "bold") + styled(
        export["continuation"].removeprefix(export["prompt"])
    )
