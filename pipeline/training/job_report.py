"""The records of a training job: its start in events.jsonl, its counts for the stage's manifest.

Reads metrics.jsonl; writes events.jsonl.
"""

import statistics

import torch

from pipeline.checkpoint.state import TrainState
from pipeline.config.groups import GroupSizes
from pipeline.config.hardware import device_peak_flops
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump
from pipeline.engine.deepspeed_engine import Engine
from pipeline.model.costs import HFU_FORMULA, MFU_FORMULA
from pipeline.model.language_model import LanguageModel, compiled_graphs
from pipeline.model.sizes import ModelParameters
from pipeline.store.counts import LineageEntry, ParameterCounts, ResultOfRun
from pipeline.store.events import write_event
from pipeline.store.layout import checkpoint_name
from pipeline.store.metrics import StepRecord, read_metrics
from pipeline.training.validation import HeldOut, targets_by_source, unigram_entropy


def record_start(
    config: RunConfig,
    ranks: GroupSizes,
    engine: Engine,
    sizes: ModelParameters,
    state: TrainState,
    *,
    abandoned_steps: int,
    epochs: dict[str, float],
    disk_need: str,
) -> None:
    """Write the `start` event to events.jsonl.

    `abandoned_steps`: recorded steps after `state`, which are trained again; `epochs`: source ->
    times that the whole run reads its text; `disk_need`: sentence on the disk space for
    checkpoints.
    """
    peak_rate = config.optimizer.peak_learning_rate
    factor = config.learning_rate_factor
    write_event(
        config.paths.run_dir,
        "start",
        step=state.step,
        ranks=ranks.world,
        abandoned_steps=abandoned_steps,
        device=device_name(),
        epochs=epochs,
        mfu_formula=MFU_FORMULA,
        hfu_formula=HFU_FORMULA,
        peak_flops=device_peak_flops(device_name()),
        learning_rate={"peak": peak_rate, "factor": factor, "scaled_peak": peak_rate * factor},
        **_parameter_counts(sizes),
        attention=engine.module.attention,
        message=f"{_describe_engine(engine, ranks, sizes)}; {disk_need}",
        config=dump(config),
    )


def _describe_engine(engine: Engine, ranks: GroupSizes, sizes: ModelParameters) -> str:
    """Describe model, ZeRO stage, device, optimizer and attention in one line for the screen."""
    model: LanguageModel = engine.module
    losses = "all logits at once"
    if model.chunks_logits:
        losses = "logits a chunk at a time"
    return (
        f"{model.config.model_type}, {sizes.total:,} parameters ({sizes.non_embedding:,} without "
        f"embeddings), ZeRO {engine.zero_optimization_stage()} on {ranks.world} ranks of "
        f"{device_name()}, {type(engine.basic_optimizer).__name__}, attention by "
        f"{model.attention}, {losses}"
    )


def device_name() -> str:
    """Return the name of this rank's GPU, or `CPU` where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "CPU"


def count_finished_run(
    config: RunConfig,
    ranks: GroupSizes,
    zero_stage: int,
    sizes: ModelParameters,
    state: TrainState,
    held_out: HeldOut,
    *,
    lineage: list[LineageEntry],
) -> ResultOfRun:
    """Return the counts of a finished run for the stage's manifest; reads metrics.jsonl."""
    # Figures over all steps, and a bound to compare the held-out loss with.
    records = read_metrics(config.paths.run_dir)
    last = records[-1]
    entropy, entropy_by_source = unigram_entropy(held_out)
    utilisations = [record["mfu"] for record in records if record["mfu"] is not None]
    median_utilisation = None
    if utilisations:
        median_utilisation = statistics.median(utilisations)

    # All counts of the stage; the supervisor adds what is known of the data.
    counts: ResultOfRun = {
        "headline": _headline(state, records),
        "step": state.step,
        "tokens": state.tokens,
        **_parameter_counts(sizes),
        "loss": last["loss"],
        "validation_loss": last.get("validation_loss"),
        "validation_loss_by_source": last.get("validation_loss_by_source", {}),
        "validation_targets_by_source": targets_by_source(held_out),
        "validation_bits_per_byte": last.get("validation_bits_per_byte"),
        "validation_bits_per_byte_by_source": last.get("validation_bits_per_byte_by_source", {}),
        "unigram_entropy": entropy,
        "unigram_entropy_by_source": entropy_by_source,
        "ranks": ranks.world,
        "zero_stage": zero_stage,
        "device": device_name(),
        "tokens_per_second": statistics.median(r["tokens_per_second"] for r in records),
        "mfu": median_utilisation,
        "checkpoint": checkpoint_name(state.step),
        "lineage": lineage,
    }
    if config.train.compile:
        counts["compiled_graphs"] = compiled_graphs()
    return counts


def _headline(state: TrainState, records: list[StepRecord]) -> str:
    """Return a run's result in one line, with the loss of the last step whose loss is finite."""
    finite = [record["loss"] for record in records if record["loss"] is not None]
    loss = finite[-1] if finite else float("nan")  # no step has a finite loss
    line = f"step {state.step:,}, {state.tokens:,} tokens, loss {loss:.3f}"
    validation = records[-1].get("validation_loss")
    if validation is not None:
        line += f", validation loss {validation:.3f}"
    skipped = sum(end - first for first, end in state.skipped)
    if skipped:
        line += f"; {skipped:,} samples skipped"
    return line


def _parameter_counts(sizes: ModelParameters) -> ParameterCounts:
    return {
        "parameters": sizes.total,
        "embedding_parameters": sizes.embedding,
        "non_embedding_parameters": sizes.non_embedding,
    }
