"""What `pipeline inspect` prints: tables, histograms, documents with their token boundaries.

All text from documents passes `visible`, so that none of it can control the terminal.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from pipeline.config.run_config import RunConfig
from pipeline.corpus.documents import SPLITS
from pipeline.errors import DataError, UserError
from pipeline.harmless_text import visible
from pipeline.logs import console, human_bytes, number_or_blank, print_json
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

if TYPE_CHECKING:
    from pipeline.tokens.verify import FolderCheck

SPLIT_NAMES = {"train": "to train on", "validation": "held out"}
BAR_COLUMNS = 40
"""Maximum width of a histogram's bars, in columns."""
LEAST_BAR_COLUMNS = 10
"""Minimum width of a histogram's bars, in columns, in a narrow terminal."""
ROOMY_COLUMNS = 100
"""In a terminal narrower than this, the words of a heading stand below each other."""
META_CHARACTERS = 400
"""Maximum length of `meta`; a longer one is cut, with a remark."""
STYLES = ("black on #b3d4fc", "black on #ffe2a8")
"""Styles of tokens in turn: dark on light, readable on black and on white terminals."""
SPECIAL = "bold white on #a02c2c"
"""Style of special tokens, such as the end of a document."""
EIGHTHS = " ▏▎▍▌▋▊▉"
"""Block of N eighths of a column, by N."""


def show_inspection(
    config: RunConfig,
    question: Question,
    *,
    tokenizer: bool,
    verify: bool,
    with_ids: bool,
    as_json: bool,
) -> None:
    """Print what is asked for.

    Raises UserError for options that exclude each other, and for a document or source that does not
    exist; the message names those that do.
    """
    # One question at a time.
    options = _asked_options(question, tokenizer, verify)
    if len(options) > 1:
        raise UserError(f"{' and '.join(options)} do not go together: leave out all but one")

    # Questions about the tokenizer or the bytes do not need the documents.
    if verify:
        _verify(config.paths.data_dir, as_json)
        return
    if tokenizer:
        from pipeline.tokens.tokenizer_report import tokenizer_report

        report = tokenizer_report(config)
        if as_json:
            print_json(report)
        else:
            _print_report(report)
        return

    # Some documents, or all sources.
    data = open_data(config)
    if options:
        chosen = documents(data, question)
        if as_json:
            print_json({"documents": chosen, "notes": list(data.notes)})
        else:
            _print_documents(chosen, with_ids)
            _print_notes(data.notes)
    else:
        sources = overview(data, question)
        if as_json:
            print_json(sources)
        else:
            _print_overview(sources)
            _print_notes(data.notes)


def _asked_options(question: Question, tokenizer: bool, verify: bool) -> list[str]:
    """Return the options that ask for something else than all sources."""
    is_given = {
        "--id": question.id is not None,
        "--document": question.document is not None,
        "--samples": question.samples is not None,
        "--tokenizer": tokenizer,
        "--verify": verify,
    }
    options = [name for name, given in is_given.items() if given]
    # A source narrows down the other questions.
    is_of_sources = not (tokenizer or verify or question.id is not None)
    if question.source is not None and not is_of_sources:
        options.append("--source")
    return options


def _verify(data_dir: Path, as_json: bool) -> None:
    """Compare all bytes with the manifests, and print a line for each folder.

    Raises DataError with all problems, after the lines.
    """
    from pipeline.tokens.verify import check_fully

    checked = check_fully(data_dir)
    if as_json:
        print_json(
            {"folders": [asdict(folder) | {"folder": str(folder.folder)} for folder in checked]}
        )
    else:
        _print_folder_checks(checked, data_dir)
    problems = [problem for folder in checked for problem in folder.problems]
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        raise DataError(f"{len(problems)} problems in {data_dir}:{lines}")


