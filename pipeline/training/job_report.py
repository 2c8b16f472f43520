"""What a training job records of itself: its start in events.jsonl, its result for the stage's
manifest."""

import statistics

import torch

from pipeline.checkpoint.state import TrainState
from pipeline.config.groups import GroupSizes
from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import dump
from pipeline.engine.deepspeed_engine import Engine
from pipeline.model.costs import HFU_FORMULA, MFU_FORMULA, peak_flops
from pipeline.model.language_model import LanguageModel, compiled_graphs
from pipeline.model.sizes import ModelParameters
from pipeline.store.counts import LineageEntry, ParameterCounts, TrainCounts
from pipeline.store.events import write_event
from pipeline.store.layout import checkpoint_name
from pipeline.store.metrics import StepRecord, read_metrics
from pipeline.training.validation import HeldOut, unigram_entropy


def record_start(
    config: RunConfig,
    ranks: GroupSizes,
    engine: Engine,
    sizes: ModelParameters,
    state: TrainState,
    *,
    epochs: dict[str, float],
    disk_need: str,
) -> None:
    """Write what this start of the run is to events.jsonl; `epochs` of each source in the whole
    run."""
    peak_rate = config.optimizer.peak_learning_rate
    factor = config.learning_rate_factor
    write_event(
        config.paths.run_dir,
        "start",
        step=state.step,
        ranks=ranks.world,
        epochs=epochs,
        mfu_formula=MFU_FORMULA,
        hfu_formula=HFU_FORMULA,
        peak_flops=peak_flops(device_name()),
        learning_rate={"peak": peak_rate, "factor": factor, "scaled_peak": peak_rate * factor},
        **_parameter_counts(sizes),
        attention=engine.module.attention,
        message=f"{_how_it_runs(engine, ranks, sizes)}; {disk_need}",
        config=dump(config),
    )


def _how_it_runs(engine: Engine, ranks: GroupSizes, sizes: ModelParameters) -> str:
    """Return what was chosen by what is at hand, in a line that the supervisor shows."""
    model: LanguageModel = engine.module
    losses = "logits a chunk at a time" if model.chunks_logits else "all logits at once"
    return (
        f"{model.config.model_type}, {sizes.total:,} parameters ({sizes.non_embedding:,} without "
        "embeddings), ZeRO "
        f"{engine.zero_optimization_stage()} on {ranks.world} ranks of {device_name()}, "
        f"{type(engine.basic_optimizer).__name__}, attention by {model.attention}, {losses}"
    )


def device_name() -> str:
    """Return the name of this rank's GPU, or CPU."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def result_of_run(
    config: RunConfig,
    ranks: GroupSizes,
    zero_stage: int,
    sizes: ModelParameters,
    state: TrainState,
    held_out: HeldOut,
    *,
    lineage: list[LineageEntry],
) -> TrainCounts:
    """Return what the stage's manifest says of a run that has made its last step; reads
    metrics.jsonl."""
    records = read_metrics(config.paths.run_dir)
    last = records[-1]
    entropy, entropy_by_source = unigram_entropy(held_out)
    utilisations = [record["mfu"] for record in records if record["mfu"] is not None]
    counts: TrainCounts = {
        "headline": _headline(state, records),
        "step": state.step,
        "tokens": state.tokens,
        **_parameter_counts(sizes),
        "loss": last["loss"],
        "validation_loss": last.get("validation_loss"),
        "validation_loss_by_source": last.get("validation_loss_by_source", {}),
        "validation_bits_per_byte": last.get("validation_bits_per_byte"),
        "validation_bits_per_byte_by_source": last.get("validation_bits_per_byte_by_source", {}),
        "unigram_entropy": entropy,
        "unigram_entropy_by_source": entropy_by_source,
        "ranks": ranks.world,
        "zero_stage": zero_stage,
        "device": device_name(),
        "tokens_per_second": statistics.median(r["tokens_per_second"] for r in records),
        "mfu": statistics.median(utilisations) if utilisations else None,
        "checkpoint": checkpoint_name(state.step),
        "lineage": lineage,
    }
    if config.train.compile:
        counts["compiled_graphs"] = compiled_graphs()
    return counts


def _headline(state: TrainState, records: list[StepRecord]) -> str:
    """Return a run's result in one line; its loss is that of the last step whose loss was
    finite."""
    finite = [record["loss"] for record in records if record["loss"] is not None]
    loss = finite[-1] if finite else float("nan")
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
