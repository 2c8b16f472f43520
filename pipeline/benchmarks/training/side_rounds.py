"""Measure the sides in turns; then the parts of a step, and two ranks beside one.

Fills a record as it goes, so that an interruption loses only what was being measured.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.benchmarks.common import run_python
from pipeline.benchmarks.training.nanogpt import VARIABLE, nanogpt_checkout
from pipeline.benchmarks.training.side_names import NANOGPT, OURS
from pipeline.benchmarks.training.side_results import (
    ONE_RANK,
    ROUNDS_OF_A_PROCESS,
    TWO_RANKS,
    TWO_RUNS,
    CpuFigures,
)
from pipeline.benchmarks.training.sizes import CpuPlan, MeasuredSize
from pipeline.benchmarks.training.step_settings import MEASURING_MODULE, ON_CPU, random_corpus
from pipeline.benchmarks.training.turns import MeasuredProcess
from pipeline.logs import note, warn
from pipeline.store.rank_environment import host_memory_variables

ONE_THREAD = {**ON_CPU, "OMP_NUM_THREADS": "1"}
"""Environment of one rank that computes with one thread."""
OUR_MODULE = "pipeline.benchmarks.training.measure_ours"
"""MEASURING_MODULE in a process that imports what the ranks of a run import."""


@dataclass(frozen=True)
class Training:
    """What the sides train: a size with a template."""

    size: str
    template: str
    measured: MeasuredSize
    config: Path
    """The file of its settings."""

    @property
    def name(self) -> str:
        """The name for messages."""
        return f"{self.size}, {self.template}"

    def arguments(self, side: str) -> dict[str, object]:
        """Return the arguments with which the measuring module measures one side."""
        return {
            "config": str(self.config),
            "side": side,
            "warm_up": self.measured.warm_up,
            "steps": self.measured.steps,
        }


@dataclass(frozen=True)
class RankedProcess:
    """The process of one or more ranks of ours."""

    process: MeasuredProcess
    tokens: int
    """Tokens of a step."""


def measure_on_cpu(plan: CpuPlan, folder: Path, count: int, figures: CpuFigures) -> None:
    """Measure `count` rounds into `figures`; the corpora of random tokens are written to `folder`."""
    sides = _sides_here(plan.sides)
    trainings = list(_trainings(plan, folder))
    for rounds in blocks(count):
        for training in trainings:
            note(f"benchmark: rounds {_in_words(rounds, count)}, {training.name}")
            _measure_sides(training, sides, rounds, figures)
    if plan.with_parts:
        for training in trainings:
            _measure_parts(training, sides, figures)
    if plan.scaling is not None:
        _measure_scaling(plan, folder, count, figures)


def _trainings(plan: CpuPlan, folder: Path) -> Iterator[Training]:
    """Yield every size with every template, with their settings and corpora written."""
    for size, measured in plan.sizes.items():
        corpus = random_corpus(folder, size, measured.settings)
        for template in plan.templates:
            config = measured.settings.write(corpus, template, template)
            yield Training(size, template, measured, config)


def blocks(count: int) -> Iterator[range]:
    """Yield the numbers of the rounds that are measured in the same processes."""
    for first in range(1, count + 1, ROUNDS_OF_A_PROCESS):
        yield range(first, min(first + ROUNDS_OF_A_PROCESS, count + 1))


def _in_words(rounds: range, count: int) -> str:
    return f"{rounds[0]} to {rounds[-1]} of {count}"


def _our_environment() -> dict[str, str]:
    """Return ONE_THREAD with what the launch of a run adds for its ranks."""
    return ONE_THREAD | host_memory_variables()


def _module_and_environment(side: str) -> tuple[str, dict[str, str]]:
    """Return what measures a side; ours has the imports and the environment of a run's ranks."""
    if side == OURS:
        return OUR_MODULE, _our_environment()
    return MEASURING_MODULE, ONE_THREAD