def _print_folder_checks(checked: "Sequence[FolderCheck]", data_dir: Path) -> None:
    from pipeline.tokens.verify import stage_folders

    # Every finished folder, with the rate at which it was read.
    for folder in checked:
        rate = folder.bytes / 1e9 / max(folder.seconds, 1e-3)
        line = (
            f"{folder.folder}: {folder.files:,} files, {human_bytes(folder.bytes)}, {rate:.2f} GB/s"
        )
        if folder.links:
            line += (
                f"; of {folder.links:,} links size, time and 16 blocks: there is no checksum of "
                "all their bytes"
            )
        console.print(f"{line}; {len(folder.problems) or 'no'} problems")

    # Folders without a manifest to compare with.
    finished = [folder.folder for folder in checked]
    for folder in stage_folders(data_dir):
        if folder not in finished:
            console.print(f"{folder}: is not finished, so there is nothing to compare with")


def _print_notes(notes: Sequence[str]) -> None:
    for text in notes:
        console.print(f"\nnote: {text}", style="yellow")


def _print_overview(sources: Overview) -> None:
    """Print a table of all sources, then the lengths and a sample of each."""
    rows: list[list[str]] = []
    for name, source in sources["sources"].items():
        has_text = name not in sources["sources_without_text"]
        for split in SPLITS:
            rows.append(_overview_row(name, source, split, has_text))
    _print_table(["source", "", "documents", "text", "tokens", "bytes per token"], rows)
    for name, source in sources["sources"].items():
        _print_source(name, source, sources["split"])


def _overview_row(name: str, source: SourceOverview, split: str, has_text: bool) -> list[str]:
    # The first line of a source names it.
    title = ""
    if split == SPLITS[0]:
        title = name
    size = "—"
    ratio = "—"
    if has_text:
        size = human_bytes(source["text_bytes"][split])
        ratio = number_or_blank(source["bytes_per_token"][split], ".2f")
    return [
        title,
        SPLIT_NAMES[split],
        f"{source['documents'][split]:,}",
        size,
        number_or_blank(source["tokens"][split], ","),
        ratio,
    ]


def _print_source(name: str, source: SourceOverview, split: str) -> None:
    lengths = source["lengths"]
    console.print(Text(f"\n{name}", style="bold"))
    if lengths is None:
        console.print(f"no documents in {split}", style="dim")
        return

    # The lengths of its documents.
    count = f"{lengths['documents']:,}"
    if lengths["documents"] < lengths["of_documents"]:
        count += f" of {lengths['of_documents']:,}"
    console.print(
        f"{lengths['unit']} per document: median {lengths['median']:,}, mean "
        f"{lengths['mean']:,.0f}, p99 {lengths['p99']:,}, "
        f"max {lengths['max']:,} ({count} {split} documents)",
        style="dim",
    )
    columns = max(LEAST_BAR_COLUMNS, min(BAR_COLUMNS, console.width - 40))
    for line in histogram(lengths["buckets"], columns):
        console.print(line)

    # The beginning of one document.
    sample = source["sample"]
    if sample is not None:
        console.print(Text(f"{visible(sample['id'])}:", style="dim"))
        console.print(Text(_beginning(sample)), soft_wrap=False)


def _beginning(document: ShownDocument) -> str:
    """Return the text of the shown tokens, or of the shown characters, with `…` where it is cut."""
    text = document["text"]
    tokens = document["tokens"]
    if tokens is not None and tokens["shown"]:
        text = "".join(token["text"] for token in tokens["shown"])
    if document["characters_shown"] < document["characters"]:
        return f"{visible(text)} …"
    return visible(text)


