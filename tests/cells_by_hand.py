"""Cells of scores written down by hand, for tests of what is computed from them."""

from pipeline.evaluation.cells import Answer, Cell, Item
from pipeline.evaluation.results import CellResult, TaskKind


def answer(
    log_likelihood: float, text: str, tokens: int, unconditional: float | None = None
) -> Answer:
    return {
        "log_likelihood": log_likelihood,
        "is_greedy": False,
        "characters": len(text),
        "bytes": len(text.encode()),
        "tokens": tokens,
        "unconditional": unconditional,
    }


def question(number: int, answers: list[Answer], right: list[int], **metrics: float) -> Item:
    return {
        "id": number,
        "hash": f"hash-{number}",
        "answers": answers,
        "right": right,
        "cut": False,
        "written": None,
        "metrics": metrics,
    }


def cell(items: list[Item], kind: TaskKind = "multiple_choice", key: str = "key") -> Cell:
    result: CellResult = {
        "results": {"task": {"alias": "task", "acc,none": 0.5, "acc_stderr,none": 0.5}},
        "n-shot": {"task": 0},
        "n-samples": {"task": {"original": len(items), "effective": len(items)}},
        "kind": kind,
        "chance": 0.5,
        "uniform": {"acc": 0.5},
        "provenance": {
            "key": key,
            "weights": "weights",
            "tokenizer": "tokenizer",
            "task": "definition",
            "shots": 0,
            "seed": 1234,
            "limit": None,
            "harness": "0",
            "dtype": "float32",
            "model": "step_00000010",
            "title": "run@10",
            "step": 10,
            "tokens": 1000,
            "merge": {"coefficients": {}},
            "parameters": 100,
            "vocabulary": 10,
            "context_tokens": 64,
            "items": len(items),
            "text_bytes": 0,
            "scorer": "harness",
            "batch_sequences": 1,
            "device": "cpu",
            "requests": 0,
            "cut_requests": 0,
            "environment": {},  # pyright: ignore[reportAssignmentType]
        },
    }
    return Cell(items, result)
