"""Losses of raw rows: rejected rows, and values of meta that became null.

Tasks count them, the stage reports them in words. Reads and writes no file.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from pipeline.corpus.rows import Reject, Row
from pipeline.errors import first_of
from pipeline.store.counts import LossCounts, PreparedSource, RejectedInFiles
from pipeline.store.records import Json

SAMPLES_PER_REASON = 20
"""Maximum number of rejected rows that a task keeps as samples for each reason; all are counted."""
NAMED_FILES = 3
"""Maximum number of files that are listed for each reason; all are counted."""
NAMED_KEYS = 50
"""Maximum number of keys (or columns) that are counted by name; `OTHERS` counts the rest."""
SHOWN_KEYS = 10
"""Maximum number of keys that a message lists."""
OTHERS = "(others)"
"""Name under which keys beyond `NAMED_KEYS` are counted."""


@dataclass(frozen=True)
class UsableSettings:
    """The settings of a source that a remedy may name."""

    text_field: str
    """Its value in words."""
    has_text_field: bool
    takes_encoding: bool


class Losses:
    """Counts the losses of one task, which reads its files one after another."""

    def __init__(self) -> None:
        self._rejected: Counter[str] = Counter()
        self._files: dict[str, list[str]] = {}
        self._samples: dict[str, dict[str, list[bytes]]] = {}
        self._keys: Counter[str] = Counter()
        self._nulls: Counter[str] = Counter()
        self._blank_fields: Counter[str] = Counter()

    def count_reject(self, row: Reject, file: str) -> None:
        """Count a rejected row, and keep it as a sample if there is room for it."""
        self._rejected[row.reason] += 1
        files = self._files.setdefault(row.reason, [])
        if file not in files[-1:]:
            files.append(file)
        for key in row.keys:
            _count(self._keys, key, 1)
        samples = self._samples.setdefault(row.reason, {})
        if sum(map(len, samples.values())) >= SAMPLES_PER_REASON and not _make_room(samples, file):
            return
        sample: dict[str, Json] = {
            "file": file,
            "row": row.origin_row,
            "reason": row.reason,
            "excerpt": row.excerpt,
        }
        if row.byte is not None:
            sample["byte"] = row.byte
        samples.setdefault(file, []).append(orjson.dumps(sample))

    def count_incomplete(self, row: Row) -> None:
        """Count the columns in which values of a document became null, and its blank text fields."""
        for column in row.nulls:
            _count(self._nulls, column, 1)
        self._blank_fields.update(row.blank_fields)

    def samples(self) -> bytes:
        """Return the kept rows as JSON lines, in the order of their reasons and files."""
        lines = [
            line
            for files in self._samples.values()
            for lines_of_file in files.values()
            for line in lines_of_file
        ]
        return b"".join(line + b"\n" for line in lines)

    def counts(self) -> LossCounts:
        """Return all counts as JSON values, as `add_up_losses` takes them."""
        files: dict[str, RejectedInFiles] = {
            reason: {"count": len(names), "first": names[:NAMED_FILES]}
            for reason, names in sorted(self._files.items())
        }
        counts: LossCounts = {
            "rejected": dict(sorted(self._rejected.items())),
            "rejected_in_files": files,
            "keys_without_text": dict(self._keys),
            "null_values": dict(self._nulls),
        }
        return _with_blank_fields(counts, self._blank_fields)


def _make_room(samples: dict[str, list[bytes]], file: str) -> bool:
    """Make room for a sample of `file`, so that samples come from many files.

    Drops the last sample of the file with the most samples. Returns False, without dropping one,
    where `file` would then have as many as that file has now.
    """
    fullest = max(samples, key=lambda name: len(samples[name]))
    if len(samples[fullest]) <= len(samples.get(file, [])) + 1:
        return False
    samples[fullest].pop()
    return True


def _count(counter: Counter[str], name: str, count: int) -> None:
    """Add to the count of a name, or to `OTHERS` where too many names are counted already."""
    if name not in counter and len(counter) >= NAMED_KEYS:
        name = OTHERS
    counter[name] += count


def add_up_losses(results: Iterable[LossCounts]) -> LossCounts:
    """Return the losses of several tasks together."""
    rejected: Counter[str] = Counter()
    files: dict[str, RejectedInFiles] = {}
    keys: Counter[str] = Counter()
    nulls: Counter[str] = Counter()
    blank_fields: Counter[str] = Counter()
    for result in results:
        # Rejected rows by reason, with the names of the first files.
        rejected.update(result["rejected"])
        for reason, files_of_task in result["rejected_in_files"].items():
            together = files.setdefault(reason, {"count": 0, "first": []})
            together["count"] += files_of_task["count"]
            together["first"] = (together["first"] + files_of_task["first"])[:NAMED_FILES]
        # Names beyond the bound go together again, as each task may have met others.
        for name, count in result["keys_without_text"].items():
            _count(keys, name, count)
        for name, count in result["null_values"].items():
            _count(nulls, name, count)
        blank_fields.update(result.get("blank_fields", {}))
    counts: LossCounts = {
        "rejected": dict(rejected),
        "rejected_in_files": files,
        "keys_without_text": dict(keys),
        "null_values": dict(nulls),
    }
    return _with_blank_fields(counts, blank_fields)


def _with_blank_fields(counts: LossCounts, blank_fields: Mapping[str, int]) -> LossCounts:
    """Return counts with those of blank text fields, if there are any."""
    if blank_fields:
        counts["blank_fields"] = dict(sorted(blank_fields.items()))
    return counts


def loss_lines(source: str, counts: PreparedSource, text_field: str) -> list[str]:
    """Return a line for each kind of loss of a source; no line where it lost nothing.

    `text_field`: the name in quotes, or the names.
    """
    lines = []
    if counts["rejected"]:
        rows = sum(counts["rejected"].values()) + sum(counts["documents"].values())
        lines.append(
            f"source {source}: rejected of {rows:,} rows: {_reasons(counts)}; samples in "
            f"documents/{source}/rejected below data_dir"
        )
    if counts["keys_without_text"]:
        lines.append(
            f"source {source}: rows without {text_field} have the keys "
            f"{_keys(counts['keys_without_text'])}"
        )
    if counts["null_values"]:
        columns = ", ".join(f"{name} {count:,}" for name, count in counts["null_values"].items())
        lines.append(
            f"source {source}: values of meta that JSON cannot hold became null; rows for each "
            f"column: {columns}"
        )
    return [*lines, *_blank_field_lines(source, counts)]


def _blank_field_lines(source: str, counts: PreparedSource) -> list[str]:
    blank_fields = counts.get("blank_fields", {})
    if not blank_fields:
        return []
    documents = sum(counts["documents"].values())
    listed = ", ".join(f"{name!r} in {count:,}" for name, count in blank_fields.items())
    return [
        f"source {source}: of {documents:,} documents, a field of the text is missing or blank: "
        f"{listed}; their text is the other fields"
    ]


def explain_unused_fields(source: str, counts: PreparedSource) -> list[str]:
    """Return the message for each field of several that no document of a source has."""
    documents = sum(counts["documents"].values())
    return [
        f"sources.{source}.text_field: {name!r} is missing or blank in all {documents:,} documents. "
        "Correct the name, or leave it out."
        for name, blank in counts.get("blank_fields", {}).items()
        if blank == documents
    ]


def explain_too_many_rejects(
    source: str,
    counts: PreparedSource,
    most: float,
    samples: Path,
    settings: UsableSettings,
) -> str:
    """Return the message for a source of whose rows more than the fraction `most` are rejected."""
    rejected = sum(counts["rejected"].values())
    documents = sum(counts["documents"].values())
    rows = rejected + documents
    remedies = _remedies(source, counts, settings)
    if documents:
        remedies.append("raise prepare.max_bad_rows")
    return (
        f"source {source}: {rejected:,} of {rows:,} rows ({rejected / rows:.2%}) are rejected, "
        f"more than prepare.max_bad_rows = {most} allows: {_reasons(counts)}. Samples: {samples}. "
        f"{'; or '.join(remedies)}."
    )


def explain_no_document(
    source: str, counts: PreparedSource, samples: Path, settings: UsableSettings
) -> str:
    """Return the message for a source without documents whose rejects `max_bad_rows` allows."""
    lines = [f"source {source}: its {counts['input_files']:,} input files hold no document."]
    if counts["rejected"]:
        remedies = "; or ".join(_remedies(source, counts, settings))
        lines.append(f"Rows rejected: {_reasons(counts)}. Samples: {samples}. {remedies}.")
    lines += [f"{file} {why}." for file, why in list(counts["broken_files"].items())[:NAMED_FILES]]
    lines.append(f"Correct sources.{source}.paths or remove the source.")
    return " ".join(lines)


def _remedies(source: str, counts: PreparedSource, settings: UsableSettings) -> list[str]:
    """Return the remedies that may turn the rejected rows of a source into documents."""
    remedies = []
    if counts["keys_without_text"]:
        remedies.append(
            f"Rows without {settings.text_field} have the keys {_keys(counts['keys_without_text'])}: set "
            f"sources.{source}.text_field to the one that holds the text"
        )
    elif settings.has_text_field and {"no-text", "text-not-a-string"} & counts["rejected"].keys():
        remedies.append(
            f"Set sources.{source}.text_field, now {settings.text_field}, if the text has another name"
        )
    if settings.takes_encoding and "invalid-utf8" in counts["rejected"]:
        remedies.append(
            f"If the files are in another encoding, set sources.{source}.encoding (each sample names "
            "the first byte of its row that is not UTF-8)"
        )
    if remedies:
        remedies.append("correct the files")
    else:
        remedies.append("Correct the files")
    return remedies


def list_by_count(counts: Mapping[str, int]) -> str:
    """Return counts in words, the largest first, for example `3 no-text, 1 empty-text`."""
    return ", ".join(f"{count:,} {name}" for name, count in _largest_first(counts))


def _largest_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return names and counts, those with equal counts by name."""
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))


def _reasons(counts: LossCounts) -> str:
    """Return in words how many rows were rejected for each reason, and in which files."""
    parts = []
    for reason, rows in _largest_first(counts["rejected"]):
        files = counts["rejected_in_files"][reason]
        part = f"{rows:,} {reason} in {', '.join(files['first'])}"
        others = files["count"] - len(files["first"])
        if others:
            part += f" and {others:,} more files"
        parts.append(part)
    return "; ".join(parts)


def _keys(counts: Mapping[str, int]) -> str:
    """Return the SHOWN_KEYS most frequent keys as text, and how many more there are."""
    most_first = sorted(counts, key=lambda name: (name == OTHERS, -counts[name]))
    return first_of(most_first, SHOWN_KEYS)
