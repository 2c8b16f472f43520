"""`pipeline benchmark evaluate` on a model so small that only its arithmetic can be looked at."""

from pathlib import Path

import pytest

from pipeline.benchmarks.evaluate import CASES, ScoringCase, benchmark_evaluate, count_work
from pipeline.benchmarks.measure_evaluate import (
    HARNESS,
    SHARING,
    ScoringShape,
    measure_scoring,
    random_requests,
)
from pipeline.store.files import read_json

TINY: ScoringShape = {
    "vocabulary": 20,
    "max_length": 128,
    "hidden_size": 8,
    "intermediate_size": 16,
    "layers": 1,
    "heads": 2,
    "context_tokens": 12,
    "answer_tokens": 5,
    "shots": 2,
    "has_fixed_examples": False,
    "items": 5,
}


def test_both_sides_score_the_same() -> None:
    harness = measure_scoring(HARNESS, TINY)
    sharing = measure_scoring(SHARING, TINY)
    assert harness["log_likelihood"] == pytest.approx(sharing["log_likelihood"], abs=1e-3)
    assert harness["cpu_seconds"] > 0 < sharing["cpu_seconds"]


def test_work_by_hand() -> None:
    # Inputs 1 2 3 and 1 2 4: HFLM reads 6 tokens, the tree has 4; 1 + 2 of them predict.
    work = count_work([([1, 2], [3, 9]), ([1, 2], [4, 9])], TINY)
    token = 2 * (4 * 8 * 8 + 3 * 8 * 16)
    pair = 4 * 8
    logits = 2 * 8 * 20
    assert work.harness_tokens == 6
    assert work.read_tokens == 4
    assert work.harness_flops == 6 * (token + logits) + 2 * (1 + 2 + 3) * pair
    assert work.least_flops == 4 * token + 3 * logits + (1 + 2 + 3 + 3) * pair


def test_fixed_examples_come_before_every_question() -> None:
    fixed = random_requests({**TINY, "has_fixed_examples": True})
    own = random_requests(TINY)
    assert len(fixed) == len(own) == 4 * TINY["items"]
    assert len({tuple(context[:12]) for context, _ in fixed}) == 1
    assert len({tuple(context[:12]) for context, _ in own}) == TINY["items"]


@pytest.mark.parametrize("name", CASES)
def test_every_case_fits_into_the_context(name: str) -> None:
    shape = CASES[name].shape
    longest = max(len(context) + len(answer) for context, answer in random_requests(shape))
    assert longest <= shape["max_length"]


@pytest.mark.ranks
@pytest.mark.full
def test_a_case_is_measured_in_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results.json"
    benchmark_evaluate(1, output, {"tiny": ScoringCase(TINY, 1000.0)})
    (case,) = read_json(output)["cases"].values()
    assert case["ratio"] == pytest.approx(case["harness_seconds"] / case["sharing_seconds"])
    assert case["bound"] > 1 > case["read_share"]
    assert "MISSED" in capsys.readouterr().out
