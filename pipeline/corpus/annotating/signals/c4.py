"""The signals behind the filters of C4.

Source: Raffel et al. 2020 (JMLR 21:140), section 2.2, and the code that made C4, which also looks for
policies and long words: tensorflow_datasets/text/c4_utils.py. A sentence is what RedPajama-v2 counts as
one, where C4 used NLTK's punkt.
"""

import numpy as np

from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.signals.redpajama_documents import SENTENCE
from pipeline.corpus.annotating.signals.signal import Signals

END_MARKS = (".", "?", "!", '"')
ELLIPSIS = "..."
LINE_WORDS = 5
"""Fewest words of a line."""
WORD_CHARACTERS = 1000
"""Most characters of a word."""
JAVASCRIPT = "javascript"
LOREM_IPSUM = "lorem ipsum"
POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)


def is_kept_line(line: str) -> bool:
    """Tell whether C4 keeps a line: a sentence's end, words enough, no script and no policy."""
    stripped = line.strip()
    if not stripped.endswith(END_MARKS) or stripped.endswith(ELLIPSIS):
        return False
    words = stripped.split()
    if len(words) < LINE_WORDS or max(map(len, words)) > WORD_CHARACTERS:
        return False
    lower = stripped.lower()
    return JAVASCRIPT not in lower and not any(policy in lower for policy in POLICIES)


def lines_kept(document: DocumentText) -> np.ndarray:
    """Return 1 for each line that C4 keeps (`is_kept_line`)."""
    return np.array([is_kept_line(line) for line in document.lines], np.float64)


def num_sentences(document: DocumentText) -> float:
    """Count the sentences in the lines that C4 keeps."""
    kept = filter(is_kept_line, document.lines)
    return float(sum(len(SENTENCE.findall(line)) for line in kept))


def lorem_ipsum(document: DocumentText) -> float:
    """Count LOREM_IPSUM in the text, whatever its case."""
    return float(document.text.lower().count(LOREM_IPSUM))


def opening_brackets(document: DocumentText) -> float:
    """Count the opening curly brackets."""
    return float(document.text.count("{"))


SIGNALS = Signals(
    {
        "c4_num_sentences": num_sentences,
        "c4_lorem_ipsum": lorem_ipsum,
        "c4_opening_brackets": opening_brackets,
    },
    {"c4_lines_kept": lines_kept},
)
