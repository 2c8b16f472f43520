"""The summary at the end of `pipeline run`, and the check of what the run file requires.

Reads the manifests of the stages.
"""

from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.config.run_config import RunConfig
from pipeline.errors import RequirementError
from pipeline.logs import (
    console,
    human_bytes,
    human_seconds,
    number_or_blank,
    print_wide,
    styled,
)
from pipeline.reporting.run_data import (
    RunData,
    chance_in_words,
    mean_and_error,
    read_finished_run,
)
from pipeline.store.layout import run_folder

LEAST_WIDTH = 100
"""Columns of the summary, at least: a narrow terminal breaks its lines, but loses no figure."""


@dataclass(frozen=True)
class Requirement:
    """One setting `evaluation.require_*`, compared with the run."""

    is_reached: bool
    text: str
    """Figures of the run, the figure required, and the setting."""


def print_summary(config: RunConfig) -> None:
    """Print the summary, then whether the run reaches each figure that the run file requires.

    Raises RequirementError, which lists all required figures, if one or more are not reached, and
    DataError if a stage has not finished.
    """
    # The summary fits on one screen.
    run = read_finished_run(config)
    parts: list[RenderableType] = [
        styled(f"\n{run.name}", "bold"),
        _figures(run),
        _heading("Held-out text per source"),
        _sources(run),
    ]
    if run.score_names:
        parts.append(_heading("Few-shot scores by number of solved examples k, ± standard error"))
        parts.append(_scores(run))
    parts += [
        _heading("Seconds per stage"),
        _seconds(run),
        _heading("Continuation of the prompt"),
        _continuation(run),
        styled(f"\nreport {run_folder(config).report}"),
    ]
    print_wide(Group(*parts), LEAST_WIDTH)

    # The requirements decide the exit code.
    checked = requirements(config, run)
    for requirement in checked:
        if requirement.is_reached:
            console.print(f"reached: {requirement.text}", style="green")
        else:
            console.print(f"NOT REACHED: {requirement.text}", style="red")
    if not all(requirement.is_reached for requirement in checked):
        raise _not_reached(checked)


def _not_reached(checked: list[Requirement]) -> RequirementError:
    states = {True: "reached", False: "not reached"}
    lines = [f"{states[requirement.is_reached]}: {requirement.text}" for requirement in checked]
    return RequirementError(
        "the run has finished, but its results do not reach what the run file requires:\n  - "
        + "\n  - ".join(lines)
    )


def _last_loss(run: RunData) -> str:
    if run.counts["train"]["loss"] is None:
        return f"{run.last_loss} at the last step"
    return f"{run.last_loss} nats per token at the last step"


def _validation(run: RunData) -> str:
    train = run.counts["train"]
    if train["unigram_entropy"] is None:
        return "not measured: nothing is held out (prepare.validation_fraction, validation_paths)"
    if train["validation_loss"] is None:
        return "not finite"
    loss = f"{train['validation_loss']:.3f}"
    gain = run.gain_over_unigram
    if gain is None:
        return loss
    return f"{loss}, {gain:.1%} below the unigram entropy {train['unigram_entropy']:.3f}"


def requirements(config: RunConfig, run: RunData) -> list[Requirement]:
    """Return each `evaluation.require_*` that is set, compared with the run."""
    checked: list[Requirement] = []
    gain = config.evaluation.require_gain_over_unigram
    if gain is not None:
        is_reached = run.gain_over_unigram is not None and run.gain_over_unigram >= gain
        text = (
            f"validation loss {_validation(run)}; at least {gain:.1%} required "
            "(evaluation.require_gain_over_unigram)"
        )
        checked.append(Requirement(is_reached, text))
    errors = config.evaluation.require_cloze_standard_errors
    if errors is not None:
        checked.append(_cloze_requirement(run, errors))
    return checked


