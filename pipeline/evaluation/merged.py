"""Averages the weights of checkpoints, tensor by tensor, through the one reader of checkpoints.

Reads checkpoints, whose bytes are compared with their checksums first; writes transformers folders
with the record `merge.json`. The mean is taken in fp32, in
the order of the steps, so that it has the same bits wherever it is computed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.checkpoint.folders import complete_checkpoints, read_checkpoint_manifest
from pipeline.config.evaluation_section import Merge, MergeWeights
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError, UserError
from pipeline.evaluation.model_folder import CardFacts, replacing_folder, write_model_folder
from pipeline.evaluation.models import checkpoint_weights, model_of_weights
from pipeline.logs import note
from pipeline.store.artifacts import environment
from pipeline.store.files import file_record, fingerprint, write_json
from pipeline.store.layout import RunFolder, checkpoint_step, manifest_path
from pipeline.store.scores_folder import MERGE_RECORD

if TYPE_CHECKING:
    import torch

    from pipeline.model.given_weights import GivenWeights


MOST_NAMED = 5
"""Maximum number of steps in the title of a merge."""


def merged_checkpoints(run_dir: Path, merge: Merge) -> list[Path]:
    """Return the checkpoints that a merge averages, oldest first.

    Raises ConfigError where the run lacks one of them, or has fewer than `last`.
    """
    run = RunFolder(merge.run or run_dir)
    checkpoints = complete_checkpoints(run.checkpoints)
    there = [checkpoint_step(path) for path in checkpoints]
    if bool(merge.steps) == (merge.last is not None):
        raise ConfigError(["merge: needs either `last` or `steps`"])
    if merge.last is not None:
        if merge.last > len(checkpoints):
            raise ConfigError(
                [
                    f"merge.last = {merge.last}: {run.checkpoints} holds {len(checkpoints)} complete "
                    "checkpoints; set fewer, or keep more of them (checkpoint.keep_last)"
                ]
            )
        return checkpoints[-merge.last :]
    missing = sorted(set(merge.steps) - set(there))
    if missing:
        raise ConfigError(
            [
                f"merge.steps = {list(merge.steps)}: {run.checkpoints} holds no complete checkpoint of "
                f"step {', '.join(map(str, missing))}; there are {', '.join(map(str, there))}"
            ]
        )
    return [run.checkpoint(step) for step in sorted(set(merge.steps))]


def merged_steps_in_words(steps: Sequence[int]) -> str:
    """Return the steps of a merge in words that are others for other steps.

    Many steps are shown by their number, the last one and the hash that is in the name of the cells.
    """
    if len(steps) == 1:
        return f"step {steps[0]}"
    if len(steps) <= MOST_NAMED:
        return f"steps {', '.join(map(str, steps[:-1]))} and {steps[-1]}"
    return f"{len(steps)} checkpoints to step {steps[-1]} ({fingerprint(list(steps))[:8]})"


def merge_coefficients(steps: Sequence[int], weights: MergeWeights) -> list[float]:
    """Return by which number each checkpoint is multiplied; `steps` ascend. They sum to 1.

    `uniform`: all equal. The others emulate a decay of the learning rate d(x), from 1 at the first
    checkpoint (x = 0) to 0 at the last (x = 1), which was not trained: the updates between
    checkpoints i - 1 and i are scaled by w_i, the mean of d over that stretch. As the sum of scaled
    updates, theta_0 + sum of w_i (theta_i - theta_{i-1}), the result has the coefficients
    c_0 = 1 - w_1, c_j = w_j - w_{j+1} and c_n = w_n.
    Source: Tian et al. 2025, WSM: decay-free learning rate schedule via checkpoint merging.
    """
    count = len(steps)
    if count == 1:
        return [1.0]
    if weights == "uniform":
        return [1 / count] * count
    integral = INTEGRALS[weights]
    places = [(step - steps[0]) / (steps[-1] - steps[0]) for step in steps]
    scales = [(integral(end) - integral(begin)) / (end - begin) for begin, end in pairwise(places)]
    bounded = [1.0, *scales, 0.0]
    return [before - after for before, after in pairwise(bounded)]


INTEGRALS: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x - x * x / 2,
    "minus-sqrt": lambda x: x - 2 / 3 * x * math.sqrt(x),
}
"""Integral from 0 to x of each decay of the learning rate: 1 - x, and 1 - sqrt(x)."""


def merged_weights(checkpoints: Sequence[Path], coefficients: Sequence[float]) -> "GivenWeights":
    """Return the weighted sum of checkpoints' fp32 weights, computed when a tensor is read.

    Besides the sum, one tensor of one checkpoint is in memory at a time. Tensors that are no
    parameters are those of the last checkpoint. Raises DataError where a checkpoint is damaged.
    """
    parts = [checkpoint_weights(checkpoint) for checkpoint in checkpoints]
    last = parts[-1]

    def read(name: str) -> "torch.Tensor":
        readers = [part.read for part in parts if part.read is not None]
        total = readers[0](name).mul_(coefficients[0])
        for reader, coefficient in zip(readers[1:], coefficients[1:], strict=True):
            total.add_(reader(name).mul_(coefficient))
        return total

    names = ", ".join(checkpoint.name for checkpoint in checkpoints)
    return replace(last, where=f"the mean of {names}", read=read)


def export_merge(config: RunConfig, merge: Merge, output: Path) -> None:
    """Write the mean of checkpoints into a new folder; card and `merge.json` name all of them.

    Raises UserError where the folder exists; ConfigError where the run lacks a checkpoint; DataError
    where one is damaged.
    """
    if output.exists():
        raise UserError(f"{output}: exists already; choose a folder that does not exist yet")

    # What is averaged, and how.
    checkpoints = merged_checkpoints(config.paths.run_dir, merge)
    steps = [checkpoint_step(checkpoint) for checkpoint in checkpoints]
    coefficients = merge_coefficients(steps, merge.weights)
    parts = {
        checkpoint.name: {
            "coefficient": coefficient,
            "manifest": file_record(manifest_path(checkpoint))["checksum"],
        }
        for checkpoint, coefficient in zip(checkpoints, coefficients, strict=True)
    }

    # The folder is complete when it gets its name.
    last = read_checkpoint_manifest(checkpoints[-1])
    sums = " + ".join(
        f"{coefficient:.6g} x step {step}"
        for step, coefficient in zip(steps, coefficients, strict=True)
    )
    facts = CardFacts(
        last["state"]["step"],
        last["state"]["tokens"],
        None,
        last["lineage"],
        {"merge": f"{merge.weights}: {sums}"},
    )
    model = model_of_weights(config, merged_weights(checkpoints, coefficients))
    with replacing_folder(output) as partial:
        write_model_folder(config, model, partial, facts)
        record = {
            "run": str(config.paths.run_dir),
            "weights": merge.weights,
            "checkpoints": parts,
            "environment": environment(),
        }
        write_json(partial / MERGE_RECORD, record)
    note(f"wrote the {merge.weights} merge of {len(steps)} checkpoints to {output}")
