"""`annotate` and `select` against verdicts in plain Python: sets of words, one document after another.

Nothing of what the stages compute is used here but the bands, which say who is compared with whom.
"""

import json
import random
import shutil
import string
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from curation import write_corpus

from pipeline.config.run_file import load
from pipeline.corpus.annotating.annotate import annotate
from pipeline.corpus.near_duplicates import groups
from pipeline.corpus.selecting.kept_documents import kept_documents
from pipeline.corpus.selecting.select import select
from pipeline.store.files import write_json

RUN = """\
paths: {data_dir: data, run_dir: run}
executor: {workers: 1}
sources:
  books: {kind: jsonl, paths: [books.jsonl]}
  web: {kind: jsonl, paths: [web.jsonl]}
annotate: {signals: none, language: false}
select:
  exact_duplicates: [text_hash, url]
  near_duplicates: {threshold: 0.6}
  paragraph_duplicates: {fewest_characters: 20}
  pii: replace
  max_removed: {default: 1}
"""
# Letters of several bytes, marks that combine, right to left, an emoji, no width: places in a text are
# characters, whatever these take in bytes.
ODD_WORDS = ("東京", "e\u0301t\u00e9", "שלום", "😀😀", "a\u200bb", "İstanbul", "ﬁ", "\u0301", "...")
ODD_TEXTS = (
    "\u200b",
    "?!",
    "a\0b",
    "x\u2028y\x85z",
    "word",
    "word",
    "é",
    "e\u0301",
    "me@site.org\n",
)
FEWEST = 20
PLACES = (("books", "validation"), ("books", "train"), ("web", "validation"), ("web", "train"))
"""Sources and splits in the order of priority."""


@dataclass
class Judged:
    """A document with its verdict."""

    identity: str
    held_out: bool
    text: str
    url: str | None
    bands: list[int] | None
    personal: list[dict[str, Any]]
    reasons: list[str] = field(default_factory=list)
    lost_to: str | None = None
    jaccard: float | None = None

    @property
    def words(self) -> list[str]:
        return normalised(self.text).split()

    @property
    def shingles(self) -> set[tuple[str, ...]]:
        words = self.words
        return {tuple(words[place : place + 5]) for place in range(len(words) - 4)}

    def lose(self, other: "Judged", reason: str) -> None:
        if other.held_out and not self.held_out:
            self.reasons.append("held-out-copy")
        self.reasons.append(reason)
        self.lost_to = other.identity


def normalised(text: str) -> str:
    without = "".join(letter for letter in text if letter not in string.punctuation)
    return unicodedata.normalize("NFD", without.lower())


def some_texts(chance: random.Random, count: int) -> list[str]:
    """Return texts of which many are copies of each other, or almost, or share a paragraph."""
    vocabulary = [*(f"w{number}" for number in range(200)), *ODD_WORDS]
    shared = [" ".join(chance.choices(vocabulary, k=12)) for _ in range(4)]
    texts: list[str] = []
    for number in range(count):
        kind = chance.random()
        if texts and kind < 0.1:
            texts.append(chance.choice(texts))
        elif texts and kind < 0.2:
            # Nothing but paragraphs of others, which may be almost another of that kind.
            lines = [line for text in texts for line in text.split("\n")]
            texts.append("\n".join(chance.sample(lines, min(2, len(lines)))))
        elif texts and kind < 0.6:
            words = chance.choice(texts).split(" ")
            for _ in range(chance.randrange(1, 4)):
                words[chance.randrange(len(words))] = chance.choice(vocabulary)
            texts.append(" ".join(words))
        else:
            lines = [" ".join(chance.choices(vocabulary, k=30)) for _ in range(2)]
            lines.insert(chance.randrange(3), f"{chance.choice(shared)} 😀 u{number % 7}@site.org.")
            texts.append("\n".join(lines))
    texts += ODD_TEXTS
    chance.shuffle(texts)
    return texts


def find_duplicates(documents: list[Judged], key: Callable[[Judged], str | None]) -> None:
    first: dict[str, Judged] = {}
    for each in [each for each in documents if not each.reasons]:
        value = key(each)
        if value is not None and first.setdefault(value, each) is not each:
            each.lose(first[value], "exact-duplicate")


def find_copies(documents: list[Judged], threshold: float) -> dict[str, list[int]]:
    """Decide one document after another: what loses to one that stays, and what is left of it.

    Returns the places of repeated paragraphs and of personal data in each document that did not lose.
    """
    staying: list[tuple[Judged, set[tuple[str, ...]]]] = []
    seen: set[str] = set()
    places: dict[str, list[int]] = {}
    for each in [each for each in documents if not each.reasons]:
        own = each.shingles
        assert (each.bands is None) == (not own)
        for other, of_other in staying:
            if not any(map(int.__eq__, each.bands or [], other.bands or [])):
                continue
            similarity = len(own & of_other) / len(own | of_other)
            if similarity >= threshold:
                each.lose(other, "near-duplicate")
                each.jaccard = similarity
                break
        else:
            repeated = repeated_characters(each.text, seen)
            personal = {
                place for span in each.personal for place in range(span["start"], span["end"])
            }
            places[each.identity] = sorted(repeated | personal)
            left = [letter for place, letter in enumerate(each.text) if place not in repeated]
            if repeated and not "".join(left).strip():
                each.reasons.append("empty-after-cuts")
            else:
                staying.append((each, own))
    return places


