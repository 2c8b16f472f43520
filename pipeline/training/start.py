"""How a run that has no checkpoint yet begins, on its ranks: what it is, what it takes over, and
from where."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig

from pipeline.checkpoint.folders import complete_checkpoints, read_checkpoint_manifest
from pipeline.checkpoint.reader import damage_of_checkpoint, load_checkpoint
from pipeline.checkpoint.state import GuardState, TrainState
from pipeline.checkpoint.stored_weights import Stored, open_stored
from pipeline.config.groups import RankGroups
from pipeline.config.run_config import RunConfig
from pipeline.engine.agreement import from_rank_0
from pipeline.engine.engine import Engine
from pipeline.errors import ConfigError
from pipeline.model.config_differences import model_differences
from pipeline.model.given_weights import Weights, pretrained_weights
from pipeline.model.language_model import PREFIX
from pipeline.sampling.dataset import tokenizer_size
from pipeline.store.events import write_event
from pipeline.store.layout import data_folder, run_folder
from pipeline.tokens.agreement import disagreements, folder_ids, own_ids
from pipeline.training import branch, origin
from pipeline.training.origin import Origin

BRANCH = "branch"
"""The event of a run that begins from another one's checkpoint."""


def describe(config: RunConfig, architecture: PretrainedConfig) -> dict[str, Any]:
    """Return what every checkpoint's manifest says of the run: its model, its tokenizer, and where
    it comes from.

    Raises ConfigError where a pretrained model's tokenizer gives other ids than those of the
    tokens.
    """
    folder = data_folder(config).tokenizer
    ours = own_ids(folder, tokenizer_size(folder)[1])
    checkpoints = complete_checkpoints(run_folder(config).checkpoints)
    lineage: list[dict[str, Any]] = []
    if checkpoints:
        lineage = read_checkpoint_manifest(checkpoints[-1]).get("lineage", [])
    elif (pretrained := config.model.pretrained) is not None:
        if problems := disagreements(ours, folder_ids(pretrained)):
            raise ConfigError(
                [
                    f"model.pretrained = {pretrained}: its tokenizer is not that of {folder}: "
                    f"{'; '.join(problems)}. Set "
                    f"tokenizer: {{kind: pretrained, path: {pretrained}}}, and a paths.data_dir of "
                    "its own"
                ]
            )
        lineage = [
            {"pretrained": str(pretrained), "content": origin.inventory(config)["model.pretrained"]}
        ]
    return {
        "model": json.loads(architecture.to_json_string(use_diff=False)),
        "tokenizer": ours.digest(),
        "lineage": lineage,
    }


def choose_origin(config: RunConfig, groups: RankGroups, about: dict[str, Any]) -> Origin | None:
    """Return the checkpoint to begin from, intact and of the same model and tokenizer; every rank
    calls it.

    Raises UserError where it is missing or damaged, or where something of it does not fit.
    """
    found: Origin | None = from_rank_0(groups, origin.find_origin, config)
    if found is None:
        return None
    problems = [
        f"model: {change}; {found.checkpoint} has the first value: set it back"
        for change in model_differences(found.manifest["model"], about["model"])
    ]
    if found.manifest["tokenizer"] != about["tokenizer"]:
        problems.append(
            f"tokenizer: {found.checkpoint} was trained with one that gives other ids. Set "
            f"tokenizer: {{kind: pretrained, "
            "path: data_dir/tokenizer of that run}, and a paths.data_dir of its own"
        )
    if problems:
        raise ConfigError(problems, f"train.init_from = {config.train.init_from}")
    origin.refuse_damaged(found, damage_of_checkpoint(found.checkpoint, groups))
    return found


def weights_to_begin_with(
    config: RunConfig, groups: RankGroups, architecture: PretrainedConfig, found: Origin | None
) -> Weights | None:
    """Return the weights to put into the model, None where they are drawn or come with
    `everything`."""
    if found is not None:
        take_all = config.train.init_take == "everything"
        return (
            None
            if take_all
            else _on_rank_0(
                groups, lambda: stored_as_weights(found.checkpoint, open_stored(found.checkpoint))
            )
        )
    if (folder := config.model.pretrained) is not None:
        return _on_rank_0(groups, lambda: pretrained_weights(folder, architecture))
    return None


def _on_rank_0(groups: RankGroups, read: Callable[[], Weights]) -> Weights:
    """Open weights on rank 0 only; the other ranks learn the shapes, or what was wrong."""
    opened: list[Weights] = []

    def shapes() -> tuple[str, dict[str, torch.Size]]:
        opened.append(read())
        return opened[0].where, dict(opened[0].shapes)

    where, known = from_rank_0(groups, shapes)
    return opened[0] if groups.is_rank_0 else Weights(where, known, None)


def stored_as_weights(checkpoint: Path, stored: Stored) -> Weights:
    """Return a checkpoint's parameters by their names in transformers."""
    shapes = {name.removeprefix(PREFIX): shape for name, shape in stored.shapes.items()}
    return Weights(str(checkpoint), shapes, lambda name: stored.weight(PREFIX + name))


def begin(
    engine: Engine,
    groups: RankGroups,
    config: RunConfig,
    found: Origin | None,
    about: dict[str, Any],
) -> TrainState:
    """Return the state of a run without a checkpoint of its own, and record in events.jsonl that it
    branches."""
    if found is None:
        return TrainState()
    about["lineage"] = found.lineage()
    state = TrainState()
    if config.train.init_take == "everything":
        own = [
            {key: value for key, value in g.items() if key != "params"}
            for g in engine.optimizer.param_groups
        ]
        state = load_checkpoint(engine, groups, found.checkpoint, config.train.seed)
        state = replace(state, guard=GuardState())  # the base's losses may be of other data
        for group, settings in zip(engine.optimizer.param_groups, own, strict=True):
            group.update(settings)  # a checkpoint brings those of the other run
    if groups.is_rank_0:
        write_event(
            config.paths.run_dir,
            BRANCH,
            take=config.train.init_take,
            lineage=about["lineage"],
            changed=branch.changed_settings(config, found),
        )
    return state
