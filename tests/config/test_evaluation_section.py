"""Wrong entries of `evaluation.models` are named in one line, with the forms that exist."""

from pathlib import Path

import pytest

from pipeline.config.evaluation_section import FORMS_OF_MODELS
from pipeline.config.run_file import load
from pipeline.errors import ConfigError


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (
            "[last, {every: 0}]",
            '.1: {"every": 0}: every: input should be greater than or equal to 1; ',
        ),
        (
            "[{merge: {last: 2, weights: cosine}}]",
            '.0: {"merge": {"last": 2, "weights": "cosine"}}: merge.weights: input should be '
            "'uniform', 'linear' or 'minus-sqrt'; ",
        ),
        (
            "[{merge: {lst: 2}}]",
            '.0: {"merge": {"lst": 2}}: merge.lst: unknown key; ',
        ),
        ("[{merge: 3}]", '.0: {"merge": 3}: merge: must be a mapping, as {last: 3}; '),
        ("[{evry: 3}]", '.0: {"evry": 3}: '),
        ("[3.5]", ".0 = 3.5: "),
        ("[0]", ".0 = 0: "),
        ("[]", " = []: names no model; "),
    ],
)
def test_a_wrong_entry_is_one_line(run_file: Path, models: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(run_file, [f"evaluation.models={models}"])
    assert refused.value.problems == [f"evaluation.models{message}{FORMS_OF_MODELS}"]


def test_each_form_is_an_entry(run_file: Path) -> None:
    entries = "[last, all, 3, {every: 2}, {merge: {last: 2}}, run@3]"
    assert len(load(run_file, [f"evaluation.models={entries}"]).evaluation.models) == 6