def repeated_characters(text: str, seen: set[str]) -> set[int]:
    """Return the places of the paragraphs of a text that were seen before, and add it to these."""
    repeated: set[int] = set()
    start = 0
    for line in lines_of(text):
        words = " ".join(normalised(line).split())
        if words and len(line) >= FEWEST:
            if words in seen:
                repeated.update(range(start, start + len(line)))
            seen.add(words)
        start += len(line)
    return repeated


def lines_of(text: str) -> list[str]:
    """Return the lines with their newlines: of all that separates lines, `\\n` alone."""
    parts = text.split("\n")
    return [*(f"{part}\n" for part in parts[:-1]), *parts[-1:]]


def rows_of(data_dir: Path, folder: str, source: str, split: str) -> list[dict[str, Any]]:
    paths = sorted((data_dir / folder / source).glob(f"{split}_*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def with_cuts(text: str, spans: list[Mapping[str, Any]]) -> str:
    for span in reversed(spans):
        text = text[: span["start"]] + span["replacement"] + text[span["end"] :]
    return text


def read_documents(data_dir: Path) -> tuple[list[Judged], dict[str, dict[str, Any]]]:
    """Return all documents in the order of priority, and the verdicts of the stage by their ids."""
    documents: list[Judged] = []
    stored: dict[str, dict[str, Any]] = {}
    for source, split in PLACES:
        folders = ("documents", "annotations", "selection")
        rows = [rows_of(data_dir, folder, source, split) for folder in folders]
        judged: list[Judged] = []
        for document, annotated, verdict in zip(*rows, strict=True):
            each = Judged(
                identity=document["id"],
                held_out=split == "validation",
                text=document["text"],
                url=json.loads(document["meta"])["url"],
                bands=annotated["minhash_bands"],
                personal=annotated["pii"],
            )
            judged.append(each)
            stored[each.identity] = verdict
        documents += sorted(judged, key=lambda each: -len(each.text.encode()))
    return documents, stored


@pytest.mark.parametrize(("seed", "large_group"), [(1, 64), (2, 3)])
def test_verdicts_are_those_of_plain_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, large_group: int
) -> None:
    monkeypatch.setattr(groups, "LARGE_GROUP", large_group)
    chance = random.Random(seed)
    data = tmp_path / "data"
    texts = some_texts(chance, 250)
    urls = [chance.choice([None, f"u{chance.randrange(150)}"]) for _ in texts]
    owners = [chance.choices(PLACES, [1, 4, 1, 4])[0] for _ in texts]
    for place in PLACES:
        own = [number for number, owner in enumerate(owners) if owner == place]
        metas = [{"url": urls[number]} for number in own]
        source, split = place
        mine = [texts[number] for number in own]
        write_corpus(data, source, mine, split, metas=metas, documents_per_shard=40)
    (tmp_path / "run.yaml").write_text(RUN)
    config = load(tmp_path / "run.yaml", needs=())
    shutil.rmtree(data / "annotations")
    write_json(data / "annotations" / "manifest.json", {"files": annotate(config).files})
    result = select(config)
    write_json(data / "selection" / "manifest.json", {"files": result.files})

    # The same by hand.
    documents, stored = read_documents(data)
    find_duplicates(documents, lambda each: each.url)
    find_duplicates(documents, lambda each: each.text)
    replaced = find_copies(documents, 0.6)
    expected: dict[str, str] = {}
    for each in documents:
        verdict = stored[each.identity]
        if each.identity in replaced:
            spans = verdict["spans"]
            places = [place for span in spans for place in range(span["start"], span["end"])]
            assert places == replaced[each.identity]
        if not each.reasons:
            expected[each.identity] = with_cuts(each.text, verdict["spans"])
            assert expected[each.identity].strip()
        assert verdict["keep"] == (not each.reasons)
        assert verdict["reasons"] == each.reasons
        assert (verdict["lost_to"], verdict["jaccard"]) == (each.lost_to, each.jaccard)

    # Every kind of verdict occurs, and readers read what the verdicts say.
    every = {reason for each in documents for reason in each.reasons}
    assert {"exact-duplicate", "near-duplicate", "held-out-copy", "empty-after-cuts"} <= every
    assert any(replaced.values())
    kept = kept_documents(config)
    assert dict(text for place in PLACES for text in kept.iterate_texts(*place)) == expected
