"""The module that DeepSpeed trains: a causal language model of transformers with its loss.

Its forward pass ends in losses instead of logits, so that the logits need never be there all at once, and documents in
one row are kept apart here.
"""

from typing import Any

import deepspeed
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from pipeline.training.chunked_loss import Kernel, chunk_losses, head_losses, logit_losses, rows_at_once

PREFIX = "causal_lm."
"""What the names of the weights begin with in checkpoints, before transformers' own."""
PROBE_POSITIONS = 8


def compiled_graphs() -> int:
    """Return how many graphs torch has compiled in this process; 0 means that everything ran as it is."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


class LanguageModel(nn.Module):
    """Call with inputs for logits; with targets too for `(objective, losses)`, see `forward`."""

    def __init__(self, causal_lm: PreTrainedModel, z_loss_weight: float = 0.0) -> None:
        """Take the model of transformers. Its whole logits are used until `find_head` has found that less will do."""
        super().__init__()
        self.causal_lm = causal_lm
        self._z_loss_weight = z_loss_weight
        head = causal_lm.get_output_embeddings()
        self._head = _Head(head, causal_lm.config) if type(head) is nn.Linear else None  # before ZeRO 3 sets its hooks
        self._head_makes_logits = False

    @property
    def config(self) -> PretrainedConfig:
        """The config of transformers."""
        return self.causal_lm.config

    @property
    def attention(self) -> str:
        """How attention is computed, as transformers names it."""
        return str(self.config._attn_implementation)

    @property
    def chunks_logits(self) -> bool:
        """Whether the logits of a micro-batch are never there all at once."""
        return self._head is not None and self._head_makes_logits

    def forward(
        self, inputs: torch.Tensor, targets: torch.Tensor | None = None, positions: torch.Tensor | None = None
    ) -> Any:
        """Return logits `(rows, length, vocabulary)`, or, given targets, the objective's sum and the loss of each.

        All `(rows, length) int64`. The objective `() float32` is the sum of the losses and of what is added to them;
        the losses `(rows, length) float32` are cross-entropies in nats, 0 where the target is IGNORED, without gradient.
        """
        if targets is None:
            return self._run(self.causal_lm, inputs, positions).logits
        flat = targets.flatten()
        if self._head is None or not self._head_makes_logits:
            logits = self._run(self.causal_lm, inputs, positions).logits
            objective, losses = logit_losses(logits.flatten(0, 1), flat, self._z_loss_weight)
        else:
            hidden = self._run(self.causal_lm.base_model, inputs, positions).last_hidden_state
            objective, losses = self._head(hidden.flatten(0, 1), flat, self._z_loss_weight)
        return objective, losses.view_as(targets)

    def _run(self, module: nn.Module, inputs: torch.Tensor, positions: torch.Tensor | None) -> Any:
        """Call the model or its base.

        transformers sees by positions that count from 0 again where a document begins, and masks attention accordingly,
        as long as neither a mask nor a cache is given. Flash-attention takes no mask: transformers gives it the
        documents' lengths, also from the positions, but for a batch of one row only. So there all rows are given as
        one, in which each begins at 0 and is thus apart from the others.
        Source: transformers 5.23, masking_utils.py (find_packed_sequence_indices), modeling_flash_attention_utils.py
        (_is_packed_sequence).
        """
        if positions is None:
            return module(input_ids=inputs, use_cache=False)
        if "flash" not in self.attention:
            return module(input_ids=inputs, position_ids=positions, use_cache=False)
        output = module(input_ids=inputs.reshape(1, -1), position_ids=positions.reshape(1, -1), use_cache=False)
        for name in ("logits", "last_hidden_state"):
            if name in output:
                output[name] = output[name].view(*inputs.shape, -1)
        return output

    @torch.no_grad()
    def find_head(self) -> bool:
        """Take the losses from hidden states and head where these alone make the logits; every rank calls it.

        Compared on a few tokens: some architectures scale or bound their logits. Returns whether it is so.
        """
        base, head = self.causal_lm.base_model, self.causal_lm.get_output_embeddings()
        if self._head is None or head is None or base is self.causal_lm:
            return False
        device, was_training = next(self.causal_lm.buffers(), next(self.causal_lm.parameters())).device, self.training
        ids = torch.arange(1, PROBE_POSITIONS + 1, device=device)[None] * 7919 % self.config.vocab_size
        self.eval()
        logits = self._run(self.causal_lm, ids, None).logits
        again = head(self._run(base, ids, None).last_hidden_state)
        self.train(was_training)
        self._head_makes_logits = torch.equal(logits, again)
        return self._head_makes_logits

    def compile_model(self) -> None:
        """Have torch compile what the training step runs, at its first call; after `find_head`.

        Layer by layer where the architecture has layers: all alike, they are compiled once. And transformers, when the
        whole model is compiled, spells causal masks out (masking_utils.py, "is_tracing"), which costs attention on an
        H100 2.8 times its time.
        """
        layers = [module for module in self.causal_lm.modules() if isinstance(module, GradientCheckpointingLayer)]
        if not layers:
            self.causal_lm.base_model.compile()
        # Where layers differ by a number, each is compiled for itself; beyond the limit torch would run them as they are.
        dynamo = torch._dynamo.config
        dynamo.recompile_limit = max(dynamo.recompile_limit, 4 * len(layers))
        for module in [*layers, *self._norms_outside(layers)]:
            module.compile()
        if self._head is not None:
            self._head.kernel = torch.compile(chunk_losses)

    def _norms_outside(self, layers: list[GradientCheckpointingLayer]) -> list[nn.Module]:
        """Return the modules of vectors only that lie directly in the base model, as the last norm does."""
        if not layers:
            return []
        children = self.causal_lm.base_model.children()
        found = [(child, [getattr(p, "ds_shape", p.shape) for p in child.parameters()]) for child in children]
        return [child for child, shapes in found if shapes and all(len(shape) == 1 for shape in shapes)]


class _Head(nn.Module):
    """The output head and its losses. ZeRO 3 gathers a module's weights when that module is called."""

    def __init__(self, head: nn.Linear, config: PretrainedConfig) -> None:
        super().__init__()
        self.kernel: Kernel = chunk_losses
        self._held = (head,)  # in a tuple: its weights belong to the model, and have one name in checkpoints
        self._sizes = config.hidden_size, config.num_hidden_layers, config.vocab_size
        for parameter in head.parameters():
            deepspeed.zero.register_external_parameter(self, parameter)

    def forward(
        self, hidden: torch.Tensor, targets: torch.Tensor, z_loss_weight: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        chunk = rows_at_once(len(hidden), *self._sizes)
        (head,) = self._held
        return head_losses(hidden, head.weight, head.bias, targets, z_loss_weight, chunk, self.kernel)
