"""How much each reason removes: the counts of the stage, and when they stop it. Reads nothing."""

from collections.abc import Iterator, Mapping, Sequence

from pipeline.config.run_config import RunConfig
from pipeline.corpus.selecting.conclude import ConcludedShards, empty_counts
from pipeline.corpus.selecting.judged_shards import ShardGroup
from pipeline.corpus.selecting.token_estimates import estimated_tokens
from pipeline.errors import DataError
from pipeline.logs import human_bytes
from pipeline.store.curation.selection_folder import SelectionFolder
from pipeline.store.curation.verdict_counts import SelectCounts, SplitVerdicts, by_frequency


def added_counts(
    config: RunConfig, groups: Sequence[ShardGroup], concluded: Mapping[str, ConcludedShards]
) -> SelectCounts:
    """Return the counts of all groups by source and split."""
    sources: dict[str, dict[str, SplitVerdicts]] = {name: {} for name in config.sources_with_text}
    for group in groups:
        splits = sources[group.shards[0].source]
        for split, counts in concluded[group.name]["splits"].items():
            _add(splits.setdefault(split, empty_counts()), counts)
    return {"sources": sources, "clamped_spans": 0}


def _add(total: SplitVerdicts, counts: SplitVerdicts) -> None:
    total["documents"] += counts["documents"]
    total["text_bytes"] += counts["text_bytes"]
    total["kept"] += counts["kept"]
    total["kept_bytes"] += counts["kept_bytes"]
    total["cut"] += counts["cut"]
    for reason, removed in counts["removed"].items():
        of_reason = total["removed"].setdefault(reason, {"documents": 0, "text_bytes": 0})
        of_reason["documents"] += removed["documents"]
        of_reason["text_bytes"] += removed["text_bytes"]


def together(splits: Mapping[str, SplitVerdicts]) -> SplitVerdicts:
    """Return the counts of several splits or sources together."""
    total = empty_counts()
    for counts in splits.values():
        _add(total, counts)
    return total


def refuse_wrong_counts(config: RunConfig, folder: SelectionFolder, counts: SelectCounts) -> None:
    """Raise DataError where a reason removes more than it may, or a source loses everything.

    The message has the numbers, and the lines that would allow them. `folder`: of the samples.
    Raises RuntimeError where the documents that are kept and removed are not all documents.
    """
    section = config.select
    assert section is not None, "the stage is asked for"

    # Reasons that take too much, and sources of which nothing is left.
    problems: list[str] = []
    lines: dict[str, float] = {}
    for source, splits in counts["sources"].items():
        total = together(splits)
        _check_sum(source, total)
        for reason, removed in total["removed"].items():
            share = removed["documents"] / total["documents"]
            allowed = section.share_allowed(reason)
            if share > allowed:
                problems.append(
                    f"source {source}: {reason} removes {removed['documents']:,} of "
                    f"{total['documents']:,} documents ({share:.1%}, "
                    f"{human_bytes(removed['text_bytes'])}); select.max_removed allows {allowed:.1%}"
                )
                lines[reason] = max(share, lines.get(reason, 0.0))
        training = splits.get("train", empty_counts())
        if training["documents"] and not training["kept"]:
            problems.append(
                f"source {source}: no document is left to train on: "
                f"{removed_in_words(training)}. Loosen these filters, or leave the source out."
            )
    if not problems:
        return

    # The lines that would allow it.
    remedy = ""
    if lines:
        wanted = ", ".join(f'"{reason}": {_rounded_up(share)}' for reason, share in lines.items())
        remedy = (
            "\nA wrong filter is found by how much it removes. Look at samples in "
            f"{folder.samples(next(iter(lines)))} and beside it; correct the "
            "filter, or where that much is right, add to the run file:\n"
            f"  select: {{max_removed: {{{wanted}}}}}"
        )
    raise DataError("\n".join(problems) + remedy)


def _check_sum(source: str, total: SplitVerdicts) -> None:
    removed = sum(reason["documents"] for reason in total["removed"].values())
    removed_bytes = sum(reason["text_bytes"] for reason in total["removed"].values())
    is_whole = total["kept"] + removed == total["documents"]
    if not is_whole or total["kept_bytes"] + removed_bytes != total["text_bytes"]:
        raise RuntimeError(
            f"source {source}: {total['kept']} documents kept and {removed} removed are not all of "
            f"its {total['documents']}"
        )


def _rounded_up(share: float) -> float:
    """Return a share with two digits that is not below it."""
    return min(1.0, -(-share * 100 // 1) / 100)


def removed_in_words(counts: SplitVerdicts) -> str:
    """Return the reasons with their documents, the most frequent first."""
    return ", ".join(
        f"{removed['documents']:,} {reason}" for reason, removed in by_frequency(counts)
    )


def headline(counts: SelectCounts) -> str:
    """Return the line that the stage ends with."""
    total = empty_counts()
    for splits in counts["sources"].values():
        _add(total, together(splits))
    removed = total["documents"] - total["kept"]
    line = (
        f"{total['kept']:,} of {total['documents']:,} documents kept "
        f"({human_bytes(total['kept_bytes'])} of {human_bytes(total['text_bytes'])}); "
        f"{removed:,} removed"
    )
    if removed:
        line += f": {removed_in_words(total)}"
    if total["cut"]:
        line += f"; parts replaced in {total['cut']:,}"
    return line


def closing_lines(counts: SelectCounts, ratios: Mapping[str, float]) -> list[str]:
    """Return a line for each source and reason, for each source that has lost all its held-out
    documents, and one for spans that do not fit their text.

    `ratios`: bytes per token of sources that have been tokenized before.
    """
    lines = list(_lines_of_sources(counts, ratios))
    lines += _lines_of_lost_validation(counts)
    if counts["clamped_spans"]:
        lines.append(
            f"{counts['clamped_spans']:,} parts to replace end behind their text: cut at its end"
        )
    return lines


def _lines_of_lost_validation(counts: SelectCounts) -> Iterator[str]:
    """Yield a warning for each source of whose held-out documents none is left.

    It is no error: the source can be trained on, and where it is added last, that its few held-out
    documents are copies of those of earlier sources is no mistake of a filter.
    """
    for source, splits in counts["sources"].items():
        held_out = splits.get("validation", empty_counts())
        if held_out["documents"] and not held_out["kept"]:
            yield (
                f"WARNING: source {source}: none of its {held_out['documents']:,} held-out documents "
                f"is left ({removed_in_words(held_out)}), so it gets no validation loss and no bits "
                "per byte. Loosen these filters, or hold out more of it "
                f"(sources.{source}.validation_fraction)."
            )


def _lines_of_sources(counts: SelectCounts, ratios: Mapping[str, float]) -> Iterator[str]:
    for source, splits in counts["sources"].items():
        for split, verdicts in splits.items():
            if not verdicts["removed"]:
                continue
            share = 1 - verdicts["kept"] / verdicts["documents"]
            yield (
                f"source {source}, {split}: {share:.1%} of {verdicts['documents']:,} documents "
                "removed:"
            )
            for reason, removed in by_frequency(verdicts):
                line = f"  {reason}: {removed['documents']:,}, {human_bytes(removed['text_bytes'])}"
                tokens = estimated_tokens(removed["text_bytes"], ratios.get(source))
                if tokens:
                    rate = f"{ratios[source]:.2f} bytes per token of data_dir/tokens"
                    line += f", {tokens} tokens (by the {rate})"
                yield line
