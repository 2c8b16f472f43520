"""The module that DeepSpeed trains: a causal language model of transformers with its loss.

Its forward pass ends in losses instead of logits, so that the logits need never be there all at
once, and documents in one row are kept apart here.
"""

from inspect import signature
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from pipeline.model.chunked_loss import (
    Kernel,
    chunk_losses,
    head_losses,
    logit_losses,
    rows_at_once,
)

PREFIX = "causal_lm."
"""What the names of the weights begin with in checkpoints, before transformers' own."""
PROBE_POSITIONS = 8
LOSS_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-2}
"""Relative, by the logits' format: some architectures take the loss of bf16 logits in bf16, which
keeps 8 bits."""


def is_alike(logits: torch.Tensor, others: torch.Tensor) -> bool:
    """Return whether logits of the same text differ by rounding alone."""
    return torch.allclose(logits, others, rtol=0, atol=1e-5 * float(logits.abs().max()))


def compiled_graphs() -> int:
    """Return how many graphs torch has compiled in this process; 0 means that everything ran as it
    is."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


class LanguageModel(nn.Module):
    """Call with inputs for logits; with targets too for `(objective, losses)`, see `forward`."""

    def __init__(self, causal_lm: PreTrainedModel, z_loss_weight: float = 0.0) -> None:
        """Take the model of transformers. Its whole logits are used until `examine` has found that
        less will do."""
        super().__init__()
        self.causal_lm = causal_lm
        self._z_loss_weight = z_loss_weight
        head = causal_lm.get_output_embeddings()
        self._head = (
            _Head(head, causal_lm.config) if type(head) is nn.Linear else None
        )  # before ZeRO 3 sets its hooks
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
        self,
        inputs: torch.Tensor,
        targets: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
    ) -> Any:
        """Return logits `(rows, length, vocabulary)`, or, given targets, the objective's sum and
        the loss of each.

        All `(rows, length) int64`. The objective `() float32` is the sum of the losses and of what
        is added to them; the losses `(rows, length) float32` are cross-entropies in nats, 0 where
        the target is IGNORED, without gradient.
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

        transformers sees by positions that count from 0 again where a document begins, and masks
        attention accordingly, as long as neither a mask nor a cache is given. Flash-attention takes
        no mask: transformers gives it the documents' lengths, also from the positions, but for a
        batch of one row only. So there all rows are given as one, in which each begins at 0 and is
        thus apart from the others. Source: transformers 5.23, masking_utils.py
        (find_packed_sequence_indices), modeling_flash_attention_utils.py (_is_packed_sequence).
        """
        if positions is None:
            return module(input_ids=inputs, use_cache=False)
        if "flash" not in self.attention:
            return module(input_ids=inputs, position_ids=positions, use_cache=False)
        output = module(
            input_ids=inputs.reshape(1, -1), position_ids=positions.reshape(1, -1), use_cache=False
        )
        for name in ("logits", "last_hidden_state"):
            if name in output:
                output[name] = output[name].view(*inputs.shape, -1)
        return output

    @torch.no_grad()
    def examine(self) -> list[str]:
        """Compare on a few tokens what is computed here with what the model's own code computes;
        every rank calls it.

        Takes the losses from hidden states and head from then on where these alone make the logits:
        some architectures scale or bound theirs. Returns what makes the objective another one than
        the prediction of the next token.
        """
        model = self.causal_lm
        was_training = self.training
        device = next(model.buffers(), next(model.parameters())).device
        length = min(
            PROBE_POSITIONS,
            getattr(self.config, "max_position_embeddings", None) or PROBE_POSITIONS,
        )
        ids = (torch.arange(1, length + 1, device=device) * 7919 % self.config.vocab_size).repeat(
            2, 1
        )
        ids[1, -1] = (ids[1, -1] + 1) % self.config.vocab_size
        self.eval()
        has_own_loss = "labels" in signature(model.forward).parameters
        output = model(input_ids=ids, use_cache=False, **({"labels": ids} if has_own_loss else {}))
        logits = output.logits
        own_loss = output.loss if has_own_loss else None
        self._head_makes_logits = self._makes_logits_of_head(ids, logits)
        self.train(was_training)
        if logits.shape != (*ids.shape, self.config.vocab_size):
            return [
                f"gives logits of shape {tuple(logits.shape)} for ids of shape {tuple(ids.shape)}"
            ]
        problems = []
        if not is_alike(logits[0, :-1], logits[1, :-1]):
            problems.append("lets a token see the tokens after it, which it would learn to copy")
        loss = logit_losses(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), 0.0)[1].mean()
        if own_loss is not None and not torch.isclose(
            own_loss.float(), loss, rtol=LOSS_TOLERANCE[logits.dtype]
        ):
            problems.append(
                f"has a loss of its own that is not the next token's alone: {own_loss:.4f}, not "
                f"{loss:.4f}"
            )
        return problems

    def _makes_logits_of_head(self, ids: torch.Tensor, logits: torch.Tensor) -> bool:
        """Return whether the head, applied to the base model's hidden states, gives the same logits
        to the last bit."""
        base = self.causal_lm.base_model
        head = self.causal_lm.get_output_embeddings()
        if self._head is None or head is None or base is self.causal_lm:
            return False
        hidden = self._run(base, ids, None).last_hidden_state
        if hidden.shape[-1] != self._head.width:  # something between them changes the width
            return False
        return torch.equal(logits, head(hidden))

    def compile_model(self) -> None:
        """Have torch compile what the training step runs, at its first call; after `examine`.

        Layer by layer where the architecture has layers: all alike, they are compiled once. And
        transformers, when the whole model is compiled, spells causal masks out (masking_utils.py,
        "is_tracing"), which costs attention on an H100 2.8 times its time.
        """
        layers = [
            module
            for module in self.causal_lm.modules()
            if isinstance(module, GradientCheckpointingLayer)
        ]
        if not layers:
            self.causal_lm.base_model.compile()
        # Where layers differ by a number, each is compiled for itself; beyond the limit torch would
        # run them as they are.
        dynamo = torch._dynamo.config
        dynamo.recompile_limit = max(dynamo.recompile_limit, 4 * len(layers))
        for module in [*layers, *self._norms_outside(layers)]:
            module.compile()
        if self._head is not None:
            self._head.kernel = torch.compile(chunk_losses)

    def _norms_outside(self, layers: list[GradientCheckpointingLayer]) -> list[nn.Module]:
        """Return the modules of vectors only that lie directly in the base model, as the last norm
        does."""
        if not layers:
            return []
        children = self.causal_lm.base_model.children()
        found = [
            (child, [getattr(p, "ds_shape", p.shape) for p in child.parameters()])
            for child in children
        ]
        return [
            child for child, shapes in found if shapes and all(len(shape) == 1 for shape in shapes)
        ]


class _Head(nn.Module):
    """The output head and its losses. ZeRO 3 gathers a module's weights when that module is
    called."""

    def __init__(self, head: nn.Linear, config: PretrainedConfig) -> None:
        super().__init__()
        self.kernel: Kernel = chunk_losses
        self._held = (
            head,
        )  # in a tuple: its weights belong to the model, and have one name in checkpoints
        self._sizes = config.hidden_size, config.num_hidden_layers, config.vocab_size
        self.width = head.in_features
        for parameter in head.parameters():
            if hasattr(parameter, "ds_id"):  # ZeRO 3 has sharded it
                _register_with_deepspeed(self, parameter)

    def forward(
        self, hidden: torch.Tensor, targets: torch.Tensor, z_loss_weight: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        chunk = rows_at_once(len(hidden), *self._sizes)
        (head,) = self._held
        return head_losses(
            hidden, head.weight, head.bias, targets, z_loss_weight, chunk, self.kernel
        )


def _register_with_deepspeed(module: nn.Module, parameter: nn.Parameter) -> None:
    import deepspeed  # here, as its import takes a second and `pipeline.model.model_check` needs none of it

    deepspeed.zero.register_external_parameter(module, parameter)
