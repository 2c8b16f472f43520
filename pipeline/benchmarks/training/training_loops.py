"""Two loops that train the same model, one step at a time: ours, and one in plain PyTorch.

`OurLoop` does what a run does: `build_model`, `make_engine`, `Loader`, `run_training_loop`. `PlainLoop`
has fused AdamW, one synchronisation a step, and one batch that is ready in memory. The rank's
variables must be in the environment before `OurLoop` is made. Writes the records of a run into the
run folder.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.benchmarks.training.peers import CLIPPED_AT, adamw
from pipeline.benchmarks.training.step_parts import BACKWARD, FORWARD, UPDATE, PartTimer
from pipeline.checkpoint.saver import Saver
from pipeline.checkpoint.state import TrainState
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
from pipeline.model.device_batch import DeviceBatch, Mover
from pipeline.model.language_model import LanguageModel
from pipeline.model.sizes import count_parameters, model_size
from pipeline.sampling.dataset import open_data
from pipeline.sampling.loader import Loader, RankShare
from pipeline.store.heartbeat import Heartbeat
from pipeline.store.metrics import MetricsFile
from pipeline.store.rank_environment import groups_of_this_process
from pipeline.store.records import RunFacts
from pipeline.training.loop import run_training_loop
from pipeline.training.run import Progress, Run, StepCost
from pipeline.training.start_up_times import StartUpTimes
from pipeline.training.stop import StopSignal
from pipeline.training.trackers import Trackers
from pipeline.training.train_step import train_step

LEARNING_RATE = 1e-4
"""Learning rate of both loops."""
HALF_PRECISION = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""`precision.dtype` -> type of autocast; fp32 has none."""


class _NeverStopped(StopSignal):
    """A request to stop that never comes; signals end the process as usual."""

    def __init__(self) -> None:
        self.requested = False


class _MarkingLoader:
    """A loader that calls a function whenever the loop comes back for the next step."""

    def __init__(self, loader: Loader[DeviceBatch], mark: Callable[[], None]) -> None:
        self.data = loader.data
        self._loader = loader
        self._mark = mark

    def __iter__(self) -> Iterator[list[DeviceBatch]]:
        for micro_batches in self._loader:
            yield micro_batches
            self._mark()


class OurLoop:
    """The loop of a run, one step at a time, on random tokens."""

    def __init__(self, config: RunConfig, steps: int) -> None:
        """Build the engine, and start to read the batches of `steps` steps."""
        # The engine, as a rank of a run builds it.
        groups = groups_of_this_process()
        template = read_template(config.deepspeed)
        resolved = resolve_template(template, config, groups.sizes, str(config.deepspeed))
        join_process_groups(groups)
        architecture = model_config(config)
        sizes = count_parameters(architecture)
        resolved = fit_buckets(resolved, sizes.total)
        model = LanguageModel(
            build_model(config, architecture, sharding=construction_sharding(resolved)),
            config.optimizer.z_loss_weight,
        )
        engine = make_engine(config, groups, resolved, model)

        # The data. The loader's threads end with the process.
        share = RankShare(groups, config.batch.micro_batch_sequences, config.step_plan)
        loader = Loader(open_data(config), share, range(1, steps + 1), Mover(engine.device))
        loader.__enter__()

        # The records that a rank writes, without trackers.
        run_dir = config.paths.run_dir
        heartbeat = Heartbeat(run_dir, groups.world_rank)
        metrics = MetricsFile(run_dir, 0) if groups.is_rank_0 else None
        trackers = Trackers(config, 0, groups.world_rank)
        progress = Progress(heartbeat, metrics, trackers, StartUpTimes(heartbeat))
        cost = StepCost(
            size=model_size(architecture, sizes),
            peak_flops=None,
            devices=groups.sizes.world,
            recomputes=False,
        )

        # No step validates.
        unused: Any = None
        facts: RunFacts = {"model": {}, "tokenizer": "", "lineage": []}
        self.run = Run(
            config=config,
            groups=groups,
            engine=engine,
            gradients=MicroBatchGradients(engine.module.parameters(), engine.device),
            loader=loader,
            held_out=unused,
            sample=None,
            saver=Saver(engine, groups, run_dir, config.checkpoint, facts),
            stop=_NeverStopped(),
            progress=progress,
            cost=cost,
        )
        self._batches: Iterator[list[DeviceBatch]] = iter(loader)
        self._completed_steps = 0

    def train(self, mark: Callable[[], None]) -> float | None:
        """Run the training loop itself on all steps, calling `mark` after each; return the loss.

        The loss is that of the last step, None where it is not finite.
        """
        marking: Any = _MarkingLoader(self.run.loader, mark)
        state = run_training_loop(replace(self.run, loader=marking), TrainState())
        return state.guard.losses[-1] if state.guard.losses else None

    def step(self) -> None:
        """Do one step as the training loop does it."""
        step = self._completed_steps + 1
        micro_batches = next(self._batches)
        set_learning_rate(self.run.engine, LEARNING_RATE)
        self.run.engine.set_train_batch_size(self.run.config.step_plan.samples(step))
        train_step(self.run, micro_batches, step)
        self._completed_steps = step


class PlainLoop:
    """The same model and batch in plain PyTorch."""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        # The model, compiled where the run file asks for it.
        architecture = model_config(config)
        self._model = build_model(config, architecture)
        nn.Module.to(self._model, device)  # transformers' own `to` has no usable types
        self._model.train()
        self._predict: Callable[..., Any] = self._model
        if config.train.compile:
            self._predict = torch.compile(self._model)

        self._optimizer = adamw(self._model, LEARNING_RATE)

        # One batch for all steps.
        rows = config.batch.micro_batch_sequences
        length = config.data.sequence_length
        self._accumulation = config.accumulation(group_sizes(1))
        self._batch = torch.randint(1, architecture.vocab_size, (rows, length + 1), device=device)
        self._half = HALF_PRECISION.get(config.precision.dtype)

    def step(self, timer: PartTimer | None = None) -> float:
        """Do one optimizer step; return its loss. `timer` adds up the time of each part."""
        timer = timer or PartTimer(1, 1)
        total = torch.zeros((), device=self._batch.device)
        inputs = self._batch[:, :-1]
        targets = self._batch[:, 1:].flatten()
        for _ in range(self._accumulation):
            with timer.time(FORWARD), self._autocast():
                logits = self._predict(input_ids=inputs, use_cache=False).logits
                loss = F.cross_entropy(logits.float().flatten(0, 1), targets) / self._accumulation
            with timer.time(BACKWARD):
                loss.backward()
            total += loss.detach()
        with timer.time(UPDATE):
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), CLIPPED_AT)
            self._optimizer.step()
            self._optimizer.zero_grad()
        return total.item()

    def _autocast(self) -> "torch.autocast | nullcontext[None]":
        if self._half is None:
            return nullcontext()
        return torch.autocast(self._batch.device.type, self._half)
