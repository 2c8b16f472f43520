"""Which questions of tasks are found in a document, and where."""

import random
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from questions import words, write_questions

from pipeline.config.curation.decontaminate_section import (
    FEWEST_WORDS,
    LONGEST_GRAM,
    Decontaminate,
)
from pipeline.config.shipped_files import SUITES, shipped_files
from pipeline.corpus import ngram_index
from pipeline.corpus.decontaminating.question_index import QuestionIndex, QuestionPassage
from pipeline.corpus.decontaminating.searched_tasks import (
    MADE_HERE,
    names_of_tasks,
    searched_tasks,
    tasks_not_covered,
)
from pipeline.corpus.decontaminating.shared_grams import shared_grams
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation.built_in.built_in_tasks import BUILT_IN
from pipeline.evaluation.task_data.catalogue import CATALOGUE


def index_of(folder: Path, questions: list[str]) -> QuestionIndex:
    write_questions(folder, "quiz", questions)
    return QuestionIndex(searched_tasks(Decontaminate(tasks=("quiz",)), folder).read())


def test_question_of_13_words_is_found_and_one_of_12_as_a_whole(tmp_path: Path) -> None:
    questions = [words("a", 13), words("b", 12), words("c", 8), words("d", 7), words("e", 20)]
    index = index_of(tmp_path, questions)
    assert index.questions == 5
    assert index.too_short == 1
    before = "Éin Text: "
    found = [index.passages(f"{before}{question} und mehr") for question in questions]
    first = len(before)
    assert found[0] == [QuestionPassage("quiz", 100, "13-gram", first, first + len(questions[0]))]
    assert found[1] == [QuestionPassage("quiz", 101, "whole", first, first + len(questions[1]))]
    assert found[2] == [QuestionPassage("quiz", 102, "whole", first, first + len(questions[2]))]
    assert found[3] == []
    # 12 words of a longer question show nothing, 13 do.
    assert index.passages(" ".join(questions[4].split()[:12])) == []
    assert index.passages(" ".join(questions[1].split()[:11])) == []
    (passage,) = index.passages(" ".join(questions[4].split()[3:16]))
    assert (passage.item, passage.kind, passage.start) == (104, "13-gram", 0)


def test_every_question_is_found_as_a_whole_where_one_word_is_enough(tmp_path: Path) -> None:
    questions = [words(prefix, count) for count, prefix in enumerate("abcdefghijkl", 1)]
    write_questions(tmp_path, "quiz", [*questions, ""])
    tasks = searched_tasks(Decontaminate(tasks=("quiz",), fewest_words=1), tmp_path)
    index = QuestionIndex(tasks.read(), tasks.fewest_words)
    # A question without words is nothing to search for.
    assert index.too_short == 1
    for number, question in enumerate(questions):
        (passage,) = index.passages(f"É {question.upper()}, x")
        expected = QuestionPassage("quiz", 100 + number, "whole", 2, 3 + len(question))
        assert passage == expected
        assert index.passages(" ".join(question.split()[:-1])) == []


def test_number_of_words_enters_the_fingerprint_where_it_is_set(tmp_path: Path) -> None:
    write_questions(tmp_path, "quiz", [words("a", 5)])
    default = searched_tasks(Decontaminate(tasks=("quiz",)), tmp_path)
    assert default.decides == [default.fingerprint]
    assert (ngram_index.FEWEST_WORDS, ngram_index.GRAM_WORDS) == (FEWEST_WORDS, LONGEST_GRAM)
    assert "fewest_words" not in Decontaminate(tasks=("quiz",)).model_dump()
    section = Decontaminate(tasks=("quiz",), fewest_words=5)
    assert searched_tasks(section, tmp_path).decides == [default.fingerprint, 5]
    assert section.model_dump()["fewest_words"] == 5
    for wrong in (0, 14):
        with pytest.raises(ValueError, match="fewest_words"):
            Decontaminate(tasks=("quiz",), fewest_words=wrong)


def test_every_verbatim_copy_is_found_in_other_dress(tmp_path: Path) -> None:
    chance = random.Random(1)
    questions = [
        " ".join(
            f"{chance.choice(['Wort', 'mot', 'слово', 'palabra'])}{chance.randrange(999)}"
            for _ in range(length)
        )
        for length in range(8, 60)
    ]
    index = index_of(tmp_path, questions)
    for number, question in enumerate(questions):
        for dressed in (
            question,
            question.upper(),
            question.replace(" ", " \n\t"),
            question.replace(" ", ", ") + "?!",
            f"«{question}»",
        ):
            found = index.passages(f"x {dressed} y")
            assert {passage.item for passage in found} == {100 + number}
            assert found[0].start == 2
            assert found[0].end == 2 + len(dressed)


MIXED = (
    'The well-known U.S. officer said, "It\'s 1,000 m - or 3.14 km - away." '
    "Who can't be right? Either he and/or Zoe\u0301 Miller."
)
"""A question with hyphens, abbreviations, numbers, a dash, quotes, a slash and an accent."""


