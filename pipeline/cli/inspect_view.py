"""What `pipeline inspect` prints: tables, histograms, documents with their token boundaries.

Everything that comes from documents passes `visible`, so that no text can act on the terminal.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table
from rich.text import Text

from pipeline.config.run_config import RunConfig
from pipeline.corpus.documents import SPLITS
from pipeline.errors import DataError, UserError
from pipeline.logs import console, human_bytes, print_json, visible
from pipeline.tokens.inspect import documents, overview
from pipeline.tokens.inspected_data import (
    Bucket,
    Overview,
    Question,
    ShownDocument,
    ShownToken,
    SourceOverview,
    open_data,
)
from pipeline.tokens.tokenizer_figures import TokenizerReport

SPLIT_NAMES = {"train": "to train on", "validation": "held out"}
BAR_COLUMNS = 40
ROOMY_COLUMNS = 100
"""In a narrower terminal the words of a heading stand below each other."""
META_CHARACTERS = 400
"""Longer meta is cut, with a line saying so."""
STYLES = ("black on #b3d4fc", "black on #ffe2a8")
"""Styles of tokens in turn: dark on light, which black and white terminals both show."""
SPECIAL = "bold white on #a02c2c"
"""Style of special tokens, such as the end of a document."""


def show_inspection(
    config: RunConfig,
    question: Question,
    *,
    tokenizer: bool,
    verify: bool,
    with_ids: bool,
    as_json: bool,
) -> None:
    """Print what is asked for. Raises UserError for what does not exist, saying what there is, or
    does not go together."""
    # One question at a time.
    one_or_more = {
        "--id": question.id,
        "--document": question.document,
        "--samples": question.samples,
    }
    asked = [name for name, value in one_or_more.items() if value is not None]
    asked += ["--tokenizer"] * tokenizer + ["--verify"] * verify
    asked += ["--source"] * (
        question.source is not None and (tokenizer or verify or question.id is not None)
    )
    if len(asked) > 1:
        raise UserError(f"{' and '.join(asked)} do not go together: leave out all but one")
    # Questions about the tokenizer or the bytes do not need the documents.
    if verify:
        _verify(config.paths.data_dir, as_json)
        return
    if tokenizer:
        from pipeline.tokens.tokenizer_report import tokenizer_report

        report = tokenizer_report(config)
        print_json(report) if as_json else _print_report(report)
        return
    # Some documents, or all sources.
    data = open_data(config)
    if asked:
        found = documents(data, question)
        if as_json:
            print_json({"documents": found, "notes": list(data.notes)})
        for place, document in enumerate([] if as_json else found):
            if place:
                console.print()
            _print_document(document, with_ids)
    else:
        whole = overview(data, question)
        print_json(whole) if as_json else _print_overview(whole)
    if not as_json:
        _print_notes(data.notes)


def _verify(data_dir: Path, as_json: bool) -> None:
    """Print a line for each folder. Raises DataError with all problems, after them."""
    from pipeline.tokens.verify import check_fully, stage_folders

    # Every finished folder, with the rate at which it was read.
    checked = check_fully(data_dir)
    problems = [problem for folder in checked for problem in folder.problems]
    if as_json:
        print_json(
            {"folders": [asdict(folder) | {"folder": str(folder.folder)} for folder in checked]}
        )
    for folder in [] if as_json else checked:
        rate = folder.bytes / 1e9 / max(folder.seconds, 1e-3)
        line = (
            f"{folder.folder}: {folder.files:,} files, {human_bytes(folder.bytes)}, {rate:.2f} GB/s"
        )
        if folder.links:
            line += f"; of {folder.links:,} links size, time and 16 blocks: there is no checksum of all their bytes"
        console.print(f"{line}; {len(folder.problems) or 'no'} problems")
    # Folders without a manifest to compare with.
    found = [folder.folder for folder in checked]
    for folder in [] if as_json else stage_folders(data_dir):
        if folder not in found:
            console.print(f"{folder}: is not finished, so there is nothing to compare with")
    if problems:
        raise DataError(
            "\n".join(
                [f"{len(problems)} problems in {data_dir}:", *(f"  - {line}" for line in problems)]
            )
        )


def _print_notes(notes: Sequence[str]) -> None:
    for text in notes:
        console.print(f"\nnote: {text}", style="yellow")


def _print_overview(whole: Overview) -> None:
    rows = []
    for name, source in whole["sources"].items():
        for split in SPLITS:
            tokens = source["tokens"][split]
            ratio = source["bytes_per_token"][split]
            size = human_bytes(source["text_bytes"][split])
            shown_ratio = "" if ratio is None else f"{ratio:.2f}"
            if name in whole["sources_without_text"]:
                size = shown_ratio = "—"
            counted = [
                f"{source['documents'][split]:,}",
                size,
                "" if tokens is None else f"{tokens:,}",
                shown_ratio,
            ]
            rows.append([name if split == SPLITS[0] else "", SPLIT_NAMES[split], *counted])
    _print_table(["source", "", "documents", "text", "tokens", "bytes per token"], rows)
    for name, source in whole["sources"].items():
        _print_source(name, source, whole["split"])


def _print_source(name: str, source: SourceOverview, split: str) -> None:
    found = source["lengths"]
    console.print(Text(f"\n{name}", style="bold"))
    if found is None:
        console.print(f"no documents in {split}", style="dim")
        return
    # How long its documents are.
    part = found["documents"] < found["of_documents"]
    count = (
        f"{found['documents']:,} of {found['of_documents']:,}"
        if part
        else f"{found['documents']:,}"
    )
    console.print(
        f"{found['unit']} per document: median {found['median']:,}, mean {found['mean']:,.0f}, p99 "
        f"{found['p99']:,}, "
        f"max {found['max']:,} ({count} {split} documents)",
        style="dim",
    )
    for line in histogram(found["buckets"], max(10, min(BAR_COLUMNS, console.width - 40))):
        console.print(line)
    # How one of them begins.
    sample = source["sample"]
    if sample:
        tokens = sample["tokens"]
        start = sample["text"]
        if tokens is not None and tokens["shown"]:
            start = "".join(token["text"] for token in tokens["shown"])
        more = " …" if sample["characters_shown"] < sample["characters"] else ""
        console.print(Text(f"{visible(sample['id'])}:", style="dim"))
        console.print(Text(f"{visible(start)}{more}"), soft_wrap=False)


def histogram(buckets: Sequence[Bucket], columns: int) -> list[str]:
    """Return a line for each bucket: its range, its documents, a bar in eighths of a column (any
    document shows)."""
    most = max(bucket["documents"] for bucket in buckets)
    ranges = [f"{bucket['from']:,} - {max(bucket['to'] - 1, 0):,}" for bucket in buckets]
    widths = max(map(len, ranges)), len(f"{most:,}")
    lines = []
    for bucket, name in zip(buckets, ranges, strict=True):
        eighths = -(-bucket["documents"] * columns * 8 // most)
        bar = "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")
        lines.append(f"  {name:>{widths[0]}}  {bucket['documents']:>{widths[1]},}  {bar}".rstrip())
    return lines


def _print_document(document: ShownDocument, with_ids: bool) -> None:
    # What it is and where it comes from.
    tokens = document["tokens"]
    meta = visible(document["meta"])
    console.print(
        Text(visible(document["id"]), style="bold"), Text(f"({document['split']})", style="dim")
    )
    if len(meta) > META_CHARACTERS:
        meta = f"{meta[:META_CHARACTERS]} … (all of it: --json)"
    size = f"{document['text_bytes']:,} bytes, {document['characters']:,} characters"
    if tokens is None:
        size += ", no tokens yet"
    else:
        size += f", {tokens['count']:,} tokens ({tokens['from']})"
    origin = f"{visible(document['origin_file'])}, row {document['origin_row']}"
    for name, value in (("from", origin), ("meta", meta), ("size", size)):
        if not value:  # of ids that existed there is no meta
            continue
        console.print(Text(f"{name}  ", style="dim") + Text(value))
    # Its text, with the ends of tokens where they are known.
    has_colour = console.color_system is not None and not console.no_color
    console.print(
        Text(visible(document["text"], "↵\n"))
        if tokens is None
        else boundaries(tokens["shown"], has_colour)
    )
    if tokens is not None and len(tokens["shown"]) < tokens["count"]:
        left = f"{tokens['count'] - len(tokens['shown']):,} more tokens"
        console.print(f"… {left}; all: --characters {document['characters']}", style="dim")
    elif tokens is None and document["characters_shown"] < document["characters"]:
        left = f"{document['characters'] - document['characters_shown']:,} more characters"
        console.print(f"… {left}; all: --characters {document['characters']}", style="dim")
    if with_ids and tokens is not None:
        console.print(
            Text("ids ", style="dim")
            + Text(" ".join(str(token["id"]) for token in tokens["shown"]))
        )


def boundaries(tokens: Sequence[ShownToken], has_colour: bool) -> Text:
    """Return the text of tokens on backgrounds that alternate, or with `|` between them where there
    is no colour.

    A line feed is `↵` and then a new line; the bytes of a token that is not whole characters are
    `<E4>`, underlined.
    """
    text = Text(no_wrap=True)
    for place, token in enumerate(tokens):
        if place and not has_colour:
            text.append("|")
        style = ""
        if has_colour:
            style = (
                SPECIAL
                if token["special"]
                else STYLES[place % 2] + (" underline" if token["bytes"] else "")
            )
        for number, line in enumerate(visible(token["text"], "↵\n").split("\n")):
            if number:
                text.append(
                    "\n"
                )  # without a background, which some terminals would draw to the edge
            text.append(line, style)
    return text


def _print_report(report: TokenizerReport) -> None:
    from pipeline.tokens.tokenizer_tables import tables, vocabulary_line

    console.print(Text(vocabulary_line(report["tokenizer"])), soft_wrap=False)
    for table in tables(report):
        console.print(Text(f"\n{table.title}", style="bold"))
        _print_table(table.head, table.rows)
        if table.note:
            console.print(Text(table.note, style="dim"), soft_wrap=False)


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print ready text, figures standing right. A terminal that is too narrow breaks the lines; no
    figure is cut."""
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for place, heading in enumerate(head):
        stacked = heading.replace(" ", "\n") if place and console.width < ROOMY_COLUMNS else heading
        width = max(map(len, [*stacked.split("\n"), *(row[place] for row in rows)]))
        shown.add_column(stacked, justify="right" if place else "left", min_width=width)
    for row in rows:
        shown.add_row(*map(Text, row))
    console.print(shown)
