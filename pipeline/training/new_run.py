"""The first weights and the first state of a run that has no checkpoint of its own, on its ranks.

Reads another run's checkpoint or a transformers folder; writes a `branch` event.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from transformers import PretrainedConfig

from pipeline.checkpoint.reader import load_checkpoint
from pipeline.checkpoint.state import GuardState, TrainState
from pipeline.checkpoint.stored_weights import open_stored_weights, stored_as_weights
from pipeline.config.groups import RankGroups
from pipeline.config.run_config import RunConfig
from pipeline.engine.agreement import call_on_rank_0
from pipeline.engine.deepspeed_engine import Engine
from pipeline.model.given_weights import GivenWeights, pretrained_weights
from pipeline.store.events import BRANCH, write_event
from pipeline.training import branch
from pipeline.training.run_start import RunStart


def weights_to_begin_with(
    config: RunConfig, groups: RankGroups, architecture: PretrainedConfig, start: RunStart
) -> GivenWeights | None:
    """Return the weights to build the model with.

    None where the initial weights are random, or are loaded later with a whole checkpoint.
    """
    if start.checkpoints:
        return None
    if start.origin is not None:
        if config.train.init_take == "everything":
            return None
        base = start.origin.checkpoint
        return _on_rank_0(groups, lambda: stored_as_weights(base, open_stored_weights(base)))
    folder = config.model.pretrained
    if folder is not None:
        return _on_rank_0(groups, lambda: pretrained_weights(folder, architecture))
    return None


def _on_rank_0(groups: RankGroups, read: Callable[[], GivenWeights]) -> GivenWeights:
    """Open weights on rank 0 only; the other ranks receive the shapes, or the same error."""
    opened: list[GivenWeights] = []

    def open_and_describe() -> tuple[str, dict[str, torch.Size]]:
        opened.append(read())
        return opened[0].where, dict(opened[0].shapes)

    where, shapes = call_on_rank_0(groups, open_and_describe)
    if groups.is_rank_0:
        return opened[0]
    return GivenWeights(where, shapes, None)


def begin_new_run(
    config: RunConfig, groups: RankGroups, engine: Engine, start: RunStart
) -> TrainState:
    """Return the first state of a run that has no checkpoint of its own.

    Loads the base's checkpoint with `train.init_take: everything`. Writes a `branch` event where
    the run begins from another one.
    """
    if start.origin is None:
        return TrainState()
    state = TrainState()
    if config.train.init_take == "everything":
        state = _load_all_of_base(config, groups, engine, start.origin.checkpoint)
    if groups.is_rank_0:
        write_event(
            config.paths.run_dir,
            BRANCH,
            take=config.train.init_take,
            lineage=start.manifest_fields["lineage"],
            changed=branch.changed_settings(config, start.origin),
        )
    return state


def _load_all_of_base(
    config: RunConfig, groups: RankGroups, engine: Engine, checkpoint: Path
) -> TrainState:
    """Load another run's checkpoint with this run's optimizer settings and a new guard state.

    The base's losses may come from other data, so the guards must not compare with them.
    """
    own_settings = [
        {key: value for key, value in group.items() if key != "params"}
        for group in engine.optimizer.param_groups
    ]
    state = load_checkpoint(engine, groups, checkpoint, config.train.seed)
    for group, settings in zip(engine.optimizer.param_groups, own_settings, strict=True):
        group.update(settings)
    return replace(state, guard=GuardState())
