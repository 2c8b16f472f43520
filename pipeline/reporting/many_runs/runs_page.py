"""The page of `pipeline report --compare`: several runs in one HTML file. Pure."""

from collections.abc import Sequence

from pipeline.errors import first_of
from pipeline.logs import human_seconds, number_or_blank, scientific, short
from pipeline.reporting.many_runs.comparable import (
    Basis,
    basis_of,
    remarks,
)
from pipeline.reporting.many_runs.compared_run import ComparedRun
from pipeline.reporting.many_runs.curve_figures import (
    FLOPS,
    TOKENS,
    drawn_runs,
    highest_in_frame,
    losses_over,
    names_off_scale,
    time_of_runs,
)
from pipeline.reporting.many_runs.run_names import legend_labels, shown_names
from pipeline.reporting.many_runs.setting_differences import differing_settings
from pipeline.reporting.many_runs.verdict import last_training_loss, verdict_sentences
from pipeline.reporting.page import (
    Cell,
    escape,
    figure_in_two_layouts,
    figure_with_caption,
    html_table,
    note_below,
    section,
    whole_html,
)

TIME_NOTE = (
    "Time is counted from the first launch of the ranks of each job: start-up, validation, saves, lost "
    "steps and restarts are in it; earlier stages, time in a queue and time between jobs are not."
)
FLOPS_NOTE = (
    "FLOPs are those of the model with causal attention, 6 N + 6 L d T a token, without recomputation. Plans "
    "and studies count the masked half of attention, too, 6 N + 12 L d T, as published figures do."
)
MOST_NAMED = 4
"""Maximum number of runs whose names stand below the title."""
MOST_COLUMNS_OF_RUNS = 5
"""With more runs than that, each is a row of the table of settings, and not a column."""
FACTS_NOTE = (
    "Beside the settings stand the content of tokens and tokenizer, the DeepSpeed config, ranks, device, "
    "commit and libraries, where a run has recorded them."
)
NO_DIFFERENCE = (
    f"None that the runs have recorded. {FACTS_NOTE} Uncommitted changes of the code, other machines of one "
    "device, and chance are not seen here."
)
STYLE_OF_DIFFERENCES = (
    "<style>.differs { padding-left: .4rem; "
    "background: color-mix(in srgb, #d9762b 24%, transparent); }</style>"
)


def sentences_of(runs: Sequence[ComparedRun], whole_names: Sequence[str]) -> list[str]:
    """Return what can be said about the runs. Raises DataError where nothing can be compared."""
    basis = basis_of(runs)
    shown = shown_names(whole_names)
    sentences = [*basis.reasons, *verdict_sentences(runs, shown.names, basis)]
    sentences += remarks(runs, shown.names)
    if shown.remark:
        sentences.append(shown.remark)
    return sentences


def runs_page(runs: Sequence[ComparedRun], whole_names: Sequence[str]) -> str:
    """Return the page as HTML. Raises DataError where nothing can be compared."""
    basis = basis_of(runs)
    names = shown_names(whole_names).names
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences_of(runs, whole_names))
    title = f"{len(runs)} runs compared"
    listed = first_of(whole_names, MOST_NAMED)
    body = "\n".join(
        [
            f"<header><h1>{escape(title)}</h1><p>{escape(listed)}</p></header>",
            section("What can be said", f"<ul>{said}</ul>"),
            section("Losses", *_figures(runs, names, basis)),
            _final_figures(runs, names),
            _settings(runs, names),
        ]
    )
    return whole_html(title, body)


def _figures(runs: Sequence[ComparedRun], names: Sequence[str], basis: Basis) -> list[str]:
    """Return the losses over tokens, and side by side those over time and FLOPs."""
    # Which runs are drawn, under which names.
    drawn = drawn_runs(runs, names, basis)
    frame = ["The axis begins where the steep fall of the first steps is over."]
    if len(drawn) < len(runs):
        frame.append(
            f"Drawn are the {len(drawn)} of {len(runs)} runs that end lowest; the table has all."
        )
    runs = [run for run, _ in drawn]
    names = legend_labels([name for _, name in drawn])
    frame += _beyond_the_frame(runs, names, basis)

    # The figures.
    caption = f"{_lines_in_words(basis)} Over the tokens trained on. {' '.join(frame)}"
    tokens = losses_over(runs, names, basis, TOKENS, is_wide=True)
    on_phones = losses_over(runs, names, basis, TOKENS, is_wide=False)
    flops = losses_over(runs, names, basis, FLOPS, is_wide=False)
    pair = [figure_with_caption(flops, f"The same over compute. {FLOPS_NOTE}")]
    if any(run.last.seconds is not None for run in runs):
        time = losses_over(runs, names, basis, time_of_runs(runs), is_wide=False)
        pair.insert(0, figure_with_caption(time, f"The same over time. {TIME_NOTE}"))
    return [
        figure_in_two_layouts(tokens, on_phones, caption),
        f"<div class=pair>{''.join(pair)}</div>",
    ]


