"""The module that DeepSpeed trains: a causal language model of transformers with its loss.

The forward pass ends in losses instead of logits, so that all logits never have to exist at once.
It also keeps the documents of a row apart.
"""

from contextlib import nullcontext
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
)
from pipeline.model.products_at_once import chunks_together
from pipeline.model.shape import rows_at_once
from pipeline.model.tied_gradient import TiedGradient, Tying, can_tie

PREFIX = "causal_lm."
"""Prefix of the weights' names in checkpoints, before transformers' own names."""
PROBE_POSITIONS = 8
"""Tokens of the two rows with which `examine` tries the model."""
LOSS_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-2}
"""Maximum relative difference between two losses, for each number format of the logits.

Some architectures compute the loss of bf16 logits in bf16, which keeps 8 bits.
"""


def is_alike(logits: torch.Tensor, others: torch.Tensor) -> bool:
    """Tell whether logits of the same text differ by rounding alone."""
    return torch.allclose(logits, others, rtol=0, atol=1e-5 * float(logits.abs().max()))


def compiled_graphs() -> int:
    """Return how many graphs torch has compiled in this process; 0 without compilation."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


class LanguageModel(nn.Module):
    """A causal language model. Called with inputs it gives logits, with targets too its losses."""

    def __init__(self, causal_lm: PreTrainedModel, z_loss_weight: float = 0.0) -> None:
        """Wrap a model of transformers; all its logits are computed at once before `examine`."""
        super().__init__()
        self.causal_lm = causal_lm
        self._z_loss_weight = z_loss_weight
        head = causal_lm.get_output_embeddings()
        self._head = None
        if type(head) is nn.Linear:
            self._head = _Head(head, causal_lm.config)  # before ZeRO 3 sets hooks on the modules
        self._head_makes_logits = False
        self._tying: Tying | None = None
        embedding = causal_lm.get_input_embeddings()
        if head is not None and can_tie(embedding, head):
            self._tying = Tying(embedding)

    @property
    def config(self) -> PretrainedConfig:
        """The transformers config of the model."""
        return self.causal_lm.config

    @property
    def attention(self) -> str:
        """Attention implementation, by its name in transformers."""
        return str(self.config._attn_implementation)

    @property
    def chunks_logits(self) -> bool:
        """Whether the logits of a micro-batch are computed a few rows at a time."""
        return self._head is not None and self._head_makes_logits

    def forward(
        self,
        inputs: torch.Tensor,
        targets: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Return logits `(rows, length, vocabulary)`, or with targets `(objective, losses)`.

        All arguments are `(rows, length) int64`. The losses `(rows, length) float32` are
        cross-entropies in nats, 0 where the target is IGNORED, without gradient. The objective
        `() float32` is the sum of the losses and of the z-losses.
        """
        if targets is None:
            return self._run(self.causal_lm, inputs, positions).logits
        flat = targets.flatten()
        if self._head is None or not self._head_makes_logits:
            logits = self._run(self.causal_lm, inputs, positions).logits
            objective, losses = logit_losses(logits.flatten(0, 1), flat, self._z_loss_weight)
        else:
            objective, losses = self._chunked_losses(inputs, flat, positions)
        return objective, losses.view_as(targets)

    def _chunked_losses(
        self, inputs: torch.Tensor, targets: torch.Tensor, positions: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert self._head is not None
        sharing = nullcontext()
        if self._tying is not None and inputs.is_cpu and torch.is_grad_enabled():
            sharing = self._tying.sharing()
        with sharing as tied:
            hidden = self._run(self.causal_lm.base_model, inputs, positions).last_hidden_state
            return self._head(hidden.flatten(0, 1), targets, self._z_loss_weight, tied)

    def _run(self, module: nn.Module, inputs: torch.Tensor, positions: torch.Tensor | None) -> Any:
        """Call the model or its base so that the documents of a row are kept apart.

        transformers recognises documents by positions that begin again at 0, and masks attention
        accordingly, as long as it is given neither a mask nor a cache. Flash-attention takes no
        mask: transformers gives it the documents' lengths, also from the positions, but only for a
        batch of one row. So all rows become one row, in which each begins at 0 and is kept apart.
        Source: transformers 5.23, masking_utils.py (find_packed_sequence_indices),
        modeling_flash_attention_utils.py (_is_packed_sequence).
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
        """Return how the objective differs from next-token prediction; every rank calls it.

        Compares, on a few tokens, the losses computed here with those of the model's own code. From
        then on losses are computed from hidden states and head where these alone give the logits;
        some architectures scale or bound their logits.
        """
        # Two rows that differ in their last token only.
        model = self.causal_lm
        was_training = self.training
        device = next(model.buffers(), next(model.parameters())).device
        positions = getattr(self.config, "max_position_embeddings", None) or PROBE_POSITIONS
        length = min(PROBE_POSITIONS, positions)
        row = torch.arange(1, length + 1, device=device) * 7919 % self.config.vocab_size
        ids = row.repeat(2, 1)
        ids[1, -1] = (ids[1, -1] + 1) % self.config.vocab_size

        # The model's own logits and, where its code has one, its own loss.
        self.eval()
        own_loss = None
        if "labels" in signature(model.forward).parameters:
            output = model(input_ids=ids, use_cache=False, labels=ids)
            own_loss = output.loss
        else:
            output = model(input_ids=ids, use_cache=False)
        logits = output.logits
        self._head_makes_logits = self._makes_logits_of_head(ids, logits)
        self.train(was_training)

        # Compare.
        if logits.shape != (*ids.shape, self.config.vocab_size):
            return [
                f"gives logits of shape {tuple(logits.shape)} for ids of shape {tuple(ids.shape)}"
            ]
        problems: list[str] = []
        if not is_alike(logits[0, :-1], logits[1, :-1]):
            problems.append("lets a token see the tokens after it, which it would learn to copy")
        loss = logit_losses(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), 0.0)[1].mean()
        if own_loss is not None and not torch.isclose(
            own_loss.float(), loss, rtol=LOSS_TOLERANCE[logits.dtype]
        ):
            problems.append(
                f"has a loss of its own that is not the plain next-token loss: {own_loss:.4f} "
                f"instead of {loss:.4f}"
            )
        return problems

    def _makes_logits_of_head(self, ids: torch.Tensor, logits: torch.Tensor) -> bool:
        """Tell whether the head on the base model's hidden states gives the logits bit by bit."""
        base = self.causal_lm.base_model
        head = self.causal_lm.get_output_embeddings()
        if self._head is None or head is None or base is self.causal_lm:
            return False
        hidden = self._run(base, ids, None).last_hidden_state
        if hidden.shape[-1] != self._head.width:  # a module between them changes the width
            return False
        return torch.equal(logits, head(hidden))

    def compile_model(self) -> None:
        """Let torch compile the model and the losses at their first call; call it after `examine`.

        Layers are compiled one by one where the architecture has layers: all alike, they take one
        compilation. Compiled as a whole, transformers would build causal masks (masking_utils.py,
        "is_tracing"), with which attention takes 2.8 times as long on an H100.
        """
        layers = [
            module
            for module in self.causal_lm.modules()
            if isinstance(module, GradientCheckpointingLayer)
        ]
        if not layers:
            self.causal_lm.base_model.compile()
        # Layers that differ by a number are compiled one by one; beyond the limit torch would run
        # them uncompiled.
        dynamo = torch._dynamo.config
        dynamo.recompile_limit = max(dynamo.recompile_limit, 4 * len(layers))
        for module in [*layers, *self._norms_outside(layers)]:
            module.compile()
        if self._head is not None:
            self._head.kernel = torch.compile(chunk_losses)
        self._tying = None  # a compiled embedding would call none of its code

    def _norms_outside(self, layers: list[GradientCheckpointingLayer]) -> list[nn.Module]:
        """Return the base model's own modules of vectors only, such as the last norm."""
        if not layers:
            return []
        norms: list[nn.Module] = []
        for child in self.causal_lm.base_model.children():
            shapes = [getattr(p, "ds_shape", p.shape) for p in child.parameters()]
            if shapes and all(len(shape) == 1 for shape in shapes):
                norms.append(child)
        return norms


class _Head(nn.Module):
    """The output head with its losses: a module, because ZeRO 3 gathers weights by module calls."""

    def __init__(self, head: nn.Linear, config: PretrainedConfig) -> None:
        super().__init__()
        self.kernel: Kernel = chunk_losses
        # In a tuple, so that torch does not register the head here too: its weights belong to the
        # model, and have one name in checkpoints.
        self._held = (head,)
        self._sizes = (config.hidden_size, config.num_hidden_layers, config.vocab_size)
        # Rows of a micro-batch -> chunks to multiply at once.
        self._together: dict[int, int] = {}
        self.width = head.in_features
        for parameter in head.parameters():
            if hasattr(parameter, "ds_id"):  # ZeRO 3 has sharded it
                _register_with_deepspeed(self, parameter)

    def forward(
        self,
        hidden: torch.Tensor,
        targets: torch.Tensor,
        z_loss_weight: float,
        tied: TiedGradient | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows = len(hidden)
        chunk = rows_at_once(rows, *self._sizes)
        (head,) = self._held
        if torch.is_grad_enabled() and rows not in self._together:
            self._together[rows] = self._chunks_together(hidden, head, chunk)
        together = self._together.get(rows, 1)
        return head_losses(
            hidden,
            head.weight,
            head.bias,
            targets,
            z_loss_weight,
            chunk,
            self.kernel,
            together,
            tied,
        )

    def _chunks_together(self, hidden: torch.Tensor, head: nn.Linear, chunk: int) -> int:
        """Return how many chunks to multiply at once; a compiled kernel takes one at a time."""
        if self.kernel is not chunk_losses:
            return 1
        return chunks_together(hidden, head.weight, head.bias, chunk)


def _register_with_deepspeed(module: nn.Module, parameter: nn.Parameter) -> None:
    # Imported here: it takes a second, and `pipeline.model.model_check` does without.
    import deepspeed

    deepspeed.zero.register_external_parameter(module, parameter)
