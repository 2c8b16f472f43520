"""Which samples each step takes: by hand, and against a walk through the run step by step."""

import random

import pytest

from pipeline.config.step_plan import StepPlan, plan_steps

Ramp = list[tuple[int, int]]


def steps_of(plan: StepPlan) -> list[tuple[int, int, int]]:
    """Return (first position, samples, sequence length) of every step."""
    steps = range(1, plan.total_steps + 1)
    return [
        (plan.first_position(step), plan.samples(step), plan.sequence_length(step))
        for step in steps
    ]


def test_without_ramps_all_steps_are_alike_and_the_last_one_is_whole() -> None:
    plan = plan_steps(8, 32, 321)
    assert steps_of(plan) == [(4 * step, 4, 8) for step in range(11)]
    assert (plan.total_samples, plan.total_tokens, plan.sizes()) == (44, 352, [(11, 32)])
    assert [plan.tokens_after(step) for step in (0, 1, 11)] == [0, 32, 352]


def test_a_ramp_by_hand() -> None:
    """Samples of 8 tokens: 0, 16 | 32, 64 | 96, 160, and 224 is past the 200 tokens."""
    plan = plan_steps(8, 64, 200, [(32, 16), (96, 32)], [(64, 2), (97, 4)])
    assert steps_of(plan) == [(0, 2, 2), (2, 2, 2), (4, 4, 2), (8, 4, 4), (12, 8, 4), (20, 8, 8)]
    assert plan.sizes() == [(2, 16), (2, 32), (2, 64)]
    assert [plan.tokens(step) for step in (1, 3, 6)] == [16, 32, 64]
    assert [plan.tokens_after(step) for step in range(7)] == [0, 16, 32, 64, 96, 160, 224]


@pytest.mark.parametrize(
    ("ramp", "sizes"),
    [
        (
            [(17, 16)],
            [(2, 16), (3, 64)],
        ),  # the step that begins at 16 still is of the first size: 0, 16 | 32, 96, 160
        ([(16, 16), (18, 24)], [(1, 16), (1, 24), (3, 64)]),  # 0 | 16 | 40, 104, 168
        (
            [(10, 16), (16, 24)],
            [(1, 16), (3, 64)],
        ),  # the second entry ends before its first step: 0 | 16, 80, 144
        ([(500, 80)], [(3, 80)]),  # the run ends within the ramp: 0, 80, 160
        ([(500, 80), (600, 8)], [(3, 80)]),
    ],
)
def test_where_one_size_ends_and_the_next_begins(ramp: Ramp, sizes: list[tuple[int, int]]) -> None:
    assert plan_steps(8, 64, 200, ramp).sizes() == sizes


def random_plan(seed: int) -> tuple[int, int, int, Ramp, Ramp]:
    """Return arguments of `plan_steps`."""
    draw = random.Random(seed)
    sample = draw.choice([1, 4, 6, 16])
    lengths = [length for length in range(1, sample + 1) if sample % length == 0]
    untils = [sorted(draw.sample(range(1, 900), draw.randint(0, 4))) for _ in range(2)]
    sizes = [(until, sample * draw.randint(1, 9)) for until in untils[0]]
    return (
        sample,
        sample * draw.randint(1, 9),
        draw.randint(1, 1000),
        sizes,
        [(u, draw.choice(lengths)) for u in untils[1]],
    )


@pytest.mark.parametrize("seed", range(60))
def test_the_plan_is_a_walk_through_the_run(seed: int) -> None:
    sample, full, train_tokens, sizes, lengths = random_plan(seed)
    walked, tokens = [], 0
    while tokens < train_tokens:
        size = next((size for until, size in sizes if tokens < until), full)
        walked.append(
            (
                tokens // sample,
                size // sample,
                next((n for until, n in lengths if tokens < until), sample),
            )
        )
        tokens += size
    plan = plan_steps(sample, full, train_tokens, sizes, lengths)
    assert steps_of(plan) == walked
    assert plan.total_tokens == tokens
    assert [plan.step_of(position) for position in range(plan.total_samples)] == [
        step for step, (_, samples, _) in enumerate(walked, 1) for _ in range(samples)
    ]
    longer = plan_steps(sample, full, train_tokens + 777, sizes, lengths)
    assert steps_of(longer)[: len(walked)] == walked, "a run that is made longer keeps its steps"


def test_a_long_run_is_planned_without_its_steps() -> None:
    plan = plan_steps(2048, 2**22, 10**15, [(10**12, 2**21)])
    assert plan.total_steps == -(-(10**12) // 2**21) + -(
        -(10**15 - -(-(10**12) // 2**21) * 2**21) // 2**22
    )
