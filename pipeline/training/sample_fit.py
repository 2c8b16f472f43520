"""Loss and error of a run with `data.small_sample`, on its training rows and on held-out text.

A pass of its own over the rows, with all logits of a micro-batch at once: other runs have no part in
it, and their validation computes none.
"""

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.config.groups import RankGroups
from pipeline.engine.deepspeed_engine import Engine
from pipeline.engine.groups import sum_over_data_ranks
from pipeline.model.chunked_loss import logit_losses
from pipeline.sampling.batches import IGNORED, Batch, read_batch
from pipeline.sampling.loader import TrainingData
from pipeline.sampling.order import Places
from pipeline.store.heartbeat import NO_HEARTBEAT, Heartbeat, NoHeartbeat
from pipeline.store.metrics import SampleFigures
from pipeline.training.validation import HeldOut, passes_over_rows


@dataclass(frozen=True)
class RowsFit:
    """How well a model predicts some rows; None where they have no target or it was not finite."""

    loss: float | None
    """Mean over all targets, in nats."""
    error: float | None
    """Share of the targets that are not the id with the highest logit."""


def rows_of_sample(data: TrainingData) -> Batch:
    """Return every training row of all sources once, with the targets that the run is trained on."""
    counts = [source.rows.count for source in data.sources]
    source = np.repeat(np.arange(len(counts)), counts)
    row = np.concatenate([np.arange(count) for count in counts])
    places = Places(np.arange(len(row)), source, np.zeros(len(row), np.int64), row)
    return read_batch(data.sources, places, data.shape)


def sample_figures(
    engine: Engine,
    groups: RankGroups,
    sample: Batch,
    held_out: HeldOut,
    micro_batch: int,
    heartbeat: Heartbeat | NoHeartbeat = NO_HEARTBEAT,
) -> SampleFigures:
    """Measure the fit to a sample and to held-out text; every rank calls it and gets the same."""
    trained = fit_to_rows(engine, groups, sample, micro_batch, heartbeat)
    tested = fit_to_rows(engine, groups, held_out.batch, micro_batch, heartbeat)
    return {
        "sample_loss": trained.loss,
        "sample_error": trained.error,
        "validation_error": tested.error,
    }


@torch.no_grad()
def fit_to_rows(
    engine: Engine,
    groups: RankGroups,
    rows: Batch,
    micro_batch: int,
    heartbeat: Heartbeat | NoHeartbeat = NO_HEARTBEAT,
) -> RowsFit:
    """Measure loss and error on some rows; every rank calls it and gets the same.

    All ranks run the same number of forward passes, as ZeRO 3 needs.
    """
    # Each data rank adds up its own rows.
    sums = torch.zeros(3, dtype=torch.float64, device=engine.device)
    for chosen, batch in passes_over_rows(
        engine, groups, rows, micro_batch, "fit to the sample", heartbeat
    ):
        logits = engine(batch.inputs, positions=batch.positions)
        if len(chosen):
            sums += sums_of_rows(logits.flatten(0, 1), batch.targets.flatten())

    # Add up the sums of all data ranks.
    sum_over_data_ranks(sums, groups)
    nats, wrong, targets = sums.tolist()
    if not targets or not np.isfinite(nats):
        return RowsFit(None, None)
    return RowsFit(nats / targets, wrong / targets)


def sums_of_rows(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return `(3,) float64`: nats, wrong predictions, and number of targets `(rows,)`."""
    counted = targets != IGNORED
    losses = logit_losses(logits, targets, 0.0)[1].sum(dtype=torch.float64)
    wrong = ((logits.argmax(1) != targets) & counted).sum()
    return torch.stack([losses, wrong.double(), counted.sum().double()])
