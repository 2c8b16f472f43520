"""Who is held out, and what to set where a split is empty."""

import re

import pytest

from pipeline.corpus.split import (
    HashRange,
    SplitSetting,
    choose_split,
    empty_split_advice,
    hash_position,
    shared_split_advice,
)

SETTING = "prepare.validation_fraction"


def test_a_fraction_of_all_keys_is_held_out() -> None:
    assert choose_split(hash_position(b"any"), 0) == "train"
    held_out = sum(
        choose_split(hash_position(str(i).encode()), 0.1) == "validation" for i in range(10_000)
    )
    assert abs(held_out - 1000) < 4 * 30  # a standard deviation is sqrt(10000 x 0.1 x 0.9) = 30


@pytest.mark.parametrize(
    ("smallest", "largest", "number"),
    [
        (0.0123, 0.9, 0.02),
        (0.0123, 0.0125, 0.0124),
        (0.0199999, 0.02, 0.02),
        (0.1, 0.7, 0.2),
        (0.25, 0.26, 0.26),
        (0.0, 0.9, 1e-12),
        (0.0100000000001, 0.01000000000011, 0.01000000000011),
        (0.4444, 0.5, 0.45),
    ],
)
def test_the_number_that_would_do_holds_out_one_and_leaves_one(
    smallest: float, largest: float, number: float
) -> None:
    advice = empty_split_advice(
        {"train": 2, "validation": 0}, smallest, largest, SplitSetting(SETTING, 0.001)
    )
    assert advice is not None
    (told,) = re.findall(r"validation_fraction to (\S+) or more", advice)
    assert float(told) == number
    assert (
        choose_split(smallest, number) == "validation" and choose_split(largest, number) == "train"
    )


@pytest.mark.parametrize(
    ("smallest", "largest"), [(0.3, 0.3), (0.5, 0.9), (0.497, 0.4971), (0.4999999, 0.9)]
)
def test_where_no_number_would_do_none_is_told(smallest: float, largest: float) -> None:
    advice = empty_split_advice(
        {"train": 2, "validation": 0}, smallest, largest, SplitSetting(SETTING, 0.001)
    )
    assert advice is not None
    told = re.findall(r"validation_fraction to (\S+) or more", advice)
    assert all(smallest < float(number) <= largest and float(number) < 0.5 for number in told)
    assert bool(told) == (smallest < 0.5 and smallest < largest)


def test_a_source_that_is_held_out_whole_is_told_how_to_get_something_to_train_on() -> None:
    advice = empty_split_advice(
        {"train": 0, "validation": 2}, 0.1, 0.237, SplitSetting(SETTING, 0.3)
    )
    assert advice is not None and "0.23 or less" in advice
    assert choose_split(0.237, 0.23) == "train"


def test_nothing_is_said_where_both_splits_have_documents_or_none_is_wanted() -> None:
    assert (
        empty_split_advice({"train": 1, "validation": 1}, 0.1, 0.9, SplitSetting(SETTING, 0.2))
        is None
    )
    assert (
        empty_split_advice({"train": 1, "validation": 0}, 0.1, 0.1, SplitSetting(SETTING, 0))
        is None
    )


def test_sources_that_share_a_setting_get_the_one_value_that_suits_all() -> None:
    """0.07 would do for a, 0.3 for b; c has held-out documents already and must keep some to train on."""
    setting = SplitSetting(SETTING, 0.001)
    sources = {
        "a": HashRange(18, 0.065, 0.9, True),
        "b": HashRange(5, 0.27, 0.8, True),
        "c": HashRange(1000, 0.0001, 0.99, False),
    }
    advice = shared_split_advice(sources, setting)
    assert advice is not None
    assert advice.startswith("nothing is held out of a (18 documents), b (5 documents): ")
    assert f"{SETTING} = 0.3 (now 0.001) is the least that suits all" in advice
    # b would need more than leaves c anything to train on.
    none = shared_split_advice({**sources, "c": HashRange(2, 0.0001, 0.2, False)}, setting)
    assert none is not None and f"No {SETTING} suits all" in none
    assert "sources.NAME.validation_paths" in none
    # Of a single document no part can be held out.
    one = shared_split_advice({"d": HashRange(1, 0.2, 0.2, True)}, setting)
    assert one is not None and f"No {SETTING} suits all" in one
    assert shared_split_advice({"c": sources["c"]}, setting) is None