def _lines_in_words(basis: Basis) -> str:
    """Return what the lines and points of a figure are."""
    unit = "in nats per token" if basis.unit == "nats a token" else "in bits per byte"
    if not basis.is_held_out:
        return f"Training loss {unit}, means of neighbouring steps."
    lines = f"Held-out loss {unit}, each validation a point."
    if basis.unit == "nats a token":
        lines += " Thin: training loss, means of neighbouring steps."
    return lines


def _beyond_the_frame(runs: Sequence[ComparedRun], names: Sequence[str], basis: Basis) -> list[str]:
    """Return a sentence on the runs that have losses above the frame; none without any."""
    beyond = names_off_scale(runs, names, basis)
    if not beyond:
        return []
    marks = " (a held-out loss is a triangle at the upper edge)" if basis.is_held_out else ""
    return [
        f"The frame ends at {highest_in_frame(runs, basis):.3g}, about the loss of guessing, with which the "
        f"training began. Above it{marks}: {first_of(beyond, MOST_NAMED)}."
    ]


def _final_figures(runs: Sequence[ComparedRun], names: Sequence[str]) -> str:
    """Return what the runs reached, and what they took for it, as two tables."""
    reached = ["run", "parameters", "tokens", "steps", "validation loss", "bits per byte"]
    reached.append("training loss")
    took = ["run", "FLOPs", "time", "tokens/s", "device-hours", "ETTR"]
    named = list(zip(runs, names, strict=True))
    return section(
        "Final figures",
        html_table(reached, [_reached(run, name) for run, name in named]),
        note_below(
            "Losses in nats per token. The validation loss and the bits per byte are the last ones "
            "measured; the training loss is the mean of the last tenth of the steps, of at most 50."
        ),
        html_table(took, [_took(run, name) for run, name in named]),
        note_below(
            "FLOPs and time as in the figures. tokens/s: median of all steps, validations and saves not "
            "in it. Device-hours count from the beginning of each command to the end of its ranks. "
            "ETTR: the share of the wall time in steps that were kept."
        ),
    )


def _reached(run: ComparedRun, name: str) -> list[Cell]:
    validated = run.last_validated
    bits = [point.bits_per_byte for point in run.points if point.bits_per_byte is not None]
    return [
        name,
        "" if run.parameters is None else short(run.parameters),
        short(run.last.tokens),
        f"{run.steps:,}",
        "" if validated is None else number_or_blank(validated.validation_loss, ".4f"),
        number_or_blank(bits[-1] if bits else None, ".4f"),
        number_or_blank(last_training_loss(run), ".4f"),
    ]


def _took(run: ComparedRun, name: str) -> list[Cell]:
    row: list[Cell] = [name, scientific(run.last.flops)]
    row.append("" if run.last.seconds is None else human_seconds(run.last.seconds))
    row.append(f"{run.tokens_per_second:,.0f}")
    if run.account is None:
        return [*row, "", ""]
    ratio = run.account.effective_training_time_ratio
    return [*row, f"{run.account.device_hours:.3g}", f"{ratio:.1%}"]


def _settings(runs: Sequence[ComparedRun], names: Sequence[str]) -> str:
    """Return the table of the settings that are not the same in all runs."""
    differing = differing_settings(runs)
    title = "Settings that differ"
    if not differing:
        return section(title, f"<p>{escape(NO_DIFFERENCE)}</p>")
    # One column a run, or one row a run where they are many.
    firsts = [setting.values[0] for setting in differing]
    columns = list(zip(*[setting.values for setting in differing], strict=True))
    head = ["run", *(setting.name for setting in differing)]
    rows = [_row(name, values, firsts) for name, values in zip(names, columns, strict=True)]
    if len(runs) <= MOST_COLUMNS_OF_RUNS:
        head = ["setting", *names]
        rows = [_row(each.name, each.values, [each.values[0]] * len(runs)) for each in differing]
    cells = "".join(f'<th class="text">{escape(name)}</th>' for name in head)
    return section(
        title,
        STYLE_OF_DIFFERENCES,
        f"<div class=scroll><table><thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        "</div>",
        note_below(
            "Coloured: not as in the first run. Settings of evaluation, trackers and workers are left out. "
            f"{FACTS_NOTE}"
        ),
    )


def _row(name: str, values: Sequence[str], firsts: Sequence[str]) -> str:
    """Return a row of the table; `firsts`: the values of the first run, in the same order."""
    cells = "".join(
        f'<td class="text{"" if value == first else " differs"}">{escape(value)}</td>'
        for value, first in zip(values, firsts, strict=True)
    )
    return f'<tr><td class="text">{escape(name)}</td>{cells}</tr>'
