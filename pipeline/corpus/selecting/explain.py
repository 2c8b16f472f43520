"""Why a document is read or not: its verdict, the values behind it, the copy that stays.

Reads documents, annotations and verdicts of one document, and of those that it lost to.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np

from pipeline.config.curation.rules import parse_comparison
from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.annotation_file import open_annotations, read_annotations
from pipeline.corpus.documents import listed_name, listed_shards, read_documents, split_of
from pipeline.corpus.keys import find_documents
from pipeline.corpus.selecting.removed_samples import measured_values
from pipeline.corpus.selecting.rule_values import COMPARE
from pipeline.corpus.selecting.verdicts import Cut, Verdict, read_verdicts
from pipeline.errors import DataError, UserError
from pipeline.store.curation.annotation_folder import annotation_folder
from pipeline.store.curation.selection_folder import selection_folder
from pipeline.store.layout import data_folder
from pipeline.store.records import content_of

MOST_EXPLAINED = 20
"""Documents of one original id or url that are explained, and losses that are followed."""
CONTAMINATION = "contamination"
"""Column of annotations with the questions of tasks that a document holds."""


class ComparedRule(TypedDict):
    """A rule, and what a document's value is against it."""

    name: str
    comparison: str
    value: float | str | None
    """None where it is undefined."""
    passes: bool


class HeldQuestion(TypedDict):
    """A question of a task that a document holds."""

    task: str
    item: int
    kind: str
    start: int
    end: int


class LostTo(TypedDict):
    """A document in favour of which another one was removed."""

    id: str
    jaccard: float | None
    """Exact similarity to the document that lost to it; None where it was not computed."""
    kept: bool
    reasons: list[str]
    """Why it is removed itself; empty where it stays."""
    text: str


class ExplainedDocument(TypedDict):
    """A document with its verdict and everything behind it."""

    id: str
    split: str
    meta: str
    """JSON object."""
    kept: bool
    reason: str | None
    reasons: list[str]
    rules: list[ComparedRule]
    questions: list[HeldQuestion]
    cuts: list[Cut]
    """Parts that readers replace."""
    text: str
    """The whole text, with nothing replaced."""
    lost_to: list[LostTo]
    """The document that it lost to; if that one lost too, the next one, and so on."""


@dataclass(frozen=True)
class _Place:
    """Where a document lies."""

    shard: str
    """Path below the documents."""
    row: int


def explain_document(config: RunConfig, key: str) -> list[ExplainedDocument]:
    """Return the documents that `key` names with their verdicts.

    `key`: `source/shard/row`, an original id, or a url. Raises UserError where no document has it or
    the run file has no section `select`, DataError where documents or verdicts are missing.
    """
    if config.select is None:
        raise UserError("the run file has no section `select`: all documents are read as they are")
    documents = data_folder(config).documents
    ids = find_documents(documents, key, config.sources_with_text)
    if not ids:
        raise UserError(
            f"--document {key}: no document of the sources {', '.join(config.sources_with_text)} has "
            "this id or url"
        )
    return [_explain(config, identity) for identity in ids[:MOST_EXPLAINED]]


def _explain(config: RunConfig, identity: str) -> ExplainedDocument:
    place = _place_of(config, identity)
    verdict = _verdict(config, place)
    path = data_folder(config).documents / place.shard
    (document,) = read_documents(path, [place.row], ["text", "meta"])
    return {
        "id": identity,
        "split": split_of(place.shard),
        "meta": document["meta"],
        "kept": verdict["keep"],
        "reason": verdict["reason"],
        "reasons": verdict["reasons"],
        "rules": _compared_rules(config, place),
        "questions": _questions(config, place),
        "cuts": verdict["spans"],
        "text": document["text"],
        "lost_to": _losses(config, verdict),
    }


def _place_of(config: RunConfig, identity: str) -> _Place:
    source, stem, row = identity.split("/")
    name = listed_name(data_folder(config).documents, source, stem)
    assert name is not None, "the document was found in it, or stays in favour of another one"
    return _Place(name, int(row))


def _verdict(config: RunConfig, place: _Place) -> Verdict:
    path = selection_folder(config).verdicts(place.shard)
    table = read_verdicts(path)
    if place.row >= table.num_rows:
        raise DataError(f"{path}: has no row {place.row}. Run `pipeline select` again.")
    return table.slice(place.row, 1).to_pylist()[0]


def _compared_rules(config: RunConfig, place: _Place) -> list[ComparedRule]:
    assert config.select is not None, "the document has a verdict"
    (values,) = measured_values(config, place.shard, [place.row])
    rules: list[ComparedRule] = []
    for name, text in config.select.rules.items():
        value = values[name]
        rules.append(
            {
                "name": name,
                "comparison": text,
                "value": value,
                "passes": value is not None and _passes(text, value),
            }
        )
    return rules


def _passes(text: str, value: float | str) -> bool:
    comparison = parse_comparison(text)
    if isinstance(value, str) or isinstance(comparison.value, str):
        return (value == comparison.value) == (comparison.operator == "==")
    return bool(COMPARE[comparison.operator](np.array(value), comparison.value))


def _questions(config: RunConfig, place: _Place) -> list[HeldQuestion]:
    """Return the questions of tasks that a document holds; none where they are not searched for."""
    path = annotation_folder(config).file(place.shard)
    if not path.is_file():
        return []
    documents = _checksum(config, place)
    with open_annotations(path, documents) as file:
        if CONTAMINATION not in file.schema_arrow.names:
            return []
    first = 0
    for table in read_annotations(path, documents, [CONTAMINATION]):
        if place.row < first + table.num_rows:
            return table[CONTAMINATION][place.row - first].as_py() or []
        first += table.num_rows
    return []


def _checksum(config: RunConfig, place: _Place) -> str:
    return content_of(listed_shards(data_folder(config).documents)[place.shard])


def _losses(config: RunConfig, verdict: Verdict) -> list[LostTo]:
    """Return the document that one lost to, and those that this one lost to in turn."""
    losses: list[LostTo] = []
    while verdict["lost_to"] is not None and len(losses) < MOST_EXPLAINED:
        identity = verdict["lost_to"]
        place = _place_of(config, identity)
        other = _verdict(config, place)
        path: Path = data_folder(config).documents / place.shard
        (document,) = read_documents(path, [place.row], ["text"])
        losses.append(
            {
                "id": identity,
                "jaccard": verdict["jaccard"],
                "kept": other["keep"],
                "reasons": other["reasons"],
                "text": document["text"],
            }
        )
        verdict = other
    return losses
