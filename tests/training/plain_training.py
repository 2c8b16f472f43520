"""What every engine has to equal: plain PyTorch, one process, whole batches, everything in fp32.

Nothing here comes from the engine but the initial weights and the learning rate.
"""

from collections.abc import Iterable

import torch
from transformers import AutoModelForCausalLM

from pipeline.config.run_config import RunConfig
from pipeline.config.schedules import learning_rate
from pipeline.model.architecture import model_config
from pipeline.model.construction import initialise

PlainBatch = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
"""Inputs, targets with -100 where there is none, positions; each `(rows, length)`."""


class PlainMuon:
    """Muon on whole matrices, one after another, as its inventor describes it."""

    def __init__(self, matrices: list[torch.nn.Parameter], momentum: float, rms: float) -> None:
        self.matrices, self.beta, self.rms = matrices, momentum, rms
        self.momentum = [torch.zeros_like(m) for m in matrices]

    @torch.no_grad()
    def step(self, rate: float, decay: float) -> None:
        for matrix, momentum in zip(self.matrices, self.momentum, strict=True):
            assert matrix.grad is not None
            momentum.copy_(self.beta * momentum + (1 - self.beta) * matrix.grad)
            x = self.beta * momentum + (1 - self.beta) * matrix.grad
            x = x / x.norm()
            x = x.T if x.shape[0] > x.shape[1] else x
            for _ in range(5):
                x = 3.4445 * x - 4.7750 * (x @ x.T) @ x + 2.0315 * (x @ x.T) @ (x @ x.T) @ x
            x = x if x.shape == matrix.shape else x.T
            matrix.copy_(
                matrix * (1 - rate * decay) - rate * self.rms * max(matrix.shape) ** 0.5 * x
            )


def train_plainly(
    config: RunConfig, batches: Iterable[PlainBatch]
) -> tuple[list[float], list[float]]:
    """Do one step a batch; returns the mean losses over the targets, and the gradient norms before
    clipping."""
    model = AutoModelForCausalLM.from_config(model_config(config), dtype=torch.float32)
    initialise(model, config, is_sharded=False)
    tables = {id(m.weight) for m in (model.get_input_embeddings(), model.get_output_embeddings())}
    hidden = [p for p in model.parameters() if p.dim() == 2 and id(p) not in tables]
    muon = PlainMuon(
        hidden if config.optimizer.kind == "muon" else [], 0.95, config.optimizer.muon_update_rms
    )
    rest = [p for p in model.parameters() if not any(p is m for m in muon.matrices)]
    groups = [
        {"params": [p for p in rest if (p.dim() == 2) == is_matrix]} for is_matrix in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    optimizer.param_groups[1]["weight_decay"] = 0.0
    losses, norms = [], []
    for step, (inputs, targets, positions) in enumerate(batches, 1):
        logits = model(input_ids=inputs, position_ids=positions, use_cache=False).logits
        total = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), reduction="sum"
        )
        z_loss = (logits.logsumexp(2).square() * (targets != -100)).sum()
        ((total + config.optimizer.z_loss_weight * z_loss) / targets.numel()).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        muon.step(learning_rate(config, step), decay=0.1)
        optimizer.step()
        model.zero_grad()
        losses.append(total.item() / int((targets != -100).sum()))
    return losses, norms
