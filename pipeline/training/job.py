"""A training job as one rank sees it: set up, go on from where the run is, train, say how it
ended."""

import logging
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipeline.checkpoint.disk import disk_need
from pipeline.checkpoint.folders import broken_checkpoints, point_to, pointed_at
from pipeline.checkpoint.reader import (
    begin_random_state,
    damage_of_checkpoint,
    load_checkpoint,
    written_by,
)
from pipeline.checkpoint.saver import Saver
from pipeline.checkpoint.state import TrainState
from pipeline.config.groups import RankGroups
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump
from pipeline.engine import extensions
from pipeline.engine.agreement import from_rank_0, on_any_rank
from pipeline.engine.capacity import problems_of_rank
from pipeline.engine.deepspeed_config import (
    construction_sharding,
    fit_buckets,
    read_template,
    resolve,
    zero_stage,
)
from pipeline.engine.engine import Engine, make_engine
from pipeline.engine.groups import join_process_groups
from pipeline.engine.memory import checkpoint_bytes
from pipeline.engine.noise_scale import MicroBatchGradients
from pipeline.engine.operators import needed_operators
from pipeline.errors import ConfigError, UserError
from pipeline.model.architecture import model_config
from pipeline.model.construction import build_model
from pipeline.model.costs import HFU_FORMULA, MFU_FORMULA, counted_peak, peak_flops
from pipeline.model.device_batch import Mover, check_document_mask
from pipeline.model.experts import expert_modules
from pipeline.model.language_model import LanguageModel, compiled_graphs
from pipeline.model.sizes import Sizes, count_parameters, model_size, moment_bytes
from pipeline.sampling.dataset import open_data
from pipeline.sampling.loader import Loader, Share
from pipeline.sampling.skipped import skipped_samples
from pipeline.sampling.stream import open_streams
from pipeline.store.events import write_event
from pipeline.store.files import write_json
from pipeline.store.heartbeat import NO_HEARTBEAT, Heartbeat, NoHeartbeat
from pipeline.store.layout import RunFolder, checkpoint_name, data_folder
from pipeline.store.metrics import MetricsFile, read_metrics
from pipeline.store.outcome import Outcome
from pipeline.store.rank_environment import groups_of_this_process
from pipeline.tokens.verify import BackgroundCheck
from pipeline.training import resume, rollback, start
from pipeline.training.loop import GoBack, Run, train
from pipeline.training.start_up import StartUp
from pipeline.training.stop import StopSignal
from pipeline.training.trackers import Trackers
from pipeline.training.validation import bytes_of_ids, choose_held_out, unigram_entropy


