"""Spans of three sentences: where they lie, which are equal, and what is no sentence."""

import pytest

from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.paragraphs import ParagraphHashes
from pipeline.corpus.annotating.sentence_spans import SENTENCE_END, three_sentence_spans


def pieces(text: str) -> list[str]:
    spans = three_sentence_spans(DocumentText(text))
    return [
        text[start:end] for start, end in zip(spans.start.tolist(), spans.end.tolist(), strict=True)
    ]


def hashes(text: str) -> list[int]:
    return three_sentence_spans(DocumentText(text)).hashes.tolist()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? ", ["One. ", "Two! ", "Three? "]),
        ("So? (\u201cYes.\u201d)  No", ["So? ", "(\u201cYes.\u201d)  ", "No"]),
        ("Pi is 3.14 by J. S. Bach. Done", ["Pi is 3.14 by J. S. Bach. ", "Done"]),
        ("Wait... what?! Yes.\nAnd", ["Wait... ", "what?! ", "Yes.\n", "And"]),
        ("\u4e00\u3002\u4e8c\uff01\u4e09", ["\u4e00\u3002", "\u4e8c\uff01", "\u4e09"]),
    ],
)
def test_where_sentences_end(text: str, sentences: list[str]) -> None:
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    starts = [0, *ends]
    found = [text[start:end] for start, end in zip(starts, [*ends, len(text)], strict=True)]
    assert [piece for piece in found if piece] == sentences


def test_every_sentence_but_the_last_two_begins_a_span() -> None:
    text = "Éa. Bb!\n\n- -\nCc?\nDd."
    assert pieces(text) == [text[:17], text[4:]]
    assert pieces("One. Two.") == []
    assert pieces("") == []


def test_no_span_crosses_a_line_that_is_no_sentence() -> None:
    assert pieces("Aa. Bb.\nMenu\nCc. Dd.") == []
    text = "Heading\nAa. Bb. Cc.\nfor x in y:\nDd. Ee. Ff"
    assert pieces(text) == [text[8:20]]


def test_equal_words_have_equal_hashes() -> None:
    first = hashes("The cat sat. It slept, long! Then it left. So?")
    assert len(first) == 2
    assert hashes("'The CAT sat.'\n\n --\nit slept long.\nThen: It left!\nso.") == first
    # Words alone do not make a span: where sentences end counts.
    assert hashes("The cat sat it. Slept, long! Then it left. So?") != first


def test_lines_keep_their_fingerprint() -> None:
    assert ParagraphHashes().settings() is None
    assert ParagraphHashes("three-sentences").settings() == ["three-sentences", 3]
    assert ParagraphHashes().fingerprint() != ParagraphHashes("three-sentences").fingerprint()
