"""What raw rows lose: rejected rows, and values of meta that became null. Counted by tasks, put
into words by the stage."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import orjson

from pipeline.corpus.rows import Reject, Row
from pipeline.errors import first_of
from pipeline.store.counts import LossCounts, PreparedSource, RejectedInFiles

SAMPLES_PER_REASON = 20
"""Rejected rows that a task keeps of each reason; all are counted."""
NAMED_FILES = 3
"""Files named of those that have rows rejected for a reason; all are counted."""
NAMED_KEYS = 50
"""Keys and columns that are counted by name; what is met after them is counted under `OTHERS`."""
SHOWN_KEYS = 10
OTHERS = "(others)"


class Losses:
    """The count of one task, whose files are read one after another."""

    def __init__(self) -> None:
        self._rejected: Counter[str] = Counter()
        self._files: dict[str, list[str]] = {}
        self._samples: dict[str, dict[str, list[bytes]]] = {}
        self._keys: Counter[str] = Counter()
        self._nulls: Counter[str] = Counter()

    def count_reject(self, row: Reject, file: str) -> None:
        """Count a rejected row, and keep it as a sample where there is room for it."""
        self._rejected[row.reason] += 1
        files = self._files.setdefault(row.reason, [])
        if file not in files[-1:]:
            files.append(file)
        for key in row.keys:
            _count(self._keys, key, 1)
        samples = self._samples.setdefault(row.reason, {})
        if sum(map(len, samples.values())) >= SAMPLES_PER_REASON and not _make_room(samples, file):
            return
        sample = {"file": file, "row": row.origin_row, "reason": row.reason, "excerpt": row.excerpt}
        samples.setdefault(file, []).append(orjson.dumps(sample))

    def count_nulls(self, row: Row) -> None:
        """Count the columns of a document of which something became null."""
        for column in row.nulls:
            _count(self._nulls, column, 1)

    def samples(self) -> bytes:
        """Return the kept rows as JSON lines, in the order of their reasons and files."""
        lines = [
            line
            for files in self._samples.values()
            for of_file in files.values()
            for line in of_file
        ]
        return b"".join(line + b"\n" for line in lines)

    def counts(self) -> LossCounts:
        """Return all counts as JSON values, as `add_up_losses` takes them."""
        files: dict[str, RejectedInFiles] = {
            reason: {"count": len(names), "first": names[:NAMED_FILES]}
            for reason, names in sorted(self._files.items())
        }
        return {
            "rejected": dict(sorted(self._rejected.items())),
            "rejected_in_files": files,
            "keys_without_text": dict(self._keys),
            "null_values": dict(self._nulls),
        }


def _make_room(samples: dict[str, list[bytes]], file: str) -> bool:
    """Drop the last sample of the file that has most of them, in favour of one that would have
    fewer."""
    fullest = max(samples, key=lambda name: len(samples[name]))
    if len(samples[fullest]) <= len(samples.get(file, [])) + 1:
        return False
    samples[fullest].pop()
    return True


def _count(counter: Counter[str], name: str, count: int) -> None:
    counter[name if name in counter or len(counter) < NAMED_KEYS else OTHERS] += count


def add_up_losses(results: Iterable[LossCounts]) -> LossCounts:
    """Return the counts of several tasks together, in the same form."""
    rejected: Counter[str] = Counter()
    files: dict[str, RejectedInFiles] = {}
    keys: Counter[str] = Counter()
    nulls: Counter[str] = Counter()
    for result in results:
        rejected.update(result["rejected"])
        for reason, of_task in result["rejected_in_files"].items():
            together = files.setdefault(reason, {"count": 0, "first": []})
            together["count"] += of_task["count"]
            together["first"] = (together["first"] + of_task["first"])[:NAMED_FILES]
        for counter, counts in (
            (keys, result["keys_without_text"]),
            (nulls, result["null_values"]),
        ):
            for name, count in counts.items():
                _count(counter, name, count)
    return {
        "rejected": dict(rejected),
        "rejected_in_files": files,
        "keys_without_text": dict(keys),
        "null_values": dict(nulls),
    }


def loss_lines(source: str, counts: PreparedSource, text_field: str) -> list[str]:
    """Return what a source lost, a line for each kind of loss; none where it lost nothing."""
    lines = []
    if counts["rejected"]:
        rows = sum(counts["rejected"].values()) + sum(counts["documents"].values())
        lines.append(
            f"source {source}: rejected of {rows:,} rows: {_reasons(counts)}; samples in "
            f"documents/{source}/rejected below "
            f"data_dir"
        )
    if counts["keys_without_text"]:
        lines.append(
            f"source {source}: rows without {text_field!r} have the keys "
            f"{_keys(counts['keys_without_text'])}"
        )
    if counts["null_values"]:
        columns = ", ".join(f"{name} {count:,}" for name, count in counts["null_values"].items())
        lines.append(
            f"source {source}: values of meta that JSON cannot hold became null; rows by column: "
            f"{columns}"
        )
    return lines


def explain_too_many_rejects(
    source: str,
    counts: PreparedSource,
    most: float,
    samples: Path,
    has_text_field: bool,
    text_field: str,
) -> str:
    """Return what is wrong with a source of which more than `most` of the rows are rejected, and
    what to do."""
    rejected = sum(counts["rejected"].values())
    documents = sum(counts["documents"].values())
    rows = rejected + documents
    remedies = _remedies(source, counts, has_text_field, text_field)
    if documents:
        remedies.append("raise prepare.max_bad_rows")
    return (
        f"source {source}: {rejected:,} of {rows:,} rows ({rejected / rows:.2%}) are no documents, "
        "more than "
        f"prepare.max_bad_rows = {most} allows: {_reasons(counts)}. Samples: {samples}. "
        f"{'; or '.join(remedies)}."
    )


def explain_no_document(
    source: str, counts: PreparedSource, samples: Path, has_text_field: bool, text_field: str
) -> str:
    """Return why a source holds no document although `prepare` was told to take it as it is, and
    what to do."""
    lines = [f"source {source}: its {counts['input_files']:,} input files hold no document."]
    if counts["rejected"]:
        remedies = "; or ".join(_remedies(source, counts, has_text_field, text_field))
        lines.append(f"Rows rejected: {_reasons(counts)}. Samples: {samples}. {remedies}.")
    lines += [f"{file} {why}." for file, why in list(counts["broken_files"].items())[:NAMED_FILES]]
    lines.append(f"Correct sources.{source}.paths or remove the source.")
    return " ".join(lines)


def _remedies(
    source: str, counts: PreparedSource, has_text_field: bool, text_field: str
) -> list[str]:
    """Return what may turn a source's rejected rows into documents."""
    remedies = []
    if counts["keys_without_text"]:
        remedies.append(
            f"Rows without {text_field!r} have the keys {_keys(counts['keys_without_text'])}: set "
            f"sources.{source}.text_field to the one that holds the text"
        )
    elif has_text_field and {"no-text", "text-not-a-string"} & counts["rejected"].keys():
        remedies.append(
            f"Set sources.{source}.text_field, now {text_field!r}, if the text has another name"
        )
    remedies.append("Correct the files" if not remedies else "correct the files")
    return remedies


def list_by_count(counts: Mapping[str, int]) -> str:
    """Return counts by name as a list in words, the largest first."""
    largest_first = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return ", ".join(f"{count:,} {name}" for name, count in largest_first)


def _reasons(counts: LossCounts) -> str:
    """Return how many rows were rejected for each reason, and in which files."""
    parts = []
    for reason, rows in sorted(counts["rejected"].items(), key=lambda entry: (-entry[1], entry[0])):
        files = counts["rejected_in_files"][reason]
        others = files["count"] - len(files["first"])
        more = f" and {others:,} more files" if others else ""
        parts.append(f"{rows:,} {reason} in {', '.join(files['first'])}{more}")
    return "; ".join(parts)


def _keys(counts: Mapping[str, int]) -> str:
    most_first = sorted(counts, key=lambda name: (name == OTHERS, -counts[name]))
    return first_of(most_first, SHOWN_KEYS)