def run_job(
    config: RunConfig, stop: StopSignal, heartbeat: Heartbeat | NoHeartbeat = NO_HEARTBEAT
) -> Outcome:
    """Train until the end, a stop signal or trouble, and return how it ended.

    Raises UserError, the same on every rank, where the settings or what is on disk do not allow it.
    """
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    run_dir = config.paths.run_dir
    groups = groups_of_this_process()
    rank, ranks = groups.world_rank, groups.sizes.world
    template = read_template(config.deepspeed)
    resolved = resolve(template, config, groups.sizes, str(config.deepspeed))
    started = StartUp(heartbeat)
    architecture = model_config(config)
    sources = list(config.sources)
    data = open_data(config)
    held_out = choose_held_out(
        open_streams(data_folder(config).tokens, sources, "validation"),
        data.shape,
        config.data.validation_sequences,
        bytes_of_ids(data_folder(config).tokenizer, data.shape.end_of_document),
    )
    started.mark("data")
    _provide_operators(config, resolved, rank)
    started.mark("operators")
    join_process_groups(groups)
    sizes = count_parameters(architecture)
    resolved = fit_buckets(resolved, sizes.total)
    each = checkpoint_bytes(
        sizes.total, config.precision.dtype, zero_stage(resolved), moment_bytes(config, sizes)
    )
    disk, problems = from_rank_0(groups, disk_need, config, each)
    if problems := [
        *on_any_rank(groups, problems_of_rank(config, groups, resolved, architecture, sizes)),
        *problems,
    ]:
        raise ConfigError(problems)
    candidates = from_rank_0(groups, resume.begin, config)
    about = from_rank_0(groups, start.describe, config, architecture)
    origin = None if candidates else start.choose_origin(config, groups, about)
    weights = (
        None if candidates else start.weights_to_begin_with(config, groups, architecture, origin)
    )
    if rank == 0:
        write_json(RunFolder(run_dir).deepspeed, resolved)
    check = BackgroundCheck(data_folder(config).tokens, sources, part=(rank, ranks))
    started.mark("process_group")
    model = LanguageModel(
        build_model(config, architecture, weights, construction_sharding(resolved)),
        config.optimizer.z_loss_weight,
    )
    started.mark("model")
    engine = make_engine(config, groups, resolved, model)
    started.mark("engine")
    _refuse_damaged(groups, check.finish())
    begin_random_state(config.train.seed, 0, rank)  # dropout differs between ranks
    del weights
    state = (
        _go_on(engine, groups, candidates, config)
        if candidates
        else start.begin(engine, groups, config, origin, about)
    )
    peak = counted_peak(_device_name(), is_mixture=bool(expert_modules(model.causal_lm)))
    share = Share(groups, config.batch.micro_batch_sequences, config.step_plan)
    metrics = MetricsFile(run_dir, state.step) if rank == 0 else None
    if rank == 0:
        _record_start(
            engine,
            config,
            sizes,
            state.step,
            ranks,
            epochs=data.order.epochs(config.total_samples),
            disk=disk,
        )
    steps = range(state.step + 1, config.total_steps + 1)
    state = replace(state, skipped=from_rank_0(groups, skipped_samples, config, state.skipped))
    data = replace(data, order=data.order.skipping(state.skipped))
    if config.data.document_mask:
        check_document_mask(engine.module, config.data.sequence_length)
    started.mark("checks_and_resume")
    with (
        Loader(data, share, steps, Mover(engine.device)) as loader,
        Trackers(config, state.step, rank) as trackers,
    ):
        size = model_size(architecture, sizes)
        gradients = MicroBatchGradients(engine.module.parameters(), engine.device)
        saver = Saver(engine, groups, run_dir, config.checkpoint, about, heartbeat, metrics)
        run = Run(
            config,
            groups,
            engine,
            loader,
            held_out,
            saver,
            stop,
            heartbeat,
            metrics,
            trackers,
            gradients,
            started,
            size,
            peak,
        )
        try:
            state = train(run, state)
        except GoBack as trouble:
            return rollback.go_back(run, trouble)
    finished = state.step == config.total_steps
    if metrics:
        metrics.close()
        write_event(run_dir, "end" if finished else "stop", step=state.step)
    counts = (
        _counts(config, state, sizes, ranks, resolved, held_out) if finished and rank == 0 else {}
    )
    if counts:
        counts["lineage"] = about["lineage"]
        counts |= {"compiled_graphs": compiled_graphs()} if config.train.compile else {}
    if finished:
        return {"status": "done", "step": state.step, "counts": counts}
    return {"status": "interrupted", "step": state.step, "counts": counts}


def _record_start(
    engine: Engine,
    config: RunConfig,
    sizes: Sizes,
    step: int,
    ranks: int,
    *,
    epochs: dict[str, float],
    disk: str,
) -> None:
    """Write what this start of the run is to events.jsonl."""
    highest, factor = config.optimizer.peak_learning_rate, config.learning_rate_factor
    write_event(
        config.paths.run_dir,
        "start",
        step=step,
        ranks=ranks,
        epochs=epochs,
        mfu_formula=MFU_FORMULA,
        hfu_formula=HFU_FORMULA,
        peak_flops=peak_flops(_device_name()),
        learning_rate={"peak": highest, "factor": factor, "scaled_peak": highest * factor},
        **_parameter_counts(sizes),
        attention=engine.module.attention,
        message=f"{_how_it_runs(engine, ranks, sizes)}; {disk}",
        config=dump(config),
    )


def _provide_operators(config: RunConfig, resolved: dict[str, Any], rank: int) -> None:
    """Have what DeepSpeed compiles ready before the ranks meet, where a wait for a compiler would
    look like a hang."""
    for operator in needed_operators(resolved, config.optimizer):
        missing = not extensions.is_built(operator)
        if missing and rank == 0:
            write_event(
                config.paths.run_dir, "build", operator=operator.name, message=operator.announcement
            )
        extensions.provide(operator)


def _refuse_damaged(groups: RankGroups, problems: list[str]) -> None:
    """Raise UserError on every rank if the token files are not what the manifest says on any."""
    if found := on_any_rank(groups, problems):
        raise UserError(
            "\n".join(
                [
                    "The token files are not those that were made:",
                    *(f"  - {line}" for line in found),
                ]
            )
        )


