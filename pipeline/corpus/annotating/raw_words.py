"""Words of a text as it is, counted by what signals ask of them. Reads `signals/stop_words.json`."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files

from pipeline.corpus.annotating.text_pieces import pieces_at_spaces

RAW_WORDS = re.compile(r"\w+|[^\w\s]+")
"""Words, and runs of other characters, of a text as it is.

Source: NLTK's `WordPunctTokenizer`, which RedPajama-v2 uses; here `re` says what a word character is."""
LETTER = re.compile(r"[a-zA-Z]")
_ASCII = "".join(map(chr, range(128)))
_IN_WORDS = "".join(re.findall(r"\w", _ASCII)).encode()
_NOT_IN_WORDS = "".join(re.findall(r"[^\w\s]", _ASCII)).encode()


@dataclass
class RawWordCounts:
    """How many of the RAW_WORDS of a text are of a kind."""

    total: int = 0
    lettered: int = 0
    """Words with a letter of ASCII."""
    capitals: int = 0
    """Words in upper case."""
    stop_words: Counter[str] = field(default_factory=Counter[str])
    """How often each word occurs that is a stop word in some language."""


def count_raw_words(text: str) -> RawWordCounts:
    """Count the RAW_WORDS of a text, those of a long one piece by piece."""
    counts = RawWordCounts()
    any_language = _all_stop_words()
    for piece in pieces_at_spaces(text):
        words = raw_words_of(piece)
        counts.total += words.total()
        for word, count in words.items():
            if LETTER.search(word):
                counts.lettered += count
            if word.isupper():
                counts.capitals += count
        for word in words.keys() & any_language:
            counts.stop_words[word] += words[word]
    return counts


def raw_words_of(text: str) -> Counter[str]:
    """Return the RAW_WORDS of a text -> how often each occurs, in no order.

    In ASCII, all words and all runs of punctuation are what is left between blanks when the bytes of
    the other kind are blanks: twice as fast as the expression, which is asked where there are other
    characters.
    """
    counts: Counter[str] = Counter()
    if not text.isascii():
        # A match never crosses white space.
        between_spaces = text.split()
        others = [piece for piece in between_spaces if not piece.isascii()]
        counts.update(RAW_WORDS.findall(" ".join(others)))
        text = " ".join(filter(str.isascii, between_spaces))
    content = text.encode()
    for other_kind in (_NOT_IN_WORDS, _IN_WORDS):
        blanks = b" " * len(other_kind)
        kept = content.translate(bytes.maketrans(other_kind, blanks))
        counts.update(kept.decode().split())
    return counts


@lru_cache(maxsize=1)
def stop_words() -> dict[str, frozenset[str]]:
    """Return words that are frequent in any text, by language."""
    file = files("pipeline.corpus.annotating.signals").joinpath("stop_words.json")
    return {name: frozenset(words) for name, words in json.loads(file.read_text("utf-8")).items()}


@lru_cache(maxsize=1)
def _all_stop_words() -> frozenset[str]:
    return frozenset().union(*stop_words().values())
