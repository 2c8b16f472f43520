"""nanoGPT's own model in a loop like its own, imported from a checkout of github.com/karpathy/nanoGPT.

Its `model.py` is only read and called. The model is a GPT-2 of the same width, depth and vocabulary:
its layers have as many parameters as those of a Llama, 12 times the width squared.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.config.groups import group_sizes
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.model.architecture import model_config
from pipeline.store.environment import user_variable

VARIABLE = "PIPELINE_BENCHMARK_NANOGPT"
"""Environment variable that names the checkout."""
TOKENS = 1_000_000
"""Random tokens in the file that batches are read from."""


def nanogpt_checkout() -> Path | None:
    """Return the checkout that the environment names; None where it names none.

    Raises UserError where the folder has no `model.py`.
    """
    named = user_variable(VARIABLE)
    if named is None:
        return None
    checkout = Path(named)
    if not (checkout / "model.py").is_file():
        raise UserError(
            f"{VARIABLE} = {checkout}: has no model.py; name a checkout of "
            "github.com/karpathy/nanoGPT, or unset it"
        )
    return checkout


def train_nanogpt(
    config: RunConfig, learning_rate: float, steps: int, mark: Callable[[], None]
) -> float:
    """Train nanoGPT's model, calling `mark` after every step; return the last step's loss.

    The variable must name a checkout. Clips and accumulates as its `train.py` does, with the
    optimizer that its model makes.
    """
    checkout = nanogpt_checkout()
    assert checkout is not None, "the benchmark leaves this side out without a checkout"
    spec = importlib.util.spec_from_file_location("nanogpt_model", checkout / "model.py")
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    # The model and its optimizer.
    architecture = model_config(config)
    length = config.data.sequence_length
    model = module.GPT(
        module.GPTConfig(
            block_size=length,
            vocab_size=architecture.vocab_size,
            n_layer=architecture.num_hidden_layers,
            n_head=architecture.num_attention_heads,
            n_embd=architecture.hidden_size,
            dropout=0.0,
            bias=False,
        )
    )
    optimizer = model.configure_optimizers(0.1, learning_rate, (0.9, 0.95), "cpu")
    batches = _RandomRows(config, architecture.vocab_size)

    # The loop.
    accumulation = config.accumulation(group_sizes(1))
    inputs, targets = batches.read()
    nats = 0.0
    for _ in range(steps):
        loss = torch.zeros(())
        for _ in range(accumulation):
            loss = model(inputs, targets)[1] / accumulation
            inputs, targets = batches.read()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        nats = loss.item() * accumulation
        mark()
    return nats


class _RandomRows:
    """Rows at random places of a file of tokens, mapped into memory anew for each batch."""

    def __init__(self, config: RunConfig, vocabulary: int) -> None:
        self._rows = config.batch.micro_batch_sequences
        self._length = config.data.sequence_length
        self._path = config.paths.data_dir / "nanogpt.bin"
        np.random.default_rng(0).integers(0, vocabulary, TOKENS, dtype=np.uint16).tofile(self._path)

    def read(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets, both `(micro_batch, length) int64`."""
        tokens = np.memmap(self._path, dtype=np.uint16, mode="r")
        starts = torch.randint(len(tokens) - self._length - 1, (self._rows,)).tolist()
        rows = np.stack([tokens[start : start + self._length + 1] for start in starts])
        wide = torch.from_numpy(rows.astype(np.int64))
        return wide[:, :-1].contiguous(), wide[:, 1:].contiguous()