def _go_on(
    engine: Engine, groups: RankGroups, candidates: list[Path], config: RunConfig
) -> TrainState:
    """Load the newest intact checkpoint; damaged ones are passed over and named in events.jsonl."""
    run_dir, ranks = config.paths.run_dir, groups.sizes.world
    if groups.is_rank_0:
        _look_over(run_dir, candidates[0])
    for path in candidates:
        damage = damage_of_checkpoint(path, groups, config.checkpoint.verify == "checksums", engine)
        if damage:
            if groups.is_rank_0:
                message = f"{path.name} is damaged and passed over: {', '.join(damage)}"
                write_event(
                    run_dir,
                    "damaged checkpoint",
                    checkpoint=path.name,
                    damage=damage,
                    message=message,
                )
            continue
        started, before, now = (
            time.perf_counter(),
            written_by(path),
            engine.zero_optimization_stage(),
        )
        state = load_checkpoint(engine, groups, path, config.train.seed)
        if groups.is_rank_0 and before != (now, ranks):
            seconds = round(time.perf_counter() - started, 3)
            stages = {
                "from_zero_stage": before[0],
                "to_zero_stage": now,
                "from_ranks": before[1],
                "to_ranks": ranks,
            }
            write_event(run_dir, "convert", checkpoint=path.name, **stages, seconds=seconds)
        if groups.is_rank_0:
            write_event(run_dir, "resume", step=state.step, checkpoint=path.name)
        return state
    raise UserError(
        f"{RunFolder(run_dir).checkpoints}: all {len(candidates)} checkpoints are damaged (events.jsonl "
        "names how). "
        "Restore one from a copy, or choose another paths.run_dir."
    )


def _look_over(run_dir: Path, newest: Path) -> None:
    """Say what beside the newest complete checkpoint is not as a save leaves it, and mend
    `latest`."""
    for path, flaw in broken_checkpoints(newest.parent).items():
        message = f"{path.name} is passed over: {flaw}"
        write_event(
            run_dir, "damaged checkpoint", checkpoint=path.name, damage=[flaw], message=message
        )
    if (named := pointed_at(newest.parent)) != newest.name:
        message = (
            f"`latest` names {named or 'nothing'} and the newest complete checkpoint is "
            f"{newest.name}: mended"
        )
        write_event(run_dir, "pointer mended", named=named, checkpoint=newest.name, message=message)
        point_to(newest)


def _parameter_counts(sizes: Sizes) -> dict[str, int]:
    return {
        "parameters": sizes.total,
        "embedding_parameters": sizes.embedding,
        "non_embedding_parameters": sizes.non_embedding,
    }


def _how_it_runs(engine: Engine, ranks: int, sizes: Sizes) -> str:
    """Return what was chosen by what is at hand, in a line that the supervisor shows."""
    model: LanguageModel = engine.module
    losses = "logits a chunk at a time" if model.chunks_logits else "all logits at once"
    return (
        f"{model.config.model_type}, {sizes.total:,} parameters ({sizes.non_embedding:,} without "
        "embeddings), ZeRO "
        f"{engine.zero_optimization_stage()} on {ranks} ranks of {_device_name()}, "
        f"{type(engine.basic_optimizer).__name__}, attention by {model.attention}, {losses}"
    )


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def _counts(
    config: RunConfig,
    state: TrainState,
    sizes: Sizes,
    ranks: int,
    resolved: dict[str, Any],
    held_out: Any,
) -> dict[str, Any]:
    records = read_metrics(config.paths.run_dir)
    last = records[-1]
    loss = next(
        (record["loss"] for record in reversed(records) if record["loss"] is not None), float("nan")
    )
    entropy, entropy_by_source = unigram_entropy(held_out)
    validation = last.get("validation_loss")
    shown = f", validation loss {validation:.3f}" if validation is not None else ""
    if skipped := sum(end - first for first, end in state.skipped):
        shown += f"; {skipped:,} samples skipped"
    return {
        "headline": f"step {state.step:,}, {state.tokens:,} tokens, loss {loss:.3f}{shown}",
        "step": state.step,
        "tokens": state.tokens,
        **_parameter_counts(sizes),
        "loss": last["loss"],
        "validation_loss": validation,
        "validation_loss_by_source": last.get("validation_loss_by_source", {}),
        "validation_bits_per_byte": last.get("validation_bits_per_byte"),
        "validation_bits_per_byte_by_source": last.get("validation_bits_per_byte_by_source", {}),
        "unigram_entropy": entropy,
        "unigram_entropy_by_source": entropy_by_source,
        "ranks": ranks,
        "zero_stage": resolved["zero_optimization"]["stage"],
        "device": _device_name(),
        "tokens_per_second": statistics.median(r["tokens_per_second"] for r in records),
        "mfu": statistics.median(known)
        if (known := [r["mfu"] for r in records if r["mfu"] is not None])
        else None,
        "checkpoint": checkpoint_name(state.step),
    }
