"""Measure training in a fresh process.

`python -m pipeline.benchmarks.train_parts PART ARGUMENTS`; the arguments are JSON. The last line
that it prints is JSON. Our side does what a run does: `build_model`, `make_engine`, `Loader`,
`train_step`. The other side is a plain PyTorch loop with fused AdamW, one synchronisation a step
and one batch that is ready in memory. Both take turns, block by block.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from pipeline.benchmarks.checkpoint import measure_saves
from pipeline.cluster.ports import free_port
from pipeline.config.groups import group_sizes
from pipeline.config.run_config import RunConfig
from pipeline.engine.deepspeed_config import (
    construction_sharding,
    fit_buckets,
    read_template,
    resolve_template,
)
from pipeline.engine.engine import make_engine
from pipeline.engine.groups import join_process_groups
from pipeline.engine.noise_scale import MicroBatchGradients
from pipeline.engine.optimizers.parameter_groups import set_learning_rate
from pipeline.model.architecture import model_config
from pipeline.model.construction import build_model
from pipeline.model.costs import peak_flops
from pipeline.model.device_batch import DeviceBatch, Mover
from pipeline.model.language_model import LanguageModel
from pipeline.model.sizes import count_parameters, model_size
from pipeline.sampling.dataset import open_data
from pipeline.sampling.loader import Loader, RankShare
from pipeline.store.rank_environment import environment_of_rank, groups_of_this_process
from pipeline.training.run import Run
from pipeline.training.train_step import train_step

MATMUL_SIZE = 8192
RATE = 1e-4
"""Learning rate on both sides."""


class _NoStop:
    requested = False


class _NoSaver:
    is_pending = False
    has_written = True


class Ours:
    """The loop of a run, one step at a time, on random tokens."""

    def __init__(self, config: RunConfig, steps: int) -> None:
        groups = groups_of_this_process()
        template = read_template(config.deepspeed)
        resolved = resolve_template(template, config, groups.sizes, str(config.deepspeed))
        self.config = config
        join_process_groups(groups)
        self.architecture = model_config(config)
        resolved = fit_buckets(resolved, count_parameters(self.architecture).total)
        model = LanguageModel(
            build_model(config, self.architecture, sharding=construction_sharding(resolved)),
            config.optimizer.z_loss_weight,
        )
        self.engine = make_engine(config, groups, resolved, model)
        share = RankShare(groups, config.batch.micro_batch_sequences, config.step_plan)
        loader = Loader(open_data(config), share, range(1, steps + 1), Mover(self.engine.device))
        loader.__enter__()  # its threads end with the process
        self._steps: Iterator[Any] = iter(loader)
        nothing: Any = None  # a single step does not use it
        stop: Any = _NoStop()
        saver: Any = _NoSaver()
        gradients = MicroBatchGradients(self.engine.module.parameters(), self.engine.device)
        self.run = Run(
            config=config,
            groups=groups,
            engine=self.engine,
            gradients=gradients,
            loader=loader,
            held_out=nothing,
            saver=saver,
            stop=stop,
            progress=nothing,
            cost=nothing,
        )
        self._step = 0

    def use(self, saver: Any) -> None:
        """Use a real saver, so that the ranks agree on the files it has written."""
        self.run = replace(self.run, saver=saver)

    def step(self) -> None:
        """Do one step as the training loop does it."""
        self._step += 1
        micro_batches: list[DeviceBatch] = next(self._steps)
        set_learning_rate(self.engine, RATE)
        self.engine.set_train_batch_size(self.run.config.step_plan.samples(self._step))
        train_step(self.run, micro_batches, self._step)


class Plain:
    """The same model and batch in plain PyTorch."""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        architecture = model_config(config)
        self._model: Any = build_model(config, architecture)
        self._model.to(device).train()
        self._predict: Any = torch.compile(self._model) if config.train.compile else self._model
        groups = [
            {"params": [p for p in self._model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
            {"params": [p for p in self._model.parameters() if p.dim() < 2], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), fused=True)
        rows = config.batch.micro_batch_sequences
        length = config.data.sequence_length
        self._accumulation = config.accumulation(group_sizes(1))
        self._batch = torch.randint(1, architecture.vocab_size, (rows, length + 1), device=device)
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.precision.dtype)
        self._cast: Callable[[], Any] = lambda: (
            torch.autocast(device.type, half) if half else nullcontext()
        )

    def step(self, parts: "Timer | None" = None) -> None:
        """Do one optimizer step."""
        timed = parts or (lambda name: nullcontext())
        total = torch.zeros((), device=self._batch.device)
        for _ in range(self._accumulation):
            with timed("forward"), self._cast():
                logits = self._predict(input_ids=self._batch[:, :-1], use_cache=False).logits
                loss = (
                    F.cross_entropy(logits.float().flatten(0, 1), self._batch[:, 1:].flatten())
                    / self._accumulation
                )
            with timed("backward"):
                loss.backward()
            total += loss.detach()
        with timed("clip and update"):
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
            self._optimizer.step()
            self._optimizer.zero_grad()
        total.item()


class Timer:
    """Adds up seconds by name; for CPUs, where a call returns when its work is done."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str) -> "_Stretch":
        """Return a context whose time counts under a name."""
        return _Stretch(self.seconds, name)


