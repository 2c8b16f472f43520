"""Averages the weights of checkpoints, tensor by tensor, through the one reader of checkpoints.

Reads checkpoints, whose bytes are compared with their checksums first. The mean is taken in fp32, in
the order of the steps, so that it has the same bits wherever it is computed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.checkpoint.folders import complete_checkpoints
from pipeline.config.evaluation_section import Merge, MergeWeights
from pipeline.errors import ConfigError
from pipeline.evaluation.models import checkpoint_weights
from pipeline.store.layout import RunFolder, checkpoint_step

if TYPE_CHECKING:
    import torch

    from pipeline.model.given_weights import GivenWeights


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
