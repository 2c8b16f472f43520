"""Which split is scored, and where solved examples come from, where splits are missing."""

import pytest

from pipeline.evaluation.task_data.split_choice import choose_splits

STOCK = {"training_split": "train", "validation_split": "validation", "test_split": "test"}
MMLU = {"test_split": "test", "fewshot_split": "dev"}


@pytest.mark.parametrize(
    ("definition", "present", "scored", "examples_from"),
    [
        (STOCK, ["train", "validation", "test"], "test", "train"),
        (STOCK, ["train", "validation"], "validation", "train"),
        (STOCK, ["validation", "test"], "test", "validation"),
        (STOCK, ["dev", "test"], "test", "dev"),
        (MMLU, ["dev", "validation", "test"], "test", "dev"),
        (MMLU, ["validation", "test"], "test", "validation"),
    ],
)
def test_splits_that_are_here_are_used(
    definition: dict[str, str], present: list[str], scored: str, examples_from: str
) -> None:
    choice = choose_splits(definition, present)
    assert choice is not None
    assert (choice.scored, choice.examples_from) == (scored, examples_from)
    assert set(choice.changes.values()) <= {*present, None}


def test_nothing_changes_where_all_splits_are_here() -> None:
    choice = choose_splits(STOCK, ["train", "validation", "test"])
    assert choice is not None
    assert choice.changes == {**STOCK, "fewshot_split": None}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_only_split_gives_examples_without_the_scored_question(split: str) -> None:
    """lm-eval leaves the question out only where `fewshot_split` is `test_split`."""
    choice = choose_splits(STOCK, [split])
    assert choice is not None
    assert choice.changes["fewshot_split"] == choice.changes["test_split"] == split
    assert choice.examples_from == f"{split}, without the question that is scored"


def test_a_task_without_its_scored_split_cannot_be_scored() -> None:
    assert choose_splits(STOCK, ["train"]) is None
    assert choose_splits(STOCK, []) is None