def histogram(buckets: Sequence[Bucket], columns: int) -> list[str]:
    """Return a line for each bucket: its range, its number of documents, a bar.

    Bars are at most `columns` wide, in eighths of a column; any document makes its bar visible.
    """
    fullest = max(bucket["documents"] for bucket in buckets)
    ranges = [f"{bucket['from']:,} - {max(bucket['to'] - 1, 0):,}" for bucket in buckets]
    range_width = max(map(len, ranges))
    count_width = len(f"{fullest:,}")
    lines: list[str] = []
    for bucket, name in zip(buckets, ranges, strict=True):
        full, eighths = divmod(-(-bucket["documents"] * columns * 8 // fullest), 8)
        bar = "█" * full + EIGHTHS[eighths]
        count = f"{bucket['documents']:>{count_width},}"
        lines.append(f"  {name:>{range_width}}  {count}  {bar}".rstrip())
    return lines


def _print_documents(chosen: Sequence[ShownDocument], with_ids: bool) -> None:
    for place, document in enumerate(chosen):
        if place > 0:
            console.print()
        _print_document(document, with_ids)


def _print_document(document: ShownDocument, with_ids: bool) -> None:
    # Its name, origin and size.
    tokens = document["tokens"]
    console.print(
        Text(visible(document["id"]), style="bold"), Text(f"({document['split']})", style="dim")
    )
    meta = visible(document["meta"])
    if len(meta) > META_CHARACTERS:
        meta = f"{meta[:META_CHARACTERS]} … (all of it: --json)"
    size = f"{document['text_bytes']:,} bytes, {document['characters']:,} characters"
    reasons = document.get("removed", [])
    if reasons:
        _print_fact("removed", f"{', '.join(reasons)} (`pipeline explain` tells more)")
    elif tokens is None:
        size += ", no tokens yet"
    if tokens is not None:
        size += f", {tokens['count']:,} tokens ({tokens['from']})"
    _print_fact("from", f"{visible(document['origin_file'])}, row {document['origin_row']}")
    # Ids that existed already have no meta.
    if meta:
        _print_fact("meta", meta)
    _print_fact("size", size)

    # Its text, with the ends of tokens where they are known.
    left = ""
    if tokens is None:
        console.print(Text(visible(document["text"], "↵\n")))
        if document["characters_shown"] < document["characters"]:
            left = f"{document['characters'] - document['characters_shown']:,} more characters"
    else:
        has_colour = console.color_system is not None and not console.no_color
        console.print(boundaries(tokens["shown"], has_colour))
        if len(tokens["shown"]) < tokens["count"]:
            left = f"{tokens['count'] - len(tokens['shown']):,} more tokens"
    if left:
        console.print(f"… {left}; all: --characters {document['characters']}", style="dim")
    if with_ids and tokens is not None:
        _print_fact("ids", " ".join(str(token["id"]) for token in tokens["shown"]), " ")


def _print_fact(name: str, value: str, space: str = "  ") -> None:
    console.print(Text(f"{name}{space}", style="dim") + Text(value))


def boundaries(tokens: Sequence[ShownToken], has_colour: bool) -> Text:
    """Return the text of tokens on backgrounds that alternate; without colour, with `|` between.

    A line feed is `↵` and then a new line. The bytes of a token that is not whole characters are
    `<E4>`, underlined.
    """
    text = Text(no_wrap=True)
    for place, token in enumerate(tokens):
        style = ""
        if has_colour:
            style = _token_style(token, place)
        elif place > 0:
            text.append("|")
        # Line feeds get no background, which some terminals would draw to the edge.
        lines = visible(token["text"], "↵\n").split("\n")
        for line in lines[:-1]:
            text.append(line, style)
            text.append("\n")
        text.append(lines[-1], style)
    return text


def _token_style(token: ShownToken, place: int) -> str:
    if token["special"]:
        return SPECIAL
    style = STYLES[place % 2]
    if token["bytes"]:
        style += " underline"
    return style


def _print_report(report: TokenizerReport) -> None:
    from pipeline.tokens.tokenizer_tables import tables, vocabulary_line

    console.print(Text(vocabulary_line(report["tokenizer"])), soft_wrap=False)
    for table in tables(report):
        console.print(Text(f"\n{table.title}", style="bold"))
        _print_table(table.head, table.rows)
        if table.note:
            console.print(Text(table.note, style="dim"), soft_wrap=False)


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print strings as a table, the first column aligned to the left, the others to the right.

    In a terminal that is too narrow lines wrap, but no number is cut.
    """
    headings = list(head)
    if console.width < ROOMY_COLUMNS:
        headings[1:] = [heading.replace(" ", "\n") for heading in headings[1:]]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for place, heading in enumerate(headings):
        width = max(map(len, [*heading.split("\n"), *(row[place] for row in rows)]))
        table.add_column(heading, justify="right", min_width=width)
    table.columns[0].justify = "left"
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
