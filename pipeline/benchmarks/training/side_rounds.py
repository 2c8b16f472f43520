"""Measure the sides in turn, each in a fresh process; then the parts of a step, and two ranks.

Fills a record as it goes, so that an interruption loses only what was being measured.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.benchmarks.common import run_python
from pipeline.benchmarks.training.nanogpt import VARIABLE, nanogpt_checkout
from pipeline.benchmarks.training.side_names import NANOGPT, WITHOUT_DEEPSPEED
from pipeline.benchmarks.training.side_results import (
    NO_TEMPLATE,
    ONE_RANK,
    TWO_RANKS,
    CpuFigures,
    SideFigures,
    StepFigures,
)
from pipeline.benchmarks.training.sizes import CpuPlan
from pipeline.benchmarks.training.step_settings import MEASURING_MODULE, ON_CPU, random_corpus
from pipeline.logs import note, warn

ONE_THREAD = {**ON_CPU, "OMP_NUM_THREADS": "1"}
"""Environment of one rank that computes with one thread."""


def measure_on_cpu(plan: CpuPlan, folder: Path, count: int, figures: CpuFigures) -> None:
    """Measure `count` rounds into `figures`; the corpora of random tokens are written to `folder`."""
    sides = _sides_here(plan.sides)
    for number in range(1, count + 1):
        for size in plan.sizes:
            turns = list(_turns(plan, size, sides))
            # Every other round goes backwards: no side is always the first after another.
            for template, side in turns if number % 2 else reversed(turns):
                note(f"benchmark: round {number} of {count}, {size}, {template}, {side}")
                measured = _measure_side(plan, size, template, side, folder)
                templates = figures["sides"].setdefault(size, {})
                templates.setdefault(template, {}).setdefault(side, []).append(measured)
    if plan.parts_steps:
        _measure_parts(plan, folder, figures)
    if plan.scaling is not None:
        _measure_scaling(plan, folder, count, figures)


def _sides_here(sides: Sequence[str]) -> list[str]:
    """Return the sides that can be measured here."""
    if nanogpt_checkout() is not None or NANOGPT not in sides:
        return list(sides)
    warn(f"benchmark: {VARIABLE} names no checkout of karpathy/nanoGPT, which is left out")
    return [side for side in sides if side != NANOGPT]


def _turns(plan: CpuPlan, size: str, sides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (template, side) of a round: first what no template changes."""
    yield from ((NO_TEMPLATE, side) for side in sides if side in WITHOUT_DEEPSPEED)
    for template in plan.templates:
        yield from ((template, side) for side in sides if side not in WITHOUT_DEEPSPEED)


def _measure_side(plan: CpuPlan, size: str, template: str, side: str, folder: Path) -> SideFigures:
    """Measure one side in a fresh process."""
    measured = plan.sizes[size]
    named = template
    if template == NO_TEMPLATE:
        named = plan.templates[0]
    corpus = random_corpus(folder, size, measured.settings)
    arguments = {
        "config": str(measured.settings.write(corpus, named, named)),
        "side": side,
        "warm_up": measured.warm_up,
        "steps": measured.steps,
    }
    process = run_python(
        MEASURING_MODULE, "measure_side", json.dumps(arguments), variables=ONE_THREAD
    )
    step: StepFigures = process.measured
    return {**step, "peak_bytes": process.peak_bytes}


def _measure_parts(plan: CpuPlan, folder: Path, figures: CpuFigures) -> None:
    """Measure the parts of a step of our loop and the plain one, once."""
    for size, measured in plan.sizes.items():
        corpus = random_corpus(folder, size, measured.settings)
        for template in plan.templates:
            note(f"benchmark: which part of a step takes which time: {size}, {template}")
            path = measured.settings.write(corpus, template, template)
            arguments = json.dumps({"config": str(path), "steps": plan.parts_steps})
            figures["parts"].setdefault(size, {})[template] = run_python(
                MEASURING_MODULE, "measure_parts_of_step", arguments, variables=ONE_THREAD
            ).measured


def _measure_scaling(plan: CpuPlan, folder: Path, count: int, figures: CpuFigures) -> None:
    """Measure one rank and two, whose batch grows with them, in turn."""
    assert plan.scaling is not None
    corpus = random_corpus(folder, "scaling", plan.scaling)
    for number in range(1, count + 1):
        for name, ranks in ((ONE_RANK, 1), (TWO_RANKS, 2)):
            note(f"benchmark: round {number} of {count}, {name}")
            tokens = plan.scaling.global_batch_tokens * ranks
            settings = replace(plan.scaling, global_batch_tokens=tokens)
            path = settings.write(corpus, "zero1", f"ranks-{ranks}")
            arguments = {"config": str(path), "count": ranks, "steps": plan.scaling_steps}
            rate = run_python(
                MEASURING_MODULE, "measure_ranks", json.dumps(arguments), variables=ON_CPU
            ).measured["tokens_per_second"]
            figures["scaling"].setdefault(name, []).append(rate)
