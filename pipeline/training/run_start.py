"""Where a run starts, as its ranks agree: a checkpoint of its own, another run's, or nothing."""

import json
from dataclasses import dataclass
from pathlib import Path

from transformers import PretrainedConfig

from pipeline.checkpoint.folders import complete_checkpoints, read_checkpoint_manifest
from pipeline.checkpoint.reader import damage_of_checkpoint
from pipeline.config.groups import RankGroups
from pipeline.config.run_config import RunConfig
from pipeline.engine.agreement import call_on_rank_0
from pipeline.errors import ConfigError
from pipeline.model.config_differences import model_differences
from pipeline.sampling.dataset import tokenizer_size
from pipeline.store.counts import LineageEntry
from pipeline.store.layout import data_folder, run_folder
from pipeline.store.records import RunFacts
from pipeline.tokens.agreement import disagreements, folder_ids, own_ids
from pipeline.training import resume
from pipeline.training.origin import Origin, find_origin, inventory, refuse_damaged


@dataclass(frozen=True)
class RunStart:
    """Where this start of the ranks has the run begin or continue."""

    checkpoints: list[Path]
    """Complete checkpoints of the run, newest first; none of a new run."""
    origin: Origin | None
    """The other run's checkpoint that a new run begins from."""
    manifest_fields: RunFacts
    """What every checkpoint's manifest says of the run: `model`, `tokenizer`, `lineage`."""


def find_start(config: RunConfig, groups: RankGroups, architecture: PretrainedConfig) -> RunStart:
    """Record the run's settings in its folder, and find out where it starts; every rank calls it.

    Raises UserError, on every rank, where the run may not be resumed, or what it would begin from
    does not fit.
    """
    checkpoints: list[Path] = call_on_rank_0(groups, resume.record_run, config)
    fields: RunFacts = call_on_rank_0(groups, describe_run, config, architecture)
    origin = None if checkpoints else choose_origin(config, groups, fields)
    if origin is not None:
        fields = {**fields, "lineage": origin.lineage()}
    return RunStart(checkpoints, origin, fields)


def describe_run(config: RunConfig, architecture: PretrainedConfig) -> RunFacts:
    """Return what every checkpoint's manifest says of the run: its model, its tokenizer, and its
    lineage.

    Raises ConfigError where a pretrained model's tokenizer gives other ids than those of the
    tokens.
    """
    folder = data_folder(config).tokenizer
    ours = own_ids(folder, tokenizer_size(folder)[1])
    checkpoints = complete_checkpoints(run_folder(config).checkpoints)

    # What the run has gone through, or what it begins from.
    pretrained = config.model.pretrained
    lineage: list[LineageEntry] = []
    if checkpoints:
        lineage = read_checkpoint_manifest(checkpoints[-1]).get("lineage", [])
    elif pretrained is not None:
        problems = disagreements(ours, folder_ids(pretrained))
        if problems:
            raise ConfigError(
                [
                    f"model.pretrained = {pretrained}: its tokenizer is not that of {folder}: "
                    f"{'; '.join(problems)}. Set "
                    f"tokenizer: {{kind: pretrained, path: {pretrained}}}, and a paths.data_dir of "
                    "its own"
                ]
            )
        lineage = [
            {"pretrained": str(pretrained), "content": inventory(config)["model.pretrained"]}
        ]

    return {
        "model": json.loads(architecture.to_json_string(use_diff=False)),
        "tokenizer": ours.digest(),
        "lineage": lineage,
    }


def choose_origin(
    config: RunConfig, groups: RankGroups, manifest_fields: RunFacts
) -> Origin | None:
    """Return the checkpoint to begin from, intact and of the same model and tokenizer; every rank
    calls it.

    Raises UserError where it is missing or damaged, or where something of it does not fit.
    """
    found: Origin | None = call_on_rank_0(groups, find_origin, config)
    if found is None:
        return None
    problems = [
        f"model: {change}; {found.checkpoint} has the first value: set it back"
        for change in model_differences(found.manifest["model"], manifest_fields["model"])
    ]
    if found.manifest["tokenizer"] != manifest_fields["tokenizer"]:
        problems.append(
            f"tokenizer: {found.checkpoint} was trained with one that gives other ids. Set "
            f"tokenizer: {{kind: pretrained, "
            "path: data_dir/tokenizer of that run}, and a paths.data_dir of its own"
        )
    if problems:
        raise ConfigError(problems, f"train.init_from = {config.train.init_from}")
    refuse_damaged(found, damage_of_checkpoint(found.checkpoint, groups))
    return found