class _Stretch:
    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds = seconds
        self._name = name

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._name] = (
            self._seconds.get(self._name, 0.0) + time.perf_counter() - self._started
        )


def turns(config: RunConfig, blocks: int, block_steps: int) -> dict[str, Any]:
    """Measure one rank of ours and the plain loop in turns, block by block.

    The device is idle at both ends of each timed block.
    """
    _be_rank(0, 1, free_port())
    ours = Ours(config, (blocks + 1) * block_steps)
    plain = Plain(config, ours.engine.device)
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    for block in range(blocks + 1):
        for name, step in (("ours", ours.step), ("plain", plain.step)):
            took = _seconds(step, block_steps)
            if block:  # the first one warms up
                seconds[name].append(took / block_steps)
    tokens = config.batch.global_batch_tokens
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["plain"], strict=True)]
    result: dict[str, Any] = {
        name: tokens / statistics.median(found) for name, found in seconds.items()
    }
    result |= {
        "ratio": statistics.median(ratios),
        "lowest_ratio": min(ratios),
        "highest_ratio": max(ratios),
    }
    sizes = count_parameters(ours.architecture)
    per_token = model_size(ours.architecture, sizes).flops_per_token(config.data.sequence_length)
    return result | {"parameters": sizes.total, "flops_per_token": per_token}


def rate(config: RunConfig, is_plain: bool, steps: int) -> dict[str, Any]:
    """Measure one side alone on a GPU, two steps after its first, which compiles."""
    _be_rank(0, 1, free_port())
    began = time.perf_counter()
    side = Plain(config, torch.device("cuda")) if is_plain else Ours(config, steps + 3)
    built = time.perf_counter()
    first = _seconds(side.step, 1)
    _seconds(side.step, 2)
    torch.cuda.reset_peak_memory_stats()
    seconds = statistics.median(_seconds(side.step, 1) for _ in range(steps))
    architecture = model_config(config)
    sizes = count_parameters(architecture)
    return {
        "tokens_per_second": config.batch.global_batch_tokens / seconds,
        "flops_per_token": model_size(architecture, sizes).flops_per_token(
            config.data.sequence_length
        ),
        "parameters": sizes.total,
        "build_seconds": built - began,
        "first_step_seconds": first,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
    }


