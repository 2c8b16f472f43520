"""The noise scale against gradients whose signal and noise are known."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import run_ranks
from transformers import AutoModelForCausalLM

from pipeline.config.run_file import load
from pipeline.engine.noise_average import NoiseScale
from pipeline.engine.noise_scale import MicroBatchGradients
from pipeline.model.architecture import model_config
from pipeline.model.construction import initialise
from pipeline.sampling.dataset import open_data
from pipeline.store.metrics import read_metrics


def test_many_noisy_gradients_give_the_scale_they_were_made_with() -> None:
    """Signal 4 in 50 dimensions, variance 2 in each, so noise 100 and scale 25; four tokens against
    sixteen."""
    generator = torch.Generator().manual_seed(1)
    true = torch.zeros(50)
    true[0] = 2
    scale = NoiseScale()
    for _ in range(2000):
        small = true + (2 / 4) ** 0.5 * torch.randn(4, 50, generator=generator)
        scale = scale.after_step(
            float(small.square().sum(1).mean()), 4, float(small.mean(0).square().sum()), 16
        )
    assert scale.tokens == pytest.approx(25, rel=0.35)


def test_gradients_are_seen_once_per_backward_pass_whatever_is_tied() -> None:
    """x w + w: the gradient of w is the sum over both uses, 3 and 1."""
    weight = torch.nn.Parameter(torch.ones(1))
    seen = MicroBatchGradients([weight], torch.device("cpu"))
    for _ in range(2):
        (3 * weight + weight).sum().backward()
    assert seen.take().item() == 2 * 16
    assert seen.take().item() == 0


@pytest.mark.ranks
@pytest.mark.parametrize("zero", ["zero0", "zero1", "zero3"])
def test_a_run_logs_what_single_gradients_give(make_run: Callable[..., Path], zero: str) -> None:
    """Of the first step: 8 sequences in 4 micro-batches, whose gradients are computed here one by
    one."""
    run_file = make_run(zero=zero)
    run_ranks(run_file, 2, ["train.train_tokens=256", "schedule.warmup_tokens=0"])
    config = load(run_file)
    (record,) = read_metrics(config.paths.run_dir)
    model = AutoModelForCausalLM.from_config(model_config(config), dtype=torch.float32)
    initialise(model, config, is_sharded=False)
    batch = open_data(config).read(np.arange(8))
    inputs, targets = torch.from_numpy(batch.inputs).long(), torch.from_numpy(batch.targets).long()
    gradients = []
    for first, end in itertools.pairwise(range(0, 10, 2)):
        logits = model(input_ids=inputs[first:end]).logits.flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(
            logits, targets[first:end].flatten(), reduction="sum"
        ) / (2 * 32)
        found = torch.autograd.grad(loss, list(model.parameters()))
        gradients.append(torch.cat([gradient.flatten() for gradient in found]))
    together = torch.stack(gradients)
    small, large = float(together.square().sum(1).mean()), float(together.mean(0).square().sum())
    expected = NoiseScale().after_step(small, 64, large, 256).tokens
    assert expected is not None
    assert record["gradient_noise_scale_tokens"] == pytest.approx(expected, rel=1e-3)
