"""Batches on the device, copied beside the computation, and a check that the model keeps their
documents apart."""

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.errors import ConfigError
from pipeline.model.language_model import LanguageModel, is_alike
from pipeline.sampling.batches import Batch

MIXED_DOCUMENTS = (
    "does not keep documents apart by their positions in this version of transformers; set it to "
    "false, or choose another "
    "model.architecture"
)


@dataclass(frozen=True)
class DeviceBatch:
    """A micro-batch as the model takes it."""

    inputs: torch.Tensor
    """`(rows, sequence_length) int64`."""
    targets: torch.Tensor
    """`(rows, sequence_length) int64`, IGNORED where nothing is to be predicted."""
    positions: torch.Tensor | None
    """`(rows, sequence_length) int64`, from 0 in each document; None where a row is one text."""
    checksum: int
    """Of the rows' sample numbers and tokens."""
    copied: "torch.cuda.Event | None" = None
    """When the copy is complete, on a GPU."""

    def wait(self) -> None:
        """Have the computation, not this process, wait for the copy."""
        if self.copied is None:
            return
        stream = torch.cuda.current_stream()
        stream.wait_event(self.copied)
        for tensor in (self.inputs, self.targets, self.positions):
            if tensor is not None:
                tensor.record_stream(stream)  # its memory was allocated for the stream that copied


class Mover:
    """Brings batches to the device; called by the loader's threads, steps ahead of the
    computation."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, batch: Batch) -> DeviceBatch:
        if self._stream is None:
            return DeviceBatch(*self._tensors(batch), batch.checksum)
        # A new thread's device is GPU 0; leaving the stream's context would go back there and so
        # open a context, of hundreds of MB, for every rank of the node.
        torch.cuda.set_device(self._device)
        with torch.cuda.stream(self._stream):
            tensors = self._tensors(batch)
            copied = torch.cuda.Event()
            copied.record(self._stream)
        return DeviceBatch(*tensors, batch.checksum, copied)

    def _tensors(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        positions = None if batch.positions is None else self._move(batch.positions)
        return self._move(batch.inputs), self._move(batch.targets), positions

    def _move(self, part: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(part)
        if self._stream is None:
            return tensor.to(self._device, torch.int64)
        # The pinned copy is dropped at once: PyTorch uses its memory again only after the copy that
        # was queued here.
        return tensor.pin_memory().to(self._device, non_blocking=True).long()


@torch.no_grad()
def check_document_mask(model: LanguageModel, sequence_length: int) -> None:
    """Put two rows through the model that differ in their first document only; every rank calls it.

    Draws no random number and leaves the model as it was. Raises ConfigError where the second
    document's logits differ: not every architecture masks by positions.
    """
    length = min(8, sequence_length)  # there may be no more positions than that
    device = next(model.buffers(), next(model.parameters())).device
    inputs = torch.arange(2 * length, device=device).repeat(2, 1)
    inputs[1, :length] += 1
    inputs %= model.config.vocab_size
    positions = torch.arange(length, device=device).repeat(2, 2)
    was_training = model.training
    model.eval()
    logits = model(inputs, positions=positions).float()[:, length:]
    model.train(was_training)
    if not is_alike(logits[0], logits[1]):
        raise ConfigError(
            [f"data.document_mask = true: {model.config.model_type} {MIXED_DOCUMENTS}"]
        )
