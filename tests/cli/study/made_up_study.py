"""Points of a study that nobody trained: a grid of a known law, for tests of its report."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.planning.laws.loss_law import LossLaw
from pipeline.planning.study.points import StudyPoint
from pipeline.store.counts import ModelScore

LAW = LossLaw("known", 1.5, 30.0, 0.4, 120.0, 0.3)
BUDGETS = (1e11, 3e11, 1e12, 3e12)
"""Their best sizes are 5,000 to 21,500."""
SIZES = (2_000, 4_000, 8_000, 16_000, 32_000)


def study_point(name: str, parameters: int, tokens: int, loss: float | None) -> StudyPoint:
    """Return a point whose FLOPs are 6 N D and whose N is the same however it is counted."""
    return StudyPoint(
        name=name,
        size=f"n{parameters}",
        budget="c",
        seed=1,
        parameters_total=parameters,
        parameters_non_embedding=parameters,
        parameters_multiplying=parameters,
        tokens=tokens,
        flops=6.0 * parameters * tokens,
        loss=loss,
        bits_per_byte=None if loss is None else loss / 3,
        steps=500,
        epochs=1.0,
        batch_tokens=1024,
        peak_learning_rate=0.001,
        tokenizer="t",
        held_out="tokens",
        held_out_text="text",
        run=f"runs/{name}/run",
        left_out="",
    )


def grid_points(
    noise: Sequence[float] = (0.0,), budgets: Sequence[float] = BUDGETS
) -> list[StudyPoint]:
    """Return an isoFLOP grid around the law's optimum; `noise` is added to the losses in turn."""
    points: list[StudyPoint] = []
    for parameters in SIZES:
        for flops in budgets:
            tokens = round(flops / 6 / parameters)
            loss = LAW.loss(parameters, tokens) + noise[len(points) % len(noise)]
            name = f"n{parameters}-c{flops:g}-s1".replace("+", "")
            points.append(study_point(name, parameters, tokens, loss))
    return points


def left_out(point: StudyPoint, reason: str) -> StudyPoint:
    return replace(point, left_out=reason)


def score_row(step: int, metric: str, value: float, *, task: str, shots: int = 0) -> ModelScore:
    """Return a line of a run's table of scores."""
    return {
        "task": task,
        "shots": shots,
        "seed": 1234,
        "metric": metric,
        "value": value,
        "standard_error": 0.01,
        "items": 200,
        "chance": 0.25,
        "uniform": 0.25,
        "model": f"step_{step:08d}",
        "title": f"run@{step}",
        "step": step,
        "tokens": 256 * step,
        "parameters": 1000,
    }
