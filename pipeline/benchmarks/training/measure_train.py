"""Measure training in a fresh process.

`python -m pipeline.benchmarks.training.measure_train NAME ARGUMENTS` calls one function of this
module, or `measure_saves`; the arguments are JSON. The last line that it prints is JSON.
"""

import json
import logging
import math
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.benchmarks.checkpoint import SaveFigures
from pipeline.benchmarks.measure_saves import measure_saves
from pipeline.benchmarks.training.gpu_results import MatrixProduct
from pipeline.benchmarks.training.nanogpt import train_nanogpt
from pipeline.benchmarks.training.peers import PEERS, functions_of_engines, peer_inputs
from pipeline.benchmarks.training.side_names import NANOGPT, OURS, PLAIN
from pipeline.benchmarks.training.step_parts import (
    PartTimer,
    functions_of_our_loop,
    timed,
)
from pipeline.benchmarks.training.training_loops import LEARNING_RATE, OurLoop, PlainLoop
from pipeline.benchmarks.training.turn_clock import TurnClock
from pipeline.cluster.ports import free_port, remove_shared_memory
from pipeline.config.hardware import device_peak_flops
from pipeline.config.run_config import RunConfig
from pipeline.engine.groups import leave_out_shared_memory_operator, wait_for_world_ranks
from pipeline.model.architecture import model_config
from pipeline.model.sizes import count_parameters, model_size
from pipeline.store.rank_environment import environment_of_rank

MATRIX_SIZE = 8192
"""Rows and columns of the matrices whose product shows the GPU's rate."""
WARM_UP_PRODUCTS = 20
TIMED_PRODUCTS = 50
MOST_SAVE_STEPS = 10_000
"""Steps that the measurement of saves can do."""


def measure_side(
    config: RunConfig, side: str, warm_up: int, steps: int, turns: int, connection: int
) -> None:
    """Measure one side's training on one rank in turns of `steps` steps; tell the last loss.

    A multiple of the steps between two measurements of the noise scale gives their mean cost.
    """
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    _become_rank(0, 1, free_port())
    clock = TurnClock(socket.socket(fileno=connection), warm_up, steps, turns)
    total = warm_up + turns * steps
    clock.tell(_train_side(config, side, total, clock.mark) or math.nan)


def _train_side(
    config: RunConfig,
    side: str,
    steps: int,
    mark: Callable[[], None],
    timer: PartTimer | None = None,
) -> float | None:
    """Train as one side does, calling `mark` after each step; return the last step's loss.

    `timer` adds up the parts of a step of the plain side.
    """
    if side == OURS:
        return OurLoop(config, steps).train(mark)
    if side == NANOGPT:
        return train_nanogpt(config, LEARNING_RATE, steps, mark)
    if side != PLAIN:
        leave_out_shared_memory_operator()  # as ours does: training never calls it
        return PEERS[side](peer_inputs(config, LEARNING_RATE), steps, mark)
    plain = PlainLoop(config, torch.device("cpu"))
    loss = 0.0
    for _ in range(steps):
        loss = plain.step(timer)
        mark()
    return loss


def measure_rate(config: RunConfig, is_plain: bool, steps: int) -> dict[str, float]:
    """Measure one loop alone on a GPU, two steps after its first one, which compiles."""
    _become_rank(0, 1, free_port())
    began = time.perf_counter()
    loop = _one_loop(config, is_plain, steps + 3)
    built = time.perf_counter()
    first = _seconds(loop.step, 1)
    _seconds(loop.step, 2)
    torch.cuda.reset_peak_memory_stats()
    seconds = statistics.median(_seconds(loop.step, 1) for _ in range(steps))
    return {
        "tokens_per_second": config.batch.global_batch_tokens / seconds,
        "build_seconds": built - began,
        "first_step_seconds": first,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
        **_model_figures(config),
    }


def _one_loop(config: RunConfig, is_plain: bool, steps: int) -> OurLoop | PlainLoop:
    if is_plain:
        return PlainLoop(config, torch.device("cuda"))
    return OurLoop(config, steps)


def _model_figures(config: RunConfig) -> dict[str, float]:
    """Return the number of parameters, and the FLOPs of a token."""
    architecture = model_config(config)
    sizes = count_parameters(architecture)
    flops = model_size(architecture, sizes).flops_per_token(config.data.sequence_length)
    return {"parameters": sizes.total, "flops_per_token": flops}


