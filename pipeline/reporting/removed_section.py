"""The section of the page on documents that `select` has removed: by source, split and reason."""

from collections.abc import Iterator

from pipeline.corpus.selecting.token_estimates import bytes_per_token, estimated_tokens
from pipeline.logs import human_bytes
from pipeline.reporting.page import Cell, html_table, note_below, section
from pipeline.reporting.run_data import RunData
from pipeline.store.counts import TokenCounts
from pipeline.store.curation.verdict_counts import SelectCounts, SplitVerdicts, by_frequency


def removed_section(run: RunData) -> str:
    """Return what was kept and removed; "" where the run file selects nothing."""
    if "select" not in run.manifests:
        return ""
    counts: SelectCounts = run.manifests["select"]["counts"]
    tokens = run.counts["tokenize"]
    ratios = bytes_per_token(tokens)

    # Of each source and split what is kept, then what each reason removes.
    rows = [
        row
        for source, splits in counts["sources"].items()
        for split, verdicts in splits.items()
        for row in _rows(
            source, split, verdicts, tokens["sources"][source].get(split), ratios.get(source)
        )
    ]
    return section(
        "Kept and removed documents",
        html_table(
            ["source", "", "", "documents", "share", "text", "tokens"], rows, text_columns=3
        ),
        note_below(
            "Each removed document is counted at its first reason. Tokens of what is kept are "
            "exact, without the parts that are cut. Removed documents are never tokenized, so their "
            "tokens stay estimates: their bytes, by the bytes per token of what is kept of the "
            "source, held-out text included. <code>pipeline "
            "explain RUN --document ID</code> shows why a document was removed."
        ),
    )


def _rows(
    source: str, split: str, verdicts: SplitVerdicts, kept: TokenCounts | None, ratio: float | None
) -> Iterator[list[Cell]]:
    """Yield the row of what is kept, then one a reason, the most frequent first."""
    documents = verdicts["documents"]
    exact = f"{kept['tokens']:,}" if kept is not None else ""
    text = human_bytes(verdicts["kept_bytes"])
    share = verdicts["kept"] / max(documents, 1)
    yield [source, split, "kept", f"{verdicts['kept']:,}", f"{share:.1%}", text, exact]
    for reason, removed in by_frequency(verdicts):
        yield [
            source,
            split,
            reason,
            f"{removed['documents']:,}",
            f"{removed['documents'] / documents:.1%}",
            human_bytes(removed["text_bytes"]),
            estimated_tokens(removed["text_bytes"], ratio),
        ]
