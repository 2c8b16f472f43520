"""The stage `report`: the run as one HTML page.

Reads all manifests and metrics.jsonl; writes run_dir/report.html. The page is one file with inline
SVG, no script, and asks no network. All text that comes from data is escaped.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump
from pipeline.errors import DataError
from pipeline.logs import human_bytes, human_seconds, short
from pipeline.reporting import figures
from pipeline.reporting.page import CSS, escape
from pipeline.reporting.run_data import UNKNOWN, RunData, chance_of, mean_and_error, read_run
from pipeline.store.artifacts import Result
from pipeline.store.counts import Counts
from pipeline.store.files import file_record, write_atomic
from pipeline.store.layout import run_folder
from pipeline.tokens.tokenizer_figures import TokenizerReport
from pipeline.tokens.tokenizer_report import tokenizer_report
from pipeline.tokens.tokenizer_tables import tables, vocabulary_line


def report(config: RunConfig) -> Result[Counts]:
    """Write the page. Raises DataError where a stage that it shows has not finished."""
    run = read_run(config)
    path = run_folder(config).report
    try:
        tokenizer: TokenizerReport | str = tokenizer_report(config)
    except DataError as error:  # the run's figures stand without it, also where data_dir has been cleared away since
        tokenizer = str(error)
    write_atomic(path, page(run, dump(config), tokenizer))
    record = file_record(path)
    return Result({"headline": f"{path.name}, {human_bytes(record['bytes'])}"}, {path.name: record})


def page(run: RunData, settings: str, tokenizer: TokenizerReport | str) -> str:
    """Return the whole page; `settings` is the resolved run file, `tokenizer` its report or why
    there is none."""
    body = "\n".join(
        [
            _header(run),
            _learning(run),
            _few_shot(run),
            _held_out(run),
            _data(run),
            _tokenizer(tokenizer),
            _continuation(run),
            _stages(run),
            _section(
                "Settings",
                "<details><summary>Resolved run "
                f"file</summary><pre>{escape(settings)}</pre></details>",
            ),
            _environment(run),
        ]
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(run.name)}: report</title>\n"
        f"<style>{CSS}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _header(run: RunData) -> str:
    train = run.counts["train"]
    tiles = [
        (f"{train['loss']:.3f}", "training loss", "nats per token, last step"),
        (short(train["parameters"]), "parameters", f"{train['parameters']:,}"),
        (short(train["tokens"]), "training tokens", f"{train['step']:,} steps"),
        (
            short(train["tokens_per_second"]),
            "tokens per second",
            f"{train['ranks']} ranks, {train['device']}",
        ),
    ]
    if run.gain_over_unigram is not None:
        tiles[:1] = [
            (f"{train['validation_loss']:.3f}", "validation loss", "nats per token"),
            (
                f"{run.gain_over_unigram:.1%}",
                "below unigram entropy",
                f"{train['unigram_entropy']:.3f} nats",
            ),
        ]
    row = run.score("heldout_cloze", "acc_mutual_info", 0)
    if row:
        detail = f"± {row['standard_error'] or 0:.3f}; chance {chance_of([row])}"
        tiles.insert(-3, (f"{row['value']:.3f}", "cloze, k = 0", detail))
    shown = "".join(
        f"<div class=tile><b>{escape(value)}</b><span>{escape(name)}</span><small>{escape(detail)}</small></div>"
        for value, name, detail in tiles
    )
    manifest = run.manifests["train"]
    together = human_seconds(sum(run.seconds.values()))
    line = (
        f"Trained {manifest['finished'][:10]} with ZeRO {train['zero_stage']}; all stages together "
        f"took {together}."
    )
    return f"<header><h1>{escape(run.name)}</h1><p>{escape(line)}</p><div class=tiles>{shown}</div></header>"


def _learning(run: RunData) -> str:
    return _section(
        "Learning",
        _figure(
            figures.loss_curve(run),
            "Cross-entropy in nats per token against tokens seen. The dashed line is the entropy "
            "of the held-out "
            "tokens' own frequencies: the loss of a model that knows how often each token comes "
            "and nothing else.",
        ),
        "<div class=pair>"
        + _figure(
            figures.over_tokens(run, "learning_rate", "learning rate"),
            "Learning rate: warm-up, then decay.",
        )
        + _figure(
            figures.over_tokens(run, "tokens_per_second", "tokens per second"),
            "Throughput of all ranks together, tokens per second, at every step.",
        )
        + _figure(
            figures.over_tokens(run, "grad_norm", "gradient norm"),
            "Norm of the gradient of all weights before it is clipped, at every step.",
        )
        + _utilisation(run)
        + "</div>",
    )


def _utilisation(run: RunData) -> str:
    if run.counts["train"]["mfu"] is None:  # the device's peak is not known, as on CPUs
        return ""
    return _figure(
        figures.over_tokens(run, "mfu", "model FLOPs utilisation"),
        "Share of the devices' peak that the model's FLOPs make, at every step; median "
        f"{run.counts['train']['mfu']:.1%}. "
        "A token counts 6 N + 6 L d T: causal attention, nothing that is computed twice.",
    )


def _few_shot(run: RunData) -> str:
    if not run.score_names:
        return _section(
            "Few-shot scores", "<p>No few-shot task was asked for (evaluation.tasks).</p>"
        )
    metrics = list(dict.fromkeys(metric for _, metric in run.score_names))
    preferred = [metric for metric in ("acc_mutual_info", "acc") if metric in metrics] or metrics[
        :2
    ]
    notes = {
        "acc_mutual_info": "Share of questions answered rightly, where each answer's log-probability is measured "
        "against its log-probability without the question (GPT-3's normalisation).",
        "acc": "Share of questions answered rightly by plain log-probability.",
    }
    pictures = [
        _figure(
            figures.few_shot_bars(run, metric),
            f"{notes.get(metric, metric)} Bars: k solved examples before each question, ± one "
            "standard error. "
            "Dashed: chance, where it is known.",
        )
        for metric in preferred
    ]
    rows = []
    for task, metric in run.score_names:
        cells = [run.score(task, metric, shots) for shots in run.shots]
        known = next(row for row in cells if row)
        figures_of_task = [mean_and_error(row) for row in cells]
        rows.append([task, metric, *figures_of_task, chance_of(cells), f"{known['items']:,}"])
    head = ["task", "metric", *(f"k = {shots}" for shots in run.shots), "chance", "questions"]
    table = _table(head, rows, text_columns=2)
    return _section("Few-shot scores", *pictures, table)


def _held_out(run: RunData) -> str:
    train = run.counts["train"]
    bits = run.counts["evaluate"]["bits_per_byte"]
    rows = []
    for source in run.counts["prepare"]["sources"]:
        figure = train["validation_loss_by_source"].get(source)
        entry = bits.get(source, {})
        entropy = train["unigram_entropy_by_source"].get(source)
        gain = f"{1 - figure / entropy:.1%}" if figure is not None and entropy else ""
        size = human_bytes(entry["bytes"]) if entry else ""
        in_training = train["validation_bits_per_byte_by_source"].get(source)
        row = [
            _decimal(entry.get("value")),
            size,
            _decimal(in_training),
            _decimal(figure),
            _decimal(entropy),
            gain,
        ]
        rows.append([source, *row])
    if not train["validation_loss_by_source"]:
        return _section(
            "Held-out text, source by source",
            "<p>Nothing is held out (prepare.validation_fraction, validation_paths).</p>",
        )
    head = [
        "source",
        "bits per byte, documents",
        "of text",
        "bits per byte, validation",
        "validation loss",
    ]
    head += ["unigram entropy", "below it"]
    return _section(
        "Held-out text, source by source",
        _figure(
            figures.validation_by_source(run),
            "Validation loss in nats per token against tokens seen. Sources differ because their "
            "texts do: what is "
            "hard to guess for any model stays high.",
        ),
        _table(head, rows),
        "<p class=note>Bits per byte do not depend on the tokenizer and can be compared across "
        "models; losses in nats "
        "per token cannot. Those of documents were measured by the few-shot harness on the "
        "exported model, whole documents "
        "from their beginning; those of validation in the training loop, on the sequences of the "
        "validation loss.</p>",
    )


def _data(run: RunData) -> str:
    rows = []
    tokens = run.counts["tokenize"]["sources"]
    for name, source in run.counts["prepare"]["sources"].items():
        size = run.text_bytes(name)
        train = tokens[name]["train"]["tokens"]
        held = tokens[name]["validation"]["tokens"]
        ratio = f"{size / (train + held):.2f}" if size and train + held else UNKNOWN
        rejected = f"{sum(source['rejected'].values()):,}"
        documents = [f"{run.documents(name, split):,}" for split in ("train", "validation")]
        rows.append(
            [
                name,
                *documents,
                human_bytes(size) if size else UNKNOWN,
                f"{train:,}",
                f"{held:,}",
                ratio,
                rejected,
            ]
        )
    head = [
        "source",
        "documents",
        "held out",
        "text",
        "tokens",
        "held out",
        "bytes per token",
        "rejected rows",
    ]
    return _section(
        "Data",
        _figure(
            figures.composition(run),
            "Share of each source in documents, bytes of text and tokens, held-out included.",
        ),
        _table(head, rows),
        _what_was_read(run),
    )


def _what_was_read(run: RunData) -> str:
    data = run.counts["train"]["data"]
    rows = [
        [
            name,
            f"{seen['share']:.1%}",
            f"{seen['samples']:,}",
            f"{seen['epochs']:.2f}",
            UNKNOWN if seen["cut_documents"] is None else f"{seen['cut_documents']:.1%}",
            f"{seen['padding']:.2%}",
        ]
        for name, seen in data["sources"].items()
    ]
    return (
        "<h3>What the run read</h3>"
        + _table(
            ["source", "share of run", "sequences", "epochs", "documents cut", "padding"], rows
        )
        + f"<p class=note>Packing: {escape(data['packing'])}. Any step's documents, "
        "and any document's steps, are told by "
        "<code>pipeline trace</code>.</p>"
    )


def _tokenizer(report: TokenizerReport | str) -> str:
    if isinstance(report, str):
        return _section("Tokenizer", f"<p>Not measured: {escape(report)}</p>")
    parts = [f"<p>{escape(vocabulary_line(report['tokenizer']))}</p>"]
    for is_small, group in groupby(tables(report), key=lambda table: table.is_small):
        shown = "".join(
            f"<div><h3>{escape(table.title)}</h3>{_table(table.head, table.rows)}"
            + (f"<p class=note>{escape(table.note)}</p></div>" if table.note else "</div>")
            for table in group
        )
        parts.append(f"<div class=pair>{shown}</div>" if is_small else shown)
    return _section("Tokenizer", *parts)


def _continuation(run: RunData) -> str:
    export = run.counts["export"]
    prompt = export["prompt"]
    text = export["continuation"].removeprefix(export["prompt"])
    difference = export["max_logit_difference"]
    return _section(
        "Continuation of a prompt",
        f"<pre><b>{escape(prompt)}</b>{escape(text)}</pre>",
        f"<p class=note>By the exported model ({escape(str(export['dtype']))}), whose logits "
        "differ from the trained "
        f"engine's by at most {difference:.1e}.</p>",
    )


def _stages(run: RunData) -> str:
    rows = []
    for name, manifest in run.manifests.items():
        size = sum(record["bytes"] for record in manifest["files"].values())
        rows.append(
            [
                name,
                str(manifest["counts"].get("headline", "")),
                human_bytes(size),
                f"{manifest['seconds']:.1f}",
            ]
        )
    return _section("Stages", _table(["stage", "made", "size", "seconds"], rows, text_columns=2))


def _environment(run: RunData) -> str:
    environment = run.manifests["train"]["environment"]
    git = environment["git"]
    commit = (
        "not in a git repository"
        if git is None
        else git["commit"] + (", with local changes" if git["dirty"] else "")
    )
    rows = [[name, environment[name]] for name in ("command", "python", "platform")]
    rows += [
        ["git commit", commit],
        ["few-shot harness", f"lm-eval {run.counts['evaluate']['harness']}"],
    ]
    rows += [[name, version] for name, version in environment["versions"].items()]
    return _section(
        "Environment",
        "<div class=narrow>"
        + _table(["of the training stage", ""], rows, text_columns=2)
        + "</div>",
    )


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n" + "\n".join(parts) + "</section>"


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


Cell = str | int | float
"""A field of a table, shown as Python writes it."""


def _table(head: Sequence[str], rows: Iterable[Sequence[Cell]], text_columns: int = 1) -> str:
    """Return a table; the first columns hold text, the others figures, which stand right."""

    def cells(tag: str, values: Sequence[Cell]) -> str:
        kinds = ["text" if place < text_columns else "figure" for place in range(len(values))]
        return "".join(
            f'<{tag} class="{kind}">{escape(str(v))}</{tag}>'
            for kind, v in zip(kinds, values, strict=True)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<div class=scroll><table><thead><tr>{cells('th', head)}</tr></thead><tbody>{body}</tbody></table></div>"


def _decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
