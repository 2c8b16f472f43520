"""What `pipeline inspect --signals` prints: quantiles of each signal, and documents at one of them.

Reads annotations and documents; writes the page, where one is asked for.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.config.run_config import RunConfig
from pipeline.corpus.distributions.signal_values import (
    Cut,
    SourceValues,
    cuts,
    documents_at,
    quantiles,
    signal_values,
)
from pipeline.corpus.documents import read_documents, shard_path
from pipeline.errors import UserError
from pipeline.harmless_text import visible
from pipeline.logs import note, print_json, print_piece
from pipeline.reporting.signals.signals_page import SHARES, removed_share, signals_page
from pipeline.store.files import write_atomic
from pipeline.store.layout import data_folder

NUMBER_WIDTH = 10
"""Columns of a number with three digits, such as `-1.23e-05`, and of the blank before it."""
SHORT_CHARACTERS = 200
"""Characters of a document at a quantile that are shown, unless another number is asked for."""
SHOWN_DOCUMENTS = 3
"""Documents of each source that are shown at a quantile."""


def show_signals(
    config: RunConfig,
    *,
    source: str | None,
    signal: str | None,
    quantile: float | None,
    characters: int | None,
    page: Path | None,
    as_json: bool,
) -> None:
    """Print how signals are distributed, or the documents at a quantile of one; write the page.

    Raises UserError for a quantile without a signal, and for names that do not exist; DataError where
    there are no annotations.
    """
    if quantile is not None and signal is None:
        raise UserError("--quantile: of which signal? Add --signal NAME")
    found = signal_values(config, source, signal)
    rules = cuts(config)
    if page is not None:
        write_atomic(page, signals_page(found, rules))
        note(f"inspect: {page}")
        return
    if quantile is not None:
        _show_documents(config, found, quantile, characters or SHORT_CHARACTERS)
        return
    if as_json:
        print_json([_described(name, each, rules) for each in found for name in each.values])
        return
    for line in _signal_lines(found, rules):
        print_piece(f"{line}\n")
    read = [f"{each.source} {len(each.ids):,} of {each.documents:,}" for each in found]
    note(f"documents read: {', '.join(read)}")


def _described(name: str, found: SourceValues, rules: Sequence[Cut]) -> dict[str, object]:
    """Return the distribution of a signal in a source as JSON."""
    values = found.values[name]
    return {
        "signal": name,
        "source": found.source,
        "documents": len(values),
        "undefined": int(np.isnan(values).sum()),
        "quantiles": dict(zip(map(str, SHARES), quantiles(values, SHARES), strict=True)),
        "removed_by": {
            cut.rule: removed_share(values, cut) for cut in rules if cut.comparison.left == name
        },
    }


def _signal_lines(found: Sequence[SourceValues], rules: Sequence[Cut]) -> Iterator[str]:
    """Yield the lines about all signals: the name alone, then a line a source, then one a rule.

    A line of numbers has the same width for all signals, within 80 columns for usual names of sources.
    """
    heads = ["undefined", *(f"{share:.0%}" for share in SHARES)]
    first = max(len(each.source) for each in found)
    yield "  " + " " * first + _aligned(heads)
    for name in dict.fromkeys(name for each in found for name in each.values):
        yield name
        for each in found:
            values = each.values[name]
            at = ["" if value is None else f"{value:.3g}" for value in quantiles(values, SHARES)]
            undefined = f"{np.isnan(values).mean():.1%}"
            yield f"  {each.source:{first}}{_aligned([undefined, *at])}"
        own = [cut for cut in rules if cut.comparison.left == name]
        yield from (f"    {_removal_text(name, cut, found)}" for cut in own)


def _aligned(cells: Sequence[str]) -> str:
    return "".join(f"{cell:>{NUMBER_WIDTH}}" for cell in cells).rstrip()


def _removal_text(name: str, cut: Cut, found: Sequence[SourceValues]) -> str:
    """Return what a rule removes of each source, without the sources that it leaves whole."""
    shares = {each.source: removed_share(each.values[name], cut) for each in found}
    parts = [f"{share:.1%} of {source}" for source, share in shares.items() if share]
    return f"{cut.rule} removes {', '.join(parts) or 'nothing'}"


def _show_documents(
    config: RunConfig, found: Sequence[SourceValues], quantile: float, characters: int
) -> None:
    """Print the documents of each source around a quantile: value, id and beginning."""
    for each in found:
        for name, values in each.values.items():
            for place in documents_at(each, name, quantile, SHOWN_DOCUMENTS):
                identity = each.ids[place]
                source, stem, row = identity.rsplit("/", 2)
                path = shard_path(data_folder(config).documents, source, stem)
                (document,) = read_documents(path, [int(row)], ["text"])
                beginning = visible(document["text"][:characters])
                print_piece(f"{name} = {values[place]:.6g}  {identity}\n    {beginning}\n")
