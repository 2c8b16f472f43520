"""Scores that others have published, drawn in grey beside a run's own.

Reads `pythia_scores.csv` beside this module: Pythia's scores by size, number of examples and step.
GPT-2's are few enough to stand here. The harness was an older version, so that small differences mean nothing.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("pythia_scores.csv")
TOKENS_OF_A_STEP = 2_097_152
"""Tokens of Pythia's batch, 1,024 sequences of 2,048. Source: Biderman et al. 2023, section 2."""
PARAMETERS = {"70m": 70_426_624, "410m": 405_334_016, "2.8b": 2_775_208_960, "12b": 11_846_072_320}
"""Size -> parameters, embeddings included. Source: the table of EleutherAI/pythia's README."""

GPT2_PARAMETERS = 1_557_611_200
"""Parameters of the largest GPT-2, the only one whose scores are in the sources."""
GPT2_SCORES = {
    ("lambada_openai", "acc"): 0.5121,
    ("winogrande", "acc"): 0.5940,
    ("hellaswag", "acc"): 0.4003,
    ("hellaswag", "acc_norm"): 0.509,
    ("piqa", "acc"): 0.7078,
}
"""Task and metric -> score without examples. Source: README.md of EleutherAI/gpt-neo at 00d8d70c;
`acc_norm` from README.md of kingoflolz/mesh-transformer-jax at 02850c46. Both name lm-eval."""


@dataclass(frozen=True)
class PublishedPoint:
    """One published score."""

    size: str
    """Pythia's name of the model, such as `410m`."""
    shots: int
    """Solved examples before each question."""
    tokens: int
    """Tokens of training."""
    score: float


def has_published(task: str, metric: str) -> bool:
    """Tell whether anything is published of a task by a metric."""
    return (task, metric) in GPT2_SCORES or bool(published_points(task, metric))


@cache
def published_points(task: str, metric: str) -> tuple[PublishedPoint, ...]:
    """Return Pythia's scores in a task by a metric, by size and tokens; empty where unknown."""
    with TABLE.open(encoding="utf-8") as file:
        lines = [line for line in file if not line.startswith("#")]
    points: list[PublishedPoint] = []
    for row in csv.DictReader(lines):
        value = row.get(f"{task} {metric}")
        if value:
            tokens = int(row["step"]) * TOKENS_OF_A_STEP
            points.append(PublishedPoint(row["size"], int(row["shots"]), tokens, float(value)))
    return tuple(points)
