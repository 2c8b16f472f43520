"""`pipeline benchmark evaluate`: CPU time of scoring answers, beside lm-eval's transformers model.

Needs no run file and no data: random weights in the quickstart's shape, random tokens in HellaSwag's
lengths. Each side is measured in a fresh process (`measure_evaluate.py`). Writes JSON.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pipeline.benchmarks.common import (
    Measurement,
    measure_in_rounds,
    met_or_missed,
    run_python,
    show_table,
    write_results,
)
from pipeline.benchmarks.measure_evaluate import (
    ANSWERS,
    HARNESS,
    SHARING,
    ScoringShape,
    random_requests,
)
from pipeline.evaluation.scorer.passes import plan_passes
from pipeline.evaluation.scorer.sharing_scorer import CPU_TOKENS_PER_PASS
from pipeline.evaluation.scorer.slices import AnswerRequest, slice_ranges, sorted_sequences
from pipeline.evaluation.scorer.token_trees import shared_inputs
from pipeline.logs import console

MEASURING_MODULE = "pipeline.benchmarks.measure_evaluate"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
QUICKSTART: ScoringShape = {
    "vocabulary": 2048,
    "max_length": 2048,
    "hidden_size": 128,
    "intermediate_size": 384,
    "layers": 4,
    "heads": 4,
    "context_tokens": 80,
    "answer_tokens": 46,
    "shots": 0,
    "has_fixed_examples": False,
    "items": 60,
}
"""The model of jobs/quickstart.yaml with room for five examples; the lengths of every tenth question
of HellaSwag's validation set with its tokenizer."""
LARGE_VOCABULARY: ScoringShape = {
    **QUICKSTART,
    "vocabulary": 50_257,
    "context_tokens": 50,
    "answer_tokens": 30,
}
"""The same with the vocabulary of GPT-2, and HellaSwag's lengths with that of GPT-NeoX."""


@dataclass(frozen=True)
class ScoringCase:
    """What is scored, and how much faster than HFLM sharing should be at least."""

    shape: ScoringShape
    least_ratio: float | None = None


CASES = {
    "k = 0": ScoringCase({**QUICKSTART}, 1.8),
    "k = 5": ScoringCase({**QUICKSTART, "shots": 5, "items": 16}, 4.0),
    "k = 5, the same for all": ScoringCase(
        {**QUICKSTART, "shots": 5, "items": 16, "has_fixed_examples": True}
    ),
    "k = 0, 50k ids": ScoringCase({**LARGE_VOCABULARY, "items": 24}, 3.0),
    "k = 5, 50k ids": ScoringCase({**LARGE_VOCABULARY, "shots": 5, "items": 8}, 6.0),
}


class CaseResult(TypedDict):
    """Medians over the rounds for one case, and what bounds them."""

    harness_seconds: float
    """CPU seconds for each item."""
    sharing_seconds: float
    ratio: float
    """CPU time of HFLM in that of sharing."""
    bound: float
    """The same ratio in floating-point operations, without any padding or overhead."""
    read_share: float
    """Tokens read by sharing, padding included, as a share of those that HFLM reads."""
    least_ratio: float | None


class EvaluateResults(TypedDict):
    """What the JSON file holds."""

    rounds: int
    cases: dict[str, CaseResult]


def benchmark_evaluate(
    rounds: int, output: Path, measured: Mapping[str, ScoringCase] = CASES
) -> None:
    """Measure cases, print them as a table and write them."""
    parts: dict[str, Measurement] = {}
    for name, case in measured.items():
        for side in (HARNESS, SHARING):
            parts[f"{name}: {side}"] = _measurement(side, case.shape)
    medians = measure_in_rounds(rounds, parts)

    cases: dict[str, CaseResult] = {}
    for name, case in measured.items():
        harness = medians[f"{name}: {HARNESS}"]["cpu_seconds"]
        sharing = medians[f"{name}: {SHARING}"]["cpu_seconds"]
        work = count_work(random_requests(case.shape), case.shape)
        cases[name] = {
            "harness_seconds": harness / case.shape["items"],
            "sharing_seconds": sharing / case.shape["items"],
            "ratio": harness / sharing,
            "bound": work.harness_flops / work.least_flops,
            "read_share": work.read_tokens / work.harness_tokens,
            "least_ratio": case.least_ratio,
        }
    results: EvaluateResults = {"rounds": rounds, "cases": cases}
    _show(results)
    write_results(output, results)


