"""The stage `report`: the run as one HTML page.

Reads all manifests, metrics.jsonl and events.jsonl; writes `run_dir/report.html`, one file with
inline SVG, without scripts or network requests. All text that comes from data is escaped.
"""

from itertools import groupby

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump
from pipeline.errors import DataError
from pipeline.logs import human_bytes, human_seconds, number_or_blank, short
from pipeline.reporting import figures
from pipeline.reporting.account_section import account_section
from pipeline.reporting.contamination_section import contamination_section
from pipeline.reporting.generalisation_section import generalisation_section
from pipeline.reporting.page import (
    Cell,
    escape,
    figure_with_caption,
    html_table,
    note_below,
    section,
    whole_html,
)
from pipeline.reporting.removed_section import removed_section
from pipeline.reporting.run_data import (
    UNKNOWN,
    RunData,
    chance_in_words,
    read_finished_run,
)
from pipeline.reporting.score_section import few_shot_section
from pipeline.store.artifacts import Result
from pipeline.store.counts import Counts
from pipeline.store.files import file_record, write_atomic
from pipeline.store.layout import REPORT_MANIFEST, run_folder
from pipeline.store.records import GitState
from pipeline.tokens.tokenizer_figures import TokenizerReport
from pipeline.tokens.tokenizer_report import tokenizer_report
from pipeline.tokens.tokenizer_tables import Table, tables, vocabulary_line


def report(config: RunConfig) -> Result[Counts]:
    """Write the page. Raises DataError if a stage that the page shows has not finished."""
    run = read_finished_run(config)
    path = run_folder(config).report
    # The rest of the page does not need the tokenizer, whose data_dir may have been deleted.
    try:
        tokenizer: TokenizerReport | str = tokenizer_report(config)
    except DataError as error:
        tokenizer = str(error)
    page = whole_page(run, dump(config), tokenizer)
    (config.paths.run_dir / REPORT_MANIFEST).unlink(missing_ok=True)
    write_atomic(path, page)
    record = file_record(path)
    return Result({"headline": f"{path.name}, {human_bytes(record['bytes'])}"}, {path.name: record})


def whole_page(run: RunData, settings: str, tokenizer: TokenizerReport | str) -> str:
    """Return the page as HTML.

    `settings` is the run file with all defaults, `tokenizer` the report on the tokenizer or the
    reason why there is none.
    """
    settings_in_html = (
        f"<details><summary>Resolved run file</summary><pre>{escape(settings)}</pre></details>"
    )
    # The most important figures come first, the circumstances of the run last.
    body = "\n".join(
        [
            _header(run),
            _learning(run),
            few_shot_section(run),
            contamination_section(run),
            _held_out(run),
            generalisation_section(run),
            _data(run),
            removed_section(run),
            _tokenizer(tokenizer),
            _continuation(run),
            account_section(run.account),
            _stages(run),
            section("Settings", settings_in_html),
            _environment(run),
        ]
    )
    return whole_html(f"{run.name}: report", body)


def _header(run: RunData) -> str:
    """Return the title, one line on the run, and its most important figures as tiles."""
    train = run.counts["train"]
    seconds = human_seconds(sum(run.seconds.values()))
    line = (
        f"Trained {run.manifests['train']['finished'][:10]} with ZeRO {train['zero_stage']}; all "
        f"stages together took {seconds}."
    )
    tiles = "".join(_tile(*tile) for tile in [*_loss_tiles(run), *_size_tiles(run)])
    title = f"<h1>{escape(run.name)}</h1><p>{escape(line)}</p>"
    return f"<header>{title}<div class=tiles>{tiles}</div></header>"


def _tile(value: str, name: str, detail: str) -> str:
    return (
        f"<div class=tile><b>{escape(value)}</b><span>{escape(name)}</span>"
        f"<small>{escape(detail)}</small></div>"
    )


def _loss_tiles(run: RunData) -> list[tuple[str, str, str]]:
    """Return `(value, name, detail)` of the figures that measure how good the model is."""
    train = run.counts["train"]
    gain = run.gain_over_unigram
    tiles: list[tuple[str, str, str]] = []
    if gain is None:
        tiles.append((run.last_loss, "training loss", "nats per token, last step"))
    else:
        entropy = f"{train['unigram_entropy']:.3f} nats"
        loss = f"{train['validation_loss']:.3f}"
        tiles.append((loss, "validation loss", "nats per token"))
        tiles.append((f"{gain:.1%}", "below unigram entropy", entropy))
    cloze = run.score("heldout_cloze", "acc_mutual_info", 0)
    if cloze is not None:
        detail = f"± {cloze['standard_error'] or 0:.3f}; chance {chance_in_words([cloze])}"
        tiles.append((f"{cloze['value']:.3f}", "cloze, k = 0", detail))
    return tiles