@pytest.mark.parametrize(
    "dress",
    [
        lambda text: text.replace(" ", "/"),
        lambda text: text.replace(" ", "--"),
        lambda text: text.replace(" ", "\u2014"),
        lambda text: text.replace(" - ", "\u2013"),
        lambda text: text.replace(" - ", "-"),
        lambda text: text.replace("-", " "),
        lambda text: text.replace("-", ""),
        lambda text: re.sub(r"([.,?\"]) ", r"\1", text),
        lambda text: re.sub(r"[^\w\s]", "", unicodedata.normalize("NFC", text)),
        lambda text: re.sub(r"[^\w\s]", " ", unicodedata.normalize("NFC", text)),
        lambda text: re.sub(r"[.,]", "", text),
        lambda text: text.replace("'", "\u2019").replace('"', "\u201d"),
        lambda text: re.sub(r"(\w)(\w)", "\\1\u200b\\2", text),
        lambda text: re.sub(r"(\w)(\w)", "\\1\u00ad\\2", text),
        lambda text: re.sub(r"(\w) ", "\\1\u200b ", text),
        lambda text: re.sub(r"\b(\w)(\w)", r"**\1**\2", text),
        lambda text: re.sub("[!-~]", lambda each: chr(ord(each[0]) + 0xFEE0), text),
        lambda text: unicodedata.normalize("NFC", text),
        lambda text: unicodedata.normalize("NFD", text),
    ],
)
def test_question_is_found_in_the_dress_of_copies(
    tmp_path: Path, dress: Callable[[str], str]
) -> None:
    index = index_of(tmp_path, [MIXED])
    text = f"Before it. {dress(MIXED).strip()} And behind it."
    (passage,) = index.passages(text)
    start = text.index("Before it. ") + len("Before it. ")
    assert (passage.start, passage.end) == (start, len(text) - len(" And behind it."))
    # Every n-gram is found again, which says whether it is a common phrase.
    grams = shared_grams(text, passage, index)
    assert (grams[0].start, grams[-1].end) == (passage.start, passage.end)


def test_spans_count_characters(tmp_path: Path) -> None:
    question = words("ü", 13)
    index = index_of(tmp_path, [question])
    text = f"😀 ß {question} 😀"
    (passage,) = index.passages(text)
    assert text[passage.start : passage.end] == question


def test_names_of_groups_and_suites_are_written_out() -> None:
    section = Decontaminate(suites=("small",), tasks=("mmlu_stem", "quiz", "quiz"))
    names = names_of_tasks(section)
    assert names == tuple(sorted(set(names)))
    assert {"quiz", "mmlu_anatomy", "arc_easy"} <= {*names}
    assert "mmlu_stem" not in names


@pytest.mark.parametrize("suite", shipped_files(SUITES))
def test_every_suite_names_tasks_that_can_be_fetched(suite: str) -> None:
    assert {*MADE_HERE} <= {*BUILT_IN}
    assert not {*names_of_tasks(Decontaminate(suites=(suite,)))} - {*CATALOGUE}


def test_missing_questions_are_named_with_the_command(tmp_path: Path) -> None:
    write_questions(tmp_path, "quiz", [words("a", 13)])
    section = Decontaminate(tasks=("quiz", "riddles", "puzzles"))
    with pytest.raises(ConfigError, match="lacks the questions of puzzles, riddles"):
        searched_tasks(section, tmp_path)
    with pytest.raises(ConfigError, match=r"needs evaluation\.tasks_dir"):
        searched_tasks(section, None)
    with pytest.raises(ValueError, match="names no tasks"):
        Decontaminate()


def test_damaged_questions_are_named(tmp_path: Path) -> None:
    write_questions(tmp_path, "quiz", [words("a", 13)])
    tasks = searched_tasks(Decontaminate(tasks=("quiz",)), tmp_path)
    (tmp_path / "quiz" / "items.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"quiz/items\.parquet.*pipeline tasks fetch quiz"):
        tasks.read()


def test_fingerprint_is_that_of_the_named_tasks_questions(tmp_path: Path) -> None:
    write_questions(tmp_path, "quiz", [words("a", 13)])
    section = Decontaminate(tasks=("quiz",))
    before = searched_tasks(section, tmp_path).fingerprint
    # A task that is fetched later changes nothing; it is named where it is scored.
    write_questions(tmp_path, "riddles", [words("b", 13)])
    assert searched_tasks(section, tmp_path).fingerprint == before
    assert tasks_not_covered(section, ["quiz", "riddles", "absent"], tmp_path) == ["riddles"]
    assert tasks_not_covered(section, ["riddles"], None) == []
    write_questions(tmp_path, "quiz", [words("c", 14)])
    assert searched_tasks(section, tmp_path).fingerprint != before
