from collections import Counter
from pathlib import Path

import pytest
from heldout import write_heldout

from pipeline.corpus.selecting.kept_documents import KeptDocuments
from pipeline.errors import DataError
from pipeline.evaluation.built_in.cloze import (
    CONTEXT_CHARACTERS,
    CONTINUATION_CHARACTERS,
    heldout_cloze,
    passages,
    refuse_too_few_questions,
)

SOURCES = {"code": 20, "web": 40}


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, str]:
    return write_heldout(tmp_path, SOURCES)


def home(texts: dict[str, str], passage: str) -> str:
    """Return the only document that holds a passage."""
    (found,) = [identity for identity, text in texts.items() if passage in text]
    return found


def test_right_answer_continues_the_context_and_the_others_come_from_other_documents(
    tmp_path: Path, texts: dict[str, str]
) -> None:
    data = heldout_cloze(KeptDocuments(tmp_path), list(SOURCES), questions=40, examples=8, seed=1)
    assert (len(data.questions), len(data.examples)) == (40, 8)
    for question in [*data.questions, *data.examples]:
        right = question.choices[question.answer]
        assert f"{question.context} {right}" in texts[question.origin]
        homes = [home(texts, choice) for choice in question.choices]
        assert [place for place, identity in enumerate(homes) if identity == question.origin] == [
            question.answer
        ]
        assert {len(choice) for choice in question.choices} == {CONTINUATION_CHARACTERS}
        assert not any(choice[0].isspace() for choice in question.choices)
        assert CONTEXT_CHARACTERS - 1 <= len(question.context) < 160


def test_sources_and_positions_are_balanced_and_half_of_the_distractors_are_of_the_same_source(
    tmp_path: Path, texts: dict[str, str]
) -> None:
    questions = heldout_cloze(
        KeptDocuments(tmp_path), list(SOURCES), questions=40, examples=8, seed=1
    ).questions
    assert Counter(question.answer for question in questions) == {0: 10, 1: 10, 2: 10, 3: 10}
    assert Counter(question.origin.split("/")[0] for question in questions) == {
        "code": 20,
        "web": 20,
    }
    same = sum(
        home(texts, choice).split("/")[0] == question.origin.split("/")[0]
        for question in questions
        for place, choice in enumerate(question.choices)
        if place != question.answer
    )
    assert same == 60  # 40 questions x 3 distractors / 2


def test_no_passage_is_used_twice_and_no_document_is_in_questions_and_examples(
    tmp_path: Path, texts: dict[str, str]
) -> None:
    data = heldout_cloze(KeptDocuments(tmp_path), list(SOURCES), questions=40, examples=8, seed=1)
    choices = [
        choice for question in [*data.questions, *data.examples] for choice in question.choices
    ]
    assert len(set(choices)) == 4 * 48
    used = [
        {home(texts, c) for question in part for c in question.choices}
        for part in (data.questions, data.examples)
    ]
    assert not used[0] & used[1]


def test_same_documents_give_the_same_questions_and_another_seed_gives_others(
    tmp_path: Path, texts: dict[str, str]
) -> None:
    first, second, other = (
        heldout_cloze(KeptDocuments(tmp_path), list(SOURCES), 20, 4, seed) for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other


def test_one_source_takes_all_distractors_from_itself(tmp_path: Path) -> None:
    write_heldout(tmp_path, {"only": 30})
    assert len(heldout_cloze(KeptDocuments(tmp_path), ["only"], 25, 4, 1).questions) == 25


def test_too_few_documents_name_the_remedy(tmp_path: Path) -> None:
    write_heldout(tmp_path, {"web": 3})
    with pytest.raises(
        DataError,
        match=r"give \d+ cloze questions .* 20 and 6 are the least .*prepare.validation_fraction",
    ):
        refuse_too_few_questions(
            heldout_cloze(KeptDocuments(tmp_path), ["web"], 200, 24, 1),
            KeptDocuments(tmp_path),
            200,
            5,
        )


def test_one_single_document_gives_no_question(tmp_path: Path) -> None:
    write_heldout(tmp_path, {"web": 1}, words=5000)
    with pytest.raises(DataError, match="give 0 cloze questions"):
        refuse_too_few_questions(
            heldout_cloze(KeptDocuments(tmp_path), ["web"], 20, 4, 1),
            KeptDocuments(tmp_path),
            20,
            0,
        )


def test_fewer_questions_are_the_first_ones(tmp_path: Path, texts: dict[str, str]) -> None:
    many = heldout_cloze(KeptDocuments(tmp_path), list(SOURCES), 40, 8, 1)
    few = heldout_cloze(KeptDocuments(tmp_path), list(SOURCES), 7, 8, 1)
    assert few.questions == many.questions[:7]
    assert few.examples == many.examples


def test_passages_skip_layout_and_symbols() -> None:
    prose = "word " * 60
    assert len(list(passages(prose))) == 1
    assert list(passages("+ - * / " * 100)) == []
    assert list(passages(" \n  " * 200)) == []
    assert list(passages("a" * 1000)) == []  # nowhere to cut
    assert list(passages(prose[:150])) == []  # too short


def test_passages_are_stretches_of_the_text_that_do_not_overlap() -> None:
    text = (
        " ".join(f"number{i}" for i in range(400))
        + "x" * 500
        + " ".join(f"number{i}" for i in range(400, 800))
    )
    found = list(passages(text))
    place = 0
    for context, continuation in found:
        place = (
            text.index(f"{context} {continuation}", place) + len(context) + 1 + len(continuation)
        )
    assert len(found) > 20