def _size_tiles(run: RunData) -> list[tuple[str, str, str]]:
    """Return `(value, name, detail)` of the figures for the size and speed of the run."""
    train = run.counts["train"]
    ranks = f"{train['ranks']} ranks, {train['device']}"
    return [
        (short(train["parameters"]), "parameters", f"{train['parameters']:,}"),
        (short(train["tokens"]), "training tokens", f"{train['step']:,} steps"),
        (short(train["tokens_per_second"]), "tokens per second", ranks),
    ]


def _learning(run: RunData) -> str:
    # The loss is shown large, everything else in pairs below it.
    small = [
        figure_with_caption(
            figures.over_tokens(run, "learning_rate", "learning rate"),
            "Learning rate: warm-up, then decay.",
        ),
        figure_with_caption(
            figures.over_tokens(run, "tokens_per_second", "tokens per second"),
            "Throughput of all ranks together, tokens per second, at every step.",
        ),
        figure_with_caption(
            figures.over_tokens(run, "grad_norm", "gradient norm"),
            "Norm of the gradient of all weights before clipping, at every step.",
        ),
        _utilisation(run),
    ]
    return section(
        "Learning",
        figure_with_caption(
            figures.loss_curve(run),
            "Cross-entropy in nats per token against tokens trained on. The dashed line is the "
            "unigram entropy of the held-out tokens: the loss of a model that knows only how often "
            "each token occurs.",
        ),
        f"<div class=pair>{''.join(small)}</div>",
    )


def _utilisation(run: RunData) -> str:
    """Return the figure of the MFU, nothing if the peak of the device is unknown, as on CPUs."""
    mfu = run.counts["train"]["mfu"]
    if mfu is None:
        return ""
    return figure_with_caption(
        figures.over_tokens(run, "mfu", "model FLOPs utilisation"),
        "The model's FLOPs as a share of the peak of the devices, at every step; median "
        f"{mfu:.1%}. A token counts 6 N + 6 L d T: causal attention, without recomputation.",
    )


def _held_out(run: RunData) -> str:
    title = "Held-out text, source by source"
    if not run.counts["train"]["validation_loss_by_source"]:
        return section(
            title, "<p>Nothing is held out (prepare.validation_fraction, validation_paths).</p>"
        )
    head = ["source", "bits per byte, documents", "of text", "bits per byte, validation"]
    head += ["validation loss", "unigram entropy", "below it"]
    return section(
        title,
        figure_with_caption(
            figures.validation_by_source(run),
            "Validation loss in nats per token against tokens trained on. Sources differ because "
            "their texts do: text that is hard to predict for any model has a high loss.",
        ),
        html_table(
            head, [_held_out_row(run, source) for source in run.counts["prepare"]["sources"]]
        ),
        note_below(
            "Bits per byte do not depend on the tokenizer, so that models can be compared by them; "
            "losses in nats per token do. Bits per byte of documents were measured by the few-shot "
            "harness on the exported model, over whole documents from their beginning; those of "
            "validation in the training loop, over the sequences of the validation loss."
        ),
    )


def _held_out_row(run: RunData, source: str) -> list[Cell]:
    """Return the measurements on the held-out text of one source, as cells of the table."""
    train = run.counts["train"]
    loss = train["validation_loss_by_source"].get(source)
    entropy = train["unigram_entropy_by_source"].get(source)
    gain = ""
    if loss is not None and entropy:
        gain = f"{1 - loss / entropy:.1%}"
    bits_per_byte = ""
    size = ""
    measured = run.counts["evaluate"]["bits_per_byte"].get(source)
    if measured is not None:
        bits_per_byte = number_or_blank(measured["value"], ".3f")
        size = human_bytes(measured["bytes"])
    in_training = number_or_blank(train["validation_bits_per_byte_by_source"].get(source), ".3f")
    losses = [number_or_blank(loss, ".3f"), number_or_blank(entropy, ".3f")]
    return [source, bits_per_byte, size, in_training, *losses, gain]


def _data(run: RunData) -> str:
    head = ["source", "documents", "held out", "text", "tokens", "held out", "bytes per token"]
    head.append("rejected rows")
    return section(
        "Data",
        figure_with_caption(
            figures.composition(run),
            "Share of each source in documents, bytes of text and tokens, held-out included.",
        ),
        html_table(head, [_data_row(run, source) for source in run.counts["prepare"]["sources"]]),
        _what_was_read(run),
    )