def shares(config: RunConfig, steps: int) -> dict[str, Any]:
    """Measure the seconds of each part of a step, on both sides. Only for CPUs."""
    _be_rank(0, 1, free_port())
    ours = Ours(config, 2 * steps)
    plain = Plain(config, torch.device("cpu"))
    for _ in range(steps):
        ours.step()
        plain.step()
    timers = {"ours": Timer(), "plain": Timer()}
    for name, method in (
        ("forward", "forward"),
        ("backward", "backward"),
        ("update and gradients' care", "step"),
    ):
        setattr(ours.engine, method, _timed(timers["ours"], name, getattr(ours.engine, method)))
    totals = dict.fromkeys(timers, 0.0)
    for _ in range(steps):
        totals["ours"] += _seconds(ours.step, 1)
        totals["plain"] += _seconds(lambda: plain.step(timers["plain"]), 1)
    return {
        name: {part: seconds / steps for part, seconds in timer.seconds.items()}
        | {"rest": (totals[name] - sum(timer.seconds.values())) / steps}
        for name, timer in timers.items()
    }


def _timed(timer: Timer, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        with timer(name):
            return function(*arguments, **named)

    return call


def ranks(
    config: RunConfig, count: int, steps: int, rank: int = 0, port: int = 0
) -> dict[str, Any]:
    """Measure a step of `count` ranks, each with one thread on a core of its own.

    This process is rank 0 and starts the others.
    """
    port = port or free_port()
    arguments = {**_arguments(), "port": port}
    program = [sys.executable, "-m", __spec__.name, "ranks"]
    others = [
        subprocess.Popen(
            [*program, json.dumps({**arguments, "rank": other})], stdout=subprocess.DEVNULL
        )
        for other in range(1, count if rank == 0 else 1)
    ]
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
    torch.set_num_threads(1)
    _be_rank(rank, count, port)
    ours = Ours(config, steps + 1)
    ours.step()
    seconds = [_seconds(ours.step, 1) for _ in range(steps)]
    for process in others:
        process.wait()
    return {"tokens_per_second": config.batch.global_batch_tokens / statistics.median(seconds)}


def saves(config: RunConfig, count: int) -> dict[str, Any]:
    """Measure the cost of saves on one rank, as `measure_saves` does."""
    _be_rank(0, 1, free_port())
    return measure_saves(Ours(config, 10_000), config.paths.run_dir, count)


def matmul() -> dict[str, Any]:
    """Measure this GPU's FLOP/s in one large product of bf16 matrices."""
    a, b = (
        torch.randn(MATMUL_SIZE, MATMUL_SIZE, device="cuda", dtype=torch.bfloat16) for _ in range(2)
    )
    _seconds(lambda: torch.mm(a, b), 20)
    seconds = statistics.median(_seconds(lambda: torch.mm(a, b), 50) / 50 for _ in range(5))
    return {
        "size": MATMUL_SIZE,
        "flops": 2 * MATMUL_SIZE**3 / seconds,
        "peak_flops": peak_flops(torch.cuda.get_device_name()),
    }


def _seconds(step: Callable[[], object], count: int) -> float:
    _finish()
    started = time.perf_counter()
    for _ in range(count):
        step()
    _finish()
    return time.perf_counter() - started


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _be_rank(rank: int, ranks: int, port: int) -> None:
    os.environ.update(environment_of_rank(rank, ranks, port))


def _arguments() -> dict[str, Any]:
    return json.loads(sys.argv[2])


PARTS: Mapping[str, Callable[..., dict[str, Any]]] = {
    part.__name__: part for part in (turns, rate, shares, ranks, saves, matmul)
}


def main() -> None:
    """Run one part and print what it measured."""
    arguments = _arguments()
    if "config" in arguments:
        arguments["config"] = RunConfig.model_validate(
            json.loads(Path(arguments["config"]).read_text())
        )
    result = PARTS[sys.argv[1]](**arguments)
    print(json.dumps(result), flush=True)
    os._exit(0)  # reading threads and DeepSpeed's may outlive the interpreter's shutdown


if __name__ == "__main__":
    main()