def _sides_here(sides: Sequence[str]) -> list[str]:
    """Return the sides that can be measured here."""
    if nanogpt_checkout() is not None or NANOGPT not in sides:
        return list(sides)
    warn(f"benchmark: {VARIABLE} names no checkout of karpathy/nanoGPT, which is left out")
    return [side for side in sides if side != NANOGPT]


def _measure_sides(
    training: Training, sides: Sequence[str], rounds: range, figures: CpuFigures
) -> None:
    """Measure some rounds of all sides, each in a process of its own."""
    measured = figures["sides"].setdefault(training.size, {}).setdefault(training.template, {})
    losses = figures["losses"].setdefault(training.size, {}).setdefault(training.template, {})
    with ExitStack() as stack:
        processes: dict[str, MeasuredProcess] = {}
        for side in sides:
            module, variables = _module_and_environment(side)
            arguments = {**training.arguments(side), "turns": len(rounds)}
            process = MeasuredProcess(module, "measure_side", arguments, variables)
            processes[side] = stack.enter_context(process)
        for process in processes.values():
            process.wait_until_warm()
        for number in rounds:
            # Every other round goes backwards: no side is always the first after another.
            for side in sides if number % 2 else reversed(sides):
                turn = processes[side].turn()
                measured.setdefault(side, []).append(turn)
        for side, process in processes.items():
            losses.setdefault(side, []).append(process.result())


def _measure_parts(training: Training, sides: Sequence[str], figures: CpuFigures) -> None:
    """Measure the parts of a step of each side but nanoGPT's, once, one side after another."""
    measured = figures["parts"].setdefault(training.size, {}).setdefault(training.template, {})
    for side in sides:
        if side == NANOGPT:
            continue
        note(f"benchmark: which part of a step takes which time: {training.name}, {side}")
        module, variables = _module_and_environment(side)
        arguments = json.dumps(training.arguments(side))
        process = run_python(module, "measure_parts_of_step", arguments, variables=variables)
        measured[side] = process.measured


def _measure_scaling(plan: CpuPlan, folder: Path, count: int, figures: CpuFigures) -> None:
    """Measure one rank, two such runs at once, and two ranks with twice the batch, in turns."""
    for rounds in blocks(count):
        note(f"benchmark: rounds {_in_words(rounds, count)}, one rank and two")
        one = _ranked_process(plan, folder, 1, 2 * len(rounds))
        beside = _ranked_process(plan, folder, 1, len(rounds), first_core=1)
        two = _ranked_process(plan, folder, 2, len(rounds))
        measured = {ONE_RANK: [one], TWO_RUNS: [one, beside], TWO_RANKS: [two]}
        with ExitStack() as stack:
            for each in (one, beside, two):
                stack.enter_context(each.process)
            for each in (one, beside, two):
                each.process.wait_until_warm()
            for number in rounds:
                for name in measured if number % 2 else reversed(measured):
                    rate = _rate_at_once(measured[name])
                    figures["scaling"].setdefault(name, []).append(rate)


def _ranked_process(
    plan: CpuPlan, folder: Path, ranks: int, turns: int, first_core: int = 0
) -> RankedProcess:
    """Return the process of some ranks of ours, each on a core of its own."""
    assert plan.scaling is not None
    corpus = random_corpus(folder, "scaling", plan.scaling)
    tokens = plan.scaling.global_batch_tokens * ranks
    settings = replace(plan.scaling, global_batch_tokens=tokens)
    arguments = {
        "config": str(settings.write(corpus, "zero1", f"ranks-{ranks}-{first_core}")),
        "count": ranks,
        "first_core": first_core,
        "steps": plan.scaling_steps,
        "turns": turns,
    }
    variables = ON_CPU | host_memory_variables()
    return RankedProcess(MeasuredProcess(OUR_MODULE, "measure_ranks", arguments, variables), tokens)


def _rate_at_once(together: Sequence[RankedProcess]) -> float:
    """Return the tokens per second of processes that do a turn at the same time, all in all."""
    for each in together:
        each.process.begin_turn()
    return sum(each.tokens / each.process.end_turn()["wall_seconds"] for each in together)