def _data_row(run: RunData, source: str) -> list[Cell]:
    """Return the size of one source as cells of the table."""
    tokens = run.counts["tokenize"]["sources"][source]
    train_tokens = tokens["train"]["tokens"]
    held_out_tokens = tokens["validation"]["tokens"]
    text_bytes = run.text_bytes(source)
    size = UNKNOWN
    bytes_per_token = UNKNOWN
    if text_bytes:
        size = human_bytes(text_bytes)
    if text_bytes and train_tokens + held_out_tokens:
        bytes_per_token = f"{text_bytes / (train_tokens + held_out_tokens):.2f}"
    rejected = sum(run.counts["prepare"]["sources"][source]["rejected"].values())
    return [
        source,
        f"{run.documents(source, 'train'):,}",
        f"{run.documents(source, 'validation'):,}",
        size,
        f"{train_tokens:,}",
        f"{held_out_tokens:,}",
        bytes_per_token,
        f"{rejected:,}",
    ]


def _what_was_read(run: RunData) -> str:
    """Return the shares and epochs of the sources in the run."""
    assert "data" in run.counts["train"], "the supervisor adds it when training has ended"
    outlook = run.counts["train"]["data"]
    rows: list[list[Cell]] = []
    for name, source in outlook["sources"].items():
        cut = UNKNOWN
        if source["cut_documents"] is not None:
            cut = f"{source['cut_documents']:.1%}"
        row: list[Cell] = [name, f"{source['share']:.1%}", f"{source['samples']:,}"]
        row += [f"{source['epochs']:.2f}", cut, f"{source['padding']:.2%}"]
        rows.append(row)
    head = ["source", "share of run", "sequences", "epochs", "documents cut", "padding"]
    note = note_below(
        f"Packing: {escape(outlook['packing'])}. <code>pipeline trace</code> prints the documents "
        "of any step and the steps of any document."
    )
    return f"<h3>What the run read</h3>{html_table(head, rows)}{note}"


def _tokenizer(report: TokenizerReport | str) -> str:
    if isinstance(report, str):
        return section("Tokenizer", f"<p>Not measured: {escape(report)}</p>")
    parts = [f"<p>{escape(vocabulary_line(report['tokenizer']))}</p>"]
    # Neighbouring small tables stand side by side.
    for is_small, group in groupby(tables(report), key=lambda table: table.is_small):
        shown = "".join(map(_tokenizer_table, group))
        if is_small:
            shown = f"<div class=pair>{shown}</div>"
        parts.append(shown)
    return section("Tokenizer", *parts)


def _tokenizer_table(table: Table) -> str:
    note = ""
    if table.note:
        note = note_below(escape(table.note))
    title = f"<h3>{escape(table.title)}</h3>"
    return f"<div>{title}{html_table(table.head, table.rows)}{note}</div>"


def _continuation(run: RunData) -> str:
    export = run.counts["export"]
    prompt = export["prompt"]
    text = export["continuation"].removeprefix(prompt)
    difference = export["max_logit_difference"]
    return section(
        "Continuation of a prompt",
        f"<pre><b>{escape(prompt)}</b>{escape(text)}</pre>",
        note_below(
            f"By the exported model ({escape(str(export['dtype']))}), whose logits differ from "
            f"those of the trained engine by at most {difference:.1e}."
        ),
    )


def _stages(run: RunData) -> str:
    rows: list[list[Cell]] = []
    for name, manifest in run.manifests.items():
        headline = str(manifest["counts"].get("headline", ""))
        size = human_bytes(sum(record["bytes"] for record in manifest["files"].values()))
        rows.append([name, headline, size, f"{manifest['seconds']:.1f}"])
    head = ["stage", "made", "size", "seconds"]
    return section("Stages", html_table(head, rows, text_columns=2))


def _environment(run: RunData) -> str:
    environment = run.manifests["train"]["environment"]
    harness = f"lm-eval {run.counts['evaluate']['harness']}"
    rows: list[list[Cell]] = [
        ["command", environment["command"]],
        ["python", environment["python"]],
        ["platform", environment["platform"]],
        ["git commit", _commit_in_words(environment["git"])],
        ["few-shot harness", harness],
    ]
    for name, version in environment["versions"].items():
        rows.append([name, version])
    table = html_table(["of the training stage", ""], rows, text_columns=2)
    return section("Environment", f"<div class=narrow>{table}</div>")


def _commit_in_words(git: GitState | None) -> str:
    if git is None:
        return "not in a git repository"
    if git["dirty"]:
        return f"{git['commit']}, with local changes"
    return git["commit"]
