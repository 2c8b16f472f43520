"""Templates that are compiled once render the same; afterwards lm-eval is as it was."""

import lm_eval.utils
from lm_eval.utils import apply_template

from pipeline.evaluation.task_data.compiled_templates import templates_compiled_once

TEMPLATE = "{{a}} and {{b|regex_replace('x', 'y')}}\n"


def test_a_template_renders_each_question_anew() -> None:
    questions = [{"a": number, "b": "x" * number} for number in range(3)]
    expected = [apply_template(TEMPLATE, question) for question in questions]
    with templates_compiled_once():
        first = lm_eval.utils.env.from_string(TEMPLATE)
        assert [apply_template(TEMPLATE, question) for question in questions] == expected
        assert lm_eval.utils.env.from_string(TEMPLATE) is first
    assert lm_eval.utils.env.from_string(TEMPLATE) is not first
    assert expected == ["0 and \n", "1 and y\n", "2 and yy\n"]
