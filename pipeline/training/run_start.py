"""Find where a run starts, the same on all ranks: its own checkpoint, another run's, or nothing.

Records the run's settings in its folder; reads checkpoints' manifests and tokenizers.
"""

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
from pipeline.training.origin import (
    Origin,
    find_origin,
    origin_content,
    refuse_damaged_origin,
)


@dataclass(frozen=True)
class RunStart:
    """Where the run begins or continues at this start of the ranks."""

    checkpoints: list[Path]
    """Complete checkpoints of the run, newest first; empty for a new run."""
    origin: Origin | None
    """The other run's checkpoint that a new run begins from; None where there is none."""
    manifest_fields: RunFacts
    """Fields of the run in every checkpoint's manifest: `model`, `tokenizer`, `lineage`."""


def find_start(config: RunConfig, groups: RankGroups, architecture: PretrainedConfig) -> RunStart:
    """Record the run's settings in its folder, and find where it starts; every rank calls it.

    Raises UserError on every rank where the run must not resume, or where its origin does not fit.
    """
    checkpoints: list[Path] = call_on_rank_0(groups, resume.record_run, config)
    fields: RunFacts = call_on_rank_0(groups, describe_run, config, architecture)
    origin = None if checkpoints else choose_origin(config, groups, fields)
    if origin is not None:
        fields = {**fields, "lineage": origin.lineage()}
    return RunStart(checkpoints, origin, fields)


def describe_run(config: RunConfig, architecture: PretrainedConfig) -> RunFacts:
    """Return the fields of the run for its checkpoints' manifests: model, tokenizer, lineage.

    Raises ConfigError where the tokenizer of `model.pretrained` differs from the tokens' one.
    """
    # The tokenizer, by the ids that it gives.
    folder = data_folder(config).tokenizer
    ours = own_ids(folder, tokenizer_size(folder)[1])

    # The lineage: as recorded, or the pretrained model that the run begins from.
    checkpoints = complete_checkpoints(run_folder(config).checkpoints)
    pretrained = config.model.pretrained
    lineage: list[LineageEntry] = []
    if checkpoints:
        lineage = read_checkpoint_manifest(checkpoints[-1]).get("lineage", [])
    elif pretrained is not None:
        problems = disagreements(ours, folder_ids(pretrained))
        if problems:
            raise ConfigError(
                [
                    f"model.pretrained = {pretrained}: its tokenizer differs from the one in "
                    f"{folder}: {'; '.join(problems)}. Set tokenizer: {{kind: pretrained, path: "
                    f"{pretrained}}}, and another paths.data_dir"
                ]
            )
        lineage = [
            {"pretrained": str(pretrained), "content": origin_content(config)["model.pretrained"]}
        ]

    return {
        "model": json.loads(architecture.to_json_string(use_diff=False)),
        "tokenizer": ours.digest(),
        "lineage": lineage,
    }


def choose_origin(
    config: RunConfig, groups: RankGroups, manifest_fields: RunFacts
) -> Origin | None:
    """Return the checkpoint to begin from, None without `train.init_from`; every rank calls it.

    Raises UserError where the checkpoint is missing or damaged, or where its model or tokenizer
    differs from this run's.
    """
    origin: Origin | None = call_on_rank_0(groups, find_origin, config)
    if origin is None:
        return None

    # Model and tokenizer have to be the same.
    problems = [
        f"model: {change}; {origin.checkpoint} has the first value: set it back"
        for change in model_differences(origin.manifest["model"], manifest_fields["model"])
    ]
    if origin.manifest["tokenizer"] != manifest_fields["tokenizer"]:
        problems.append(
            f"tokenizer: {origin.checkpoint} was trained with a tokenizer that gives other ids. "
            "Set tokenizer: {kind: pretrained, path: data_dir/tokenizer of that run}, and another "
            "paths.data_dir"
        )
    if problems:
        raise ConfigError(problems, f"train.init_from = {config.train.init_from}")
    refuse_damaged_origin(origin, damage_of_checkpoint(origin.checkpoint, groups))
    return origin
