import pytest

from pipeline.evaluation.built_in.patterns import pattern_questions
from pipeline.evaluation.built_in.questions import Question


@pytest.fixture(scope="module")
def tasks() -> dict[str, list[Question]]:
    return {name: data.questions for name, data in pattern_questions(60, 24, seed=1).items()}


def right(question: Question) -> str:
    return question.choices[question.answer]


def test_copy_repeats_the_words(tasks: dict[str, list[Question]]) -> None:
    for question in tasks["pattern_copy"]:
        assert question.context == f"{right(question)} ->"


def test_alternate_goes_on_with_the_word_whose_turn_it_is(tasks: dict[str, list[Question]]) -> None:
    for question in tasks["pattern_alternate"]:
        words = question.context.split()
        assert right(question) == words[1] == words[3]
        assert words[0] == words[2] == words[4] != right(question)


def test_count_goes_on_with_the_next_number(tasks: dict[str, list[Question]]) -> None:
    for question in tasks["pattern_count"]:
        numbers = [int(word) for word in question.context.split()]
        assert int(right(question)) == numbers[-1] + 1 == numbers[0] + len(numbers)


def test_choices_are_four_and_differ_and_no_context_comes_twice() -> None:
    for data in pattern_questions(60, 24, seed=1).values():
        both = [*data.questions, *data.examples]
        assert (len(data.questions), len(data.examples)) == (60, 24)
        assert len({question.context for question in both}) == 84
        assert all(len(set(question.choices)) == 4 for question in both)


def test_same_seed_same_questions() -> None:
    assert (
        pattern_questions(10, 4, seed=1)
        == pattern_questions(10, 4, seed=1)
        != pattern_questions(10, 4, seed=2)
    )
