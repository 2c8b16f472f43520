import re
from collections import Counter

import pytest

from pipeline.evaluation.built_in.arithmetic import arithmetic_questions


def test_right_answers_are_right_and_wrong_ones_near() -> None:
    for question in arithmetic_questions(200, 24, seed=1).questions:
        match = re.fullmatch(r"Q: What is (\d+) (plus|minus) (\d+)\?\nA:", question.context)
        assert match is not None
        left, right = int(match[1]), int(match[3])
        answer = left + right if match[2] == "plus" else left - right
        assert question.choices[question.answer] == str(answer)
        wrong = [int(choice) for choice in question.choices if choice != str(answer)]
        assert len(set(wrong)) == 3
        assert all(abs(number - answer) in (1, 2, 10) for number in wrong)


def test_kinds_come_equally_often_and_no_problem_twice() -> None:
    data = arithmetic_questions(200, 24, seed=1)
    contexts = [question.context for question in [*data.questions, *data.examples]]
    assert len(set(contexts)) == 224
    assert Counter(question.origin for question in data.questions) == {"plus": 100, "minus": 100}
    short = [c for c in contexts if re.search(r"is \d (plus|minus) \d\?", c)]
    assert len(short) >= 112  # two-digit problems may also have small operands


# Of one-digit problems there are 100 of each kind: 2 x 100 + 2 x 2004/4 problems, less 4 examples,
# are 1,198.
@pytest.mark.parametrize(("asked", "given"), [(1, 1), (7, 7), (2000, 1198)])
def test_as_many_questions_as_asked_or_as_there_are(asked: int, given: int) -> None:
    assert len(arithmetic_questions(asked, 4, seed=1).questions) == given