def _measurement(side: str, shape: ScoringShape) -> Measurement:
    """Return a function that measures one side of a case in a fresh process with one thread."""
    arguments = json.dumps({"side": side, "shape": shape})
    return lambda: run_python(MEASURING_MODULE, arguments, variables=ONE_THREAD).measured


@dataclass(frozen=True)
class ScoringWork:
    """Work of one case."""

    harness_tokens: int
    """Tokens that HFLM reads, without padding."""
    harness_flops: float
    read_tokens: int
    """Tokens that sharing reads, with padding."""
    least_flops: float
    """Operations where every shared token is read once, with its ancestors only."""


def count_work(requests: Sequence[AnswerRequest], shape: ScoringShape) -> ScoringWork:
    """Count tokens and operations of both ways to score requests.

    2 operations for each weight and token, 4 times the hidden size for each pair of tokens in the
    attention of a layer; causal attention has half of the pairs.
    """
    width = shape["hidden_size"]
    of_layer = 4 * width**2 + 3 * width * shape["intermediate_size"]
    token = 2 * shape["layers"] * of_layer
    pair = 4 * shape["layers"] * width
    logits = 2 * width * shape["vocabulary"]

    # HFLM reads every sequence, and computes logits at each of its tokens.
    lengths = [len(context) + len(answer) - 1 for context, answer in requests]
    harness_flops = sum(
        length * (token + logits) + pair * length * (length + 1) / 2 for length in lengths
    )

    # The least: each token of the tree once, and logits where a token is predicted.
    sequences, _ = sorted_sequences(requests, shape["max_length"])
    least_flops = 0.0
    for place, sequence in enumerate(sequences):
        shared = 0
        if place:
            shared = shared_inputs(sequences[place - 1], sequence)
        new = sequence.inputs - shared
        least_flops += token * new + pair * new * (shared + 1 + sequence.inputs) / 2

    # What sharing reads, in its passes.
    read_tokens = 0
    for start, stop in slice_ranges(sequences):
        passes = plan_passes(sequences[start:stop], CPU_TOKENS_PER_PASS)
        prefixes = {id(planned.prefixes): planned.prefixes for planned in passes}
        read_tokens += sum(planned.tokens.size for planned in passes)
        read_tokens += sum(each.tokens.size for each in prefixes.values())
        least_flops += logits * sum(len(planned.places) for planned in passes)
    return ScoringWork(sum(lengths), harness_flops, read_tokens, least_flops)


def _show(results: EvaluateResults) -> None:
    """Print a row for each case."""
    show_table(
        f"CPU time of scoring questions with {ANSWERS} answers, medians of {results['rounds']} rounds",
        ("", "HFLM, ms", "ms", "read", "ratio", "bound", "of bound", "at least", ""),
        [_case_row(name, case) for name, case in results["cases"].items()],
    )
    console.print(
        "ms: CPU time of an item. read: tokens, as a share of those that HFLM reads. ratio: times "
        "faster. bound: the same by floating-point operations.\n"
    )


def _case_row(name: str, case: CaseResult) -> Sequence[str]:
    wanted = ""
    verdict = ""
    if case["least_ratio"] is not None:
        wanted = f"{case['least_ratio']:.1f}"
        verdict = met_or_missed(case["ratio"] >= case["least_ratio"])
    return (
        name,
        f"{case['harness_seconds'] * 1e3:,.0f}",
        f"{case['sharing_seconds'] * 1e3:,.0f}",
        f"{case['read_share']:.2f}",
        f"{case['ratio']:.2f}",
        f"{case['bound']:.2f}",
        f"{case['ratio'] / case['bound']:.0%}",
        wanted,
        verdict,
    )
