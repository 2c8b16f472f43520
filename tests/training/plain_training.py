"""The 25 lines that every engine has to equal: plain PyTorch, one process, whole batches."""

from collections.abc import Iterable

import torch
from transformers import AutoModelForCausalLM

from pipeline.config import RunConfig
from pipeline.training.model import initialise, model_config
from pipeline.training.schedules import learning_rate

PlainBatch = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
"""Inputs, targets with -100 where there is none, positions; each `(rows, length)`."""


def train_plainly(config: RunConfig, batches: Iterable[PlainBatch]) -> tuple[list[float], list[float]]:
    """Do one step a batch; returns the mean losses over the targets, and the gradient norms before clipping."""
    model = AutoModelForCausalLM.from_config(model_config(config), dtype=torch.float32)
    initialise(model, config, is_sharded=False)
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    plain = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), eps=1e-8)
    losses, norms = [], []
    for step, (inputs, targets, positions) in enumerate(batches, 1):
        logits = model(input_ids=inputs, position_ids=positions, use_cache=False).logits
        total = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        (total / targets.numel()).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total.item() / int((targets != -100).sum()))
    return losses, norms
