"""Where parameters lie in ZeRO's flat tensors, on numbers small enough to draw."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.shards import Slot, copy_slots, even_slots, vector_slots


def test_a_vector_is_cut_wherever_the_cuts_fall() -> None:
    """a has 5 elements and b 3, on 2 ranks of 4: aaaa | abbb."""
    assert vector_slots([{"a": torch.Size([5]), "b": torch.Size([3])}], [4], 2) == [
        [Slot("a", 0, 4, 0, 0)],
        [Slot("a", 4, 1, 0, 0), Slot("b", 0, 3, 0, 1)],
    ]


def test_even_parts_are_padded_and_may_be_empty() -> None:
    """a has 5 elements, b 2 x 2 and c 1, on 4 ranks: parts of 2, 1 and 1, and c lies on the first
    rank alone."""
    shapes = [{"a": torch.Size([5]), "b": torch.Size([2, 2])}, {"c": torch.Size([1])}]
    assert even_slots(shapes, 4) == [
        [Slot("a", 0, 2, 0, 0), Slot("b", 0, 1, 0, 2), Slot("c", 0, 1, 1, 0)],
        [Slot("a", 2, 2, 0, 0), Slot("b", 1, 1, 0, 2)],
        [Slot("a", 4, 1, 0, 0), Slot("b", 2, 1, 0, 2)],
        [Slot("b", 3, 1, 0, 2)],
    ]


def test_a_part_that_no_old_rank_holds_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="2 of the 3 elements"):
        copy_slots(
            [3], [Slot("a", 0, 3, 0, 0)], [[Slot("a", 0, 2, 0, 0)]], lambda rank: [torch.ones(2)]
        )


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    before=st.integers(1, 6),
    after=st.integers(1, 6),
    to_even=st.booleans(),
    from_even=st.booleans(),
)
def test_any_number_of_ranks_and_either_layout_hold_the_same_parameters(
    lengths: list[int], before: int, after: int, to_even: bool, from_even: bool
) -> None:
    """Spread parameters over some ranks, copy them to others, and read them from there."""
    named = {f"p{i}": length for i, length in enumerate(lengths)}
    values = {name: torch.randn(length) for name, length in named.items()}

    shapes = [{name: torch.Size([length]) for name, length in named.items()}]

    def layout(ranks: int, even: bool) -> list[list[Slot]]:
        return (
            even_slots(shapes, ranks)
            if even
            else vector_slots(shapes, [-(-sum(lengths) // ranks)], ranks)
        )

    size = sum(lengths) + len(lengths)  # enough for any padding
    old_slots, new_slots = layout(before, from_even), layout(after, to_even)
    old = [[torch.full((size,), torch.nan)] for _ in range(before)]
    for its_slots, (flat,) in zip(old_slots, old, strict=True):
        for slot in its_slots:
            flat[slot.offset : slot.offset + slot.length] = values[slot.name][
                slot.start : slot.start + slot.length
            ]
    found = {name: torch.full((length,), torch.nan) for name, length in named.items()}
    for slots in new_slots:
        (flat,) = copy_slots([size], slots, old_slots, old.__getitem__)
        assert flat.count_nonzero() <= sum(slot.length for slot in slots), "padding is zero"
        for slot in slots:
            found[slot.name][slot.start : slot.start + slot.length] = flat[
                slot.offset : slot.offset + slot.length
            ]
    for name, value in values.items():
        assert torch.equal(found[name], value)