def measure_parts_of_step(
    config: RunConfig, side: str, warm_up: int, steps: int
) -> dict[str, float]:
    """Measure the CPU seconds of each part of a step of one side, on one rank."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    _become_rank(0, 1, free_port())
    timer = PartTimer(warm_up, steps)
    functions = [*functions_of_engines(), *(functions_of_our_loop() if side == OURS else [])]
    with timed(timer, functions):
        _train_side(config, side, warm_up + steps, timer.mark, timer)
    return timer.seconds


def measure_ranks(
    config: RunConfig,
    count: int,
    steps: int,
    turns: int,
    connection: int = 0,
    first_core: int = 0,
    rank: int = 0,
    port: int = 0,
) -> None:
    """Measure `count` ranks in turns, each with one thread on a core of its own.

    Rank 0 takes core number `first_core` of those that it may use. Its process starts the others,
    which begin a turn when it does.
    """
    port = port or free_port()
    others: list[subprocess.Popen[bytes]] = []
    if rank == 0:
        others = [_start_rank(other, port) for other in range(1, count)]

    # A core for each rank.
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[(first_core + rank) % len(cores)]})
    torch.set_num_threads(1)

    _become_rank(rank, count, port)
    ours = OurLoop(config, 1 + turns * steps)
    clock: TurnClock | None = None
    if rank == 0:
        clock = TurnClock(socket.socket(fileno=connection), 1, steps, turns)
    done = 0

    def mark_together() -> None:
        nonlocal done
        if clock is not None:
            clock.mark()
        # Ranks that are not asked wait here for the one that is.
        if done % steps == 0:
            wait_for_world_ranks(ours.run.engine.device)
        done += 1

    ours.train(mark_together)
    for process in others:
        process.wait()


def _start_rank(rank: int, port: int) -> subprocess.Popen[bytes]:
    """Start this program again as another rank, with the same arguments."""
    arguments = json.loads(sys.argv[2]) | {"rank": rank, "port": port}
    program = sys.modules["__main__"].__spec__
    assert program is not None, "it was started with -m"
    command = [sys.executable, "-m", program.name, measure_ranks.__name__, json.dumps(arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def measure_save_costs(config: RunConfig, count: int) -> SaveFigures:
    """Measure `count` saves of each kind on one rank, as `measure_saves` does."""
    _become_rank(0, 1, free_port())
    return measure_saves(OurLoop(config, MOST_SAVE_STEPS), count)


def measure_matrix_product() -> MatrixProduct:
    """Measure this GPU's FLOP/s in one large product of bf16 matrices."""
    shape = (MATRIX_SIZE, MATRIX_SIZE)
    one = torch.randn(shape, device="cuda", dtype=torch.bfloat16)
    other = torch.randn(shape, device="cuda", dtype=torch.bfloat16)

    def multiply() -> None:
        torch.mm(one, other)

    _seconds(multiply, WARM_UP_PRODUCTS)
    seconds = statistics.median(
        _seconds(multiply, TIMED_PRODUCTS) / TIMED_PRODUCTS for _ in range(5)
    )
    return {
        "size": MATRIX_SIZE,
        "flops": 2 * MATRIX_SIZE**3 / seconds,
        "peak_flops": device_peak_flops(torch.cuda.get_device_name()),
    }


def _seconds(step: Callable[[], object], count: int) -> float:
    """Return the seconds of `count` calls, from an idle device to an idle device."""
    _wait_for_device()
    started = time.perf_counter()
    for _ in range(count):
        step()
    _wait_for_device()
    return time.perf_counter() - started


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _become_rank(rank: int, ranks: int, port: int) -> None:
    os.environ.update(environment_of_rank(rank, ranks, port))


def _remove_shared_memory() -> None:
    """Remove the 69 MB that DeepSpeed leaves for each rank where a peer has set it up."""
    port = os.environ.get("MASTER_PORT")
    if port is not None:
        remove_shared_memory(int(port))


MEASUREMENTS: Mapping[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        measure_side,
        measure_rate,
        measure_parts_of_step,
        measure_ranks,
        measure_save_costs,
        measure_matrix_product,
    )
}
"""Name on the command line -> function; it returns a JSON value."""


def main() -> None:
    """Call the named function and print what it measured. `config` is the path of its settings."""
    arguments = json.loads(sys.argv[2])
    if "config" in arguments:
        content = Path(arguments["config"]).read_text()
        arguments["config"] = RunConfig.model_validate(json.loads(content))
    try:
        measured = MEASUREMENTS[sys.argv[1]](**arguments)
    finally:
        _remove_shared_memory()
    print(json.dumps(measured), flush=True)
    # Threads that read data, and DeepSpeed's, may outlive the interpreter's shutdown.
    os._exit(0)


if __name__ == "__main__":
    main()