def _cloze_requirement(run: RunData, required: float) -> Requirement:
    """Compare held-out cloze with chance, in standard errors."""
    setting = f"more than {required:g} required (evaluation.require_cloze_standard_errors)"
    score = run.score("heldout_cloze", "acc_mutual_info", 0)
    if score is None:
        return Requirement(False, f"held-out cloze at k = 0 is not measured; {setting}")
    chance = score["chance"]
    assert chance is not None, "every question of held-out cloze has choices"
    # Without a standard error, all answers were right or all were wrong.
    if not score["standard_error"]:
        value = f"{score['value']:.3f}, with no standard error"
        text = f"held-out cloze at k = 0 is {value}; {setting}"
        return Requirement(score["value"] > chance, text)
    distance = (score["value"] - chance) / score["standard_error"]
    text = (
        f"held-out cloze at k = 0 (acc_mutual_info) {mean_and_error(score)} is {distance:.1f} "
        f"standard errors above chance, {chance:g}; {setting}"
    )
    return Requirement(distance > required, text)


def _heading(text: str) -> Text:
    return styled(f"\n{text}", "bold")


def _figures(run: RunData) -> Table:
    """Return sizes and losses of the run, one a line."""
    # Sums over all sources.
    train = run.counts["train"]
    sources = list(run.counts["prepare"]["sources"])
    tokens = run.counts["tokenize"]["sources"].values()
    train_documents = sum(run.documents(source, "train") for source in sources)
    held_out_documents = sum(run.documents(source, "validation") for source in sources)
    train_tokens = sum(counts["train"]["tokens"] for counts in tokens)
    held_out_tokens = sum(counts["validation"]["tokens"] for counts in tokens)
    text_bytes = sum(run.text_bytes(source) for source in sources)
    size = "no text: existing token ids"
    if text_bytes:
        size = human_bytes(text_bytes)

    # One line for each figure.
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_row(
        "documents", f"{train_documents:,} to train on, {held_out_documents:,} held out ({size})"
    )
    table.add_row("tokens", f"{train_tokens:,} to train on, {held_out_tokens:,} held out")
    table.add_row("parameters", f"{train['parameters']:,}")
    table.add_row(
        "steps",
        f"{train['step']:,} = {train['tokens']:,} tokens, {train['tokens_per_second']:,.0f} "
        f"tokens/s ({train['ranks']} ranks on {train['device']}, ZeRO {train['zero_stage']})",
    )
    table.add_row("loss", _last_loss(run))
    table.add_row("validation loss", _validation(run))
    return table


def _sources(run: RunData) -> Table:
    """Return the measurements on held-out text, one line for each source."""
    table = Table("source", box=None, pad_edge=False, header_style="dim")
    for heading in (
        "bits per byte",
        "validation bits per byte",
        "validation loss",
        "unigram entropy",
    ):
        table.add_column(heading, justify="right")
    train = run.counts["train"]
    bits = run.counts["evaluate"]["bits_per_byte"]
    for source in run.counts["prepare"]["sources"]:
        bits_per_byte: float | None = None
        if source in bits:
            bits_per_byte = bits[source]["value"]
        table.add_row(
            source,
            number_or_blank(bits_per_byte, ".3f"),
            number_or_blank(train["validation_bits_per_byte_by_source"].get(source), ".3f"),
            number_or_blank(train["validation_loss_by_source"].get(source), ".3f"),
            number_or_blank(train["unigram_entropy_by_source"].get(source), ".3f"),
        )
    return table


def _scores(run: RunData) -> Table:
    """Return the few-shot scores, one line for each task and metric."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("task", "metric"):
        table.add_column(heading, no_wrap=True)
    for shots in run.shots:
        table.add_column(f"k = {shots}", justify="right", no_wrap=True)
    table.add_column("chance", justify="right", no_wrap=True)
    previous = None
    for task, metric in run.score_names:
        cells = [mean_and_error(run.score(task, metric, shots)) for shots in run.shots]
        chance = chance_in_words(run.scores_of(task, metric))
        # A task is named once, on the line of its first metric.
        name = task
        if task == previous:
            name = ""
        table.add_row(name, metric, *cells, chance)
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
    continuation = export["continuation"].removeprefix(export["prompt"])
    return styled(export["prompt"], "bold") + styled(continuation)
