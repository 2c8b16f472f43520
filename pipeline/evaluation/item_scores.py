"""Scores of questions from stored log-likelihoods, without a model.

Each metric is a number for each question; its mean over the questions is the score. lm-eval's
metrics of the same names are equal. Reads and writes nothing.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from pipeline.evaluation.cells import Answer, Cell, Item

LN2 = math.log(2)


def item_scores(cell: Cell) -> dict[str, np.ndarray]:
    """Return every metric that a cell's log-likelihoods give, `(items,)` each.

    Answers to choose from: `acc` (the most likely answer is right), `acc_norm` (likelihood per
    character), `acc_bytes`, `acc_token`, `acc_mutual_info` (minus the answer's log-likelihood
    without the question; Brown et al. 2020, section 2.4), `bits_per_byte` of the right answer,
    `choice_probability` of the right ones (a softmax over the choices), `brier_score` (lower is
    better), `exact_match` (the right answer is what greedy decoding writes). One answer: `acc` and
    `bits_per_byte`. Whole texts: `bits_per_byte` of each. What the model writes: lm-eval's own.
    """
    if cell.kind == "multiple_choice":
        return _scores_of_choices(cell.items)
    if cell.kind == "generate_until":
        names = sorted({name for item in cell.items for name in item["metrics"]})
        return {
            name: np.array([item["metrics"].get(name, math.nan) for item in cell.items])
            for name in names
        }
    scores = {"bits_per_byte": np.array([_bits_per_byte(item) for item in cell.items])}
    if cell.kind == "loglikelihood":
        scores["acc"] = np.array([float(item["answers"][0]["is_greedy"]) for item in cell.items])
    return scores


def uniform_scores(cell: Cell, vocabulary: int) -> dict[str, float]:
    """Return the scores of a model that gives every token the same probability; ties are shared.

    An untrained model stands here and not at one divided by the number of choices: with uniform
    probabilities the answer with the fewest tokens wins. `vocabulary`: number of tokens. Empty for
    a task without choices.
    """
    if cell.kind != "multiple_choice":
        return {}
    uniform = -math.log(vocabulary)
    measures: dict[str, Callable[[Answer], float]] = {
        "acc": lambda answer: -answer["tokens"],
        "acc_norm": lambda answer: -answer["tokens"] / max(answer["characters"], 1),
        "acc_bytes": lambda answer: -answer["tokens"] / max(answer["bytes"], 1),
        "acc_token": lambda answer: 0.0,
        "acc_mutual_info": lambda answer: 0.0,
    }
    scores = {
        metric: float(np.mean([_share_of_right(item, measure) for item in cell.items]))
        for metric, measure in measures.items()
    }
    if any(answer["unconditional"] is None for item in cell.items for answer in item["answers"]):
        del scores["acc_mutual_info"]
    likelihoods = [
        np.array([uniform * answer["tokens"] for answer in item["answers"]]) for item in cell.items
    ]
    probabilities = [
        _softmax(values)[_positions(item)].sum()
        for values, item in zip(likelihoods, cell.items, strict=True)
    ]
    scores["choice_probability"] = float(np.mean(probabilities))
    return scores


def standard_error(scores: np.ndarray) -> float | None:
    """Return the standard error of the mean of scores; None for fewer than two.

    It is the sample's standard deviation divided by the root of the number of questions.
    """
    if len(scores) < 2:
        return None
    return float(scores.std(ddof=1) / math.sqrt(len(scores)))


def chance(items: Sequence[Item]) -> float | None:
    """Return the score of guessing among the choices; None for questions without choices."""
    if not items or any(len(item["answers"]) < 2 for item in items):
        return None
    return sum(len(_positions(item)) / len(item["answers"]) for item in items) / len(items)


def likelihoods_are_numbers(cell: Cell) -> bool:
    """Tell whether no log-likelihood of a cell is NaN."""
    return not any(
        math.isnan(answer["log_likelihood"]) for item in cell.items for answer in item["answers"]
    )


def questions_without_right_answer(cell: Cell) -> int:
    """Return how many questions have choices of which none is right."""
    if cell.kind != "multiple_choice":
        return 0
    return sum(not _positions(item) for item in cell.items)


def _scores_of_choices(items: Sequence[Item]) -> dict[str, np.ndarray]:
    rows = [_scores_of_question(item) for item in items]
    metrics = [metric for metric in rows[0] if all(metric in row for row in rows)]
    return {metric: np.array([row[metric] for row in rows]) for metric in metrics}


def _scores_of_question(item: Item) -> dict[str, float]:
    """Return the metrics of one question; `acc_mutual_info` only where it can be computed."""
    answers = item["answers"]
    right = _positions(item)
    values = np.array([answer["log_likelihood"] for answer in answers])
    by_character = values / _lengths(answers, "characters")
    by_byte = values / _lengths(answers, "bytes")
    by_token = values / _lengths(answers, "tokens")
    probabilities = _softmax(values)
    one_hot = np.zeros(len(answers))
    one_hot[right] = 1
    scores = {
        "acc": float(values.argmax() in right),
        "acc_norm": float(by_character.argmax() in right),
        "acc_bytes": float(by_byte.argmax() in right),
        "acc_token": float(by_token.argmax() in right),
        "bits_per_byte": _bits_per_byte(item),
        "choice_probability": float(probabilities[right].sum()),
        "brier_score": float(((probabilities - one_hot) ** 2).sum()),
        "exact_match": float(any(answers[position]["is_greedy"] for position in right)),
    }
    without_question = [answer["unconditional"] for answer in answers]
    if None not in without_question:
        gains = values - np.array(without_question, np.float64)
        scores["acc_mutual_info"] = float(gains.argmax() in right)
    return scores


def _positions(item: Item) -> list[int]:
    """Return the right answers that exist, each once."""
    count = len(item["answers"])
    return [position for position in dict.fromkeys(item["right"]) if 0 <= position < count]


def _bits_per_byte(item: Item) -> float:
    """Return the bits per byte of the first right answer; nan where none is right."""
    positions = _positions(item)
    if not positions:
        return math.nan
    answer = item["answers"][positions[0]]
    return -answer["log_likelihood"] / LN2 / max(answer["bytes"], 1)


def _lengths(
    answers: Sequence[Answer], unit: Literal["characters", "bytes", "tokens"]
) -> np.ndarray:
    return np.array([max(answer[unit], 1) for answer in answers], np.float64)


def _softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def _share_of_right(item: Item, measure: Callable[[Answer], float]) -> float:
    """Return the share of right answers among those with the largest measure."""
    values = np.array([measure(answer) for answer in item["answers"]])
    best = np.flatnonzero(values == values.max())
    return len(set(best.tolist()) & set(_positions(item))) / len(best)
