"""Copy batches to the device beside the computation; check that a model keeps documents apart."""

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.errors import ConfigError
from pipeline.model.language_model import LanguageModel, is_alike
from pipeline.sampling.batches import Batch

MIXED_DOCUMENTS = (
    "does not keep documents apart by their positions in this version of transformers; set it to "
    "false, or choose another model.architecture"
)


@dataclass(frozen=True)
class DeviceBatch:
    """A micro-batch on the device, in the form that the model takes."""

    inputs: torch.Tensor
    """`(rows, sequence_length) int64`."""
    targets: torch.Tensor
    """`(rows, sequence_length) int64`, IGNORED where nothing is to be predicted."""
    positions: torch.Tensor | None
    """`(rows, sequence_length) int64`, from 0 in each document; None where rows are not masked."""
    groups: torch.Tensor
    """`(rows,) int64`: whose loss each row's is, as in `Batch`."""
    checksum: int
    """Checksum of the rows' sample numbers and tokens."""
    copied: "torch.cuda.Event | None" = None
    """On a GPU, the event at which the copy is complete."""

    def wait(self) -> None:
        """Make the GPU's computation wait for the copy; this process does not wait."""
        if self.copied is None:
            return
        stream = torch.cuda.current_stream()
        stream.wait_event(self.copied)
        for tensor in (self.inputs, self.targets, self.positions, self.groups):
            if tensor is not None:
                # The memory was allocated for the stream that copied.
                tensor.record_stream(stream)


class Mover:
    """Copies batches to the device; the loader's threads call it ahead of the computation."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)

    def __call__(self, batch: Batch) -> DeviceBatch:
        if self._stream is None:
            return DeviceBatch(*self._tensors(batch), batch.checksum)
        # A new thread's device is GPU 0. Leaving the stream's context would return there, and so
        # open a CUDA context of hundreds of MB on GPU 0 for every rank of the node.
        torch.cuda.set_device(self._device)
        with torch.cuda.stream(self._stream):
            tensors = self._tensors(batch)
            copied = torch.cuda.Event()
            copied.record(self._stream)
        return DeviceBatch(*tensors, batch.checksum, copied)

    def _tensors(
        self, batch: Batch
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]:
        positions = None
        if batch.positions is not None:
            positions = self._move(batch.positions)
        groups = self._move(batch.groups)
        return self._move(batch.inputs), self._move(batch.targets), positions, groups

    def _move(self, part: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(part)
        if self._stream is None:
            return tensor.to(self._device, torch.int64)
        # The pinned copy can be dropped at once: PyTorch reuses its memory only after the copy to
        # the device, which is queued here.
        return tensor.pin_memory().to(self._device, non_blocking=True).long()


@torch.no_grad()
def check_document_mask(model: LanguageModel, sequence_length: int) -> None:
    """Raise ConfigError if a document's logits depend on the document before it in the row.

    Two rows that differ in their first document only must have the same logits in the second; not
    every architecture masks by positions. Every rank calls it. Draws no random number and leaves
    the model unchanged.
    """
    # Two documents a row, no longer together than the positions that the model may have.
    length = min(8, sequence_length)
    device = next(model.buffers(), next(model.parameters())).device
    inputs = torch.arange(2 * length, device=device).repeat(2, 1)
    inputs[1, :length] += 1
    inputs %= model.config.vocab_size
    positions = torch.arange(length, device=device).repeat(2, 2)

    # Compare the logits of the second document.
    was_training = model.training
    model.eval()
    logits = model(inputs, positions=positions).float()[:, length:]
    model.train(was_training)
    if not is_alike(logits[0], logits[1]):
        raise ConfigError(
            [f"data.document_mask = true: {model.config.model_type} {MIXED_DOCUMENTS}"]
        )
