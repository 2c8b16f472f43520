"""Measure, after the last step of a run, what share of a step its communication takes.

Steps with the reduction of gradients and steps without it take turns in one process, so that what
else slows the machine slows both. Writes an event.

DeepSpeed's own logger of communication is not used: in 0.19.8 it adds up the times of all calls so far
for each call, and it makes every call wait for its end, which leaves nothing to overlap.
"""

import time
from contextlib import AbstractContextManager, nullcontext

from pipeline.engine.groups import (
    collective_backend,
    nodes_of_world_ranks,
    reduction_seconds,
    wait_for_world_ranks,
    without_reduction,
)
from pipeline.engine.node_rates import bus_bandwidth
from pipeline.engine.optimizers.parameter_groups import set_learning_rate
from pipeline.model.device_batch import DeviceBatch
from pipeline.store.events import COMMUNICATION, write_event
from pipeline.training.run import Run
from pipeline.training.train_step import train_step
from pipeline.work.cores import core_count
from pipeline.work.network_links import links_in_words, network_links

FIRST_PAIRS = 1
"""Pairs that do not count: caches are cold."""
MOST_ELEMENTS = 1 << 24
"""Largest vector of the all-reduces: 64 MiB."""
REPEATS = 5


def is_communication_measured(run: Run) -> bool:
    """Tell whether the run file asks for it, and there is something to measure."""
    return run.config.train.communication_steps > 0 and run.groups.sizes.world > 1


def measure_communication(run: Run, micro_batches: list[DeviceBatch]) -> None:
    """Make steps with and without reduction, and write their seconds as an event.

    Every rank calls it after its last step, with micro-batches of its own. The learning rate is 0, so
    that weights stay what they are; they are not saved afterwards.
    """
    engine = run.engine
    set_learning_rate(engine, 0.0)

    # Without gathered weights there is nothing to compute with.
    can_leave_out = engine.zero_optimization_stage() < 3
    seconds_with: list[float] = []
    seconds_without: list[float] = []
    for _ in range(FIRST_PAIRS + run.config.train.communication_steps):
        seconds_with.append(_seconds_of_step(run, micro_batches, nullcontext()))
        if can_leave_out:
            seconds_without.append(_seconds_of_step(run, micro_batches, without_reduction()))
        run.progress.heartbeat.beat("measuring communication")

    # The rate of the links between the ranks themselves.
    elements = min(MOST_ELEMENTS, sum(p.numel() for p in engine.module.parameters()))
    reductions = sorted(reduction_seconds(elements, engine.device, REPEATS))
    nodes = nodes_of_world_ranks(run.groups)
    if run.groups.is_rank_0:
        ranks = run.groups.sizes.world
        write_event(
            run.config.paths.run_dir,
            COMMUNICATION,
            ranks=ranks,
            nodes=nodes,
            cores=core_count(),
            backend=collective_backend(),
            network=links_in_words(network_links()),
            seconds_with=seconds_with[FIRST_PAIRS:],
            seconds_without=seconds_without[FIRST_PAIRS:],
            bytes_per_second=bus_bandwidth(ranks, 4 * elements, reductions[REPEATS // 2]),
        )


def _seconds_of_step(
    run: Run, micro_batches: list[DeviceBatch], how: AbstractContextManager[None]
) -> float:
    """Return the seconds until all ranks have ended a step."""
    device = run.engine.device
    wait_for_world_ranks(device)
    started = time.perf_counter()
    with how:
        train_step(run, micro_batches, run.config.total_steps)
    wait_for_world_ranks(device)
    return time.perf_counter() - started
