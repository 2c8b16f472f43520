"""Log-probabilities of tokens from hidden states, a block of the vocabulary at a time.

All logits of a few hundred tokens fill more memory than a processor's cache, and are written and
read several times; a block of them stays there. On one core this halves the time for 50,000 ids.
"""

from collections.abc import Iterator

import torch
from torch.nn import functional

ROWS_AT_ONCE = {"cpu": 256}
"""Kind of device -> hidden states whose logits are computed together."""
IDS_AT_ONCE = {"cpu": 2048}
"""Kind of device -> ids in a block of the vocabulary."""
MOST_ROWS = 2048
MOST_IDS = 8192
"""The same for devices that are not named: 64 MiB of logits in fp32."""


class VocabularyHead:
    """The head of a model; any module whose logits are its output, in blocks where it is linear."""

    def __init__(self, head: torch.nn.Module, device: torch.device) -> None:
        """Take the head of a model on this device."""
        self._head = head
        self._rows_at_once = ROWS_AT_ONCE.get(device.type, MOST_ROWS)
        self._ids_at_once = IDS_AT_ONCE.get(device.type, MOST_IDS)

    def predict(
        self, hidden: torch.Tensor, rows: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log-probabilities of `targets` in nats in fp32, and whether each is the likeliest.

        `hidden`: `(states, width)`; `rows`: `(targets,) int64`, ascending, the state that predicts
        each target. Of equal logits, the first is the likeliest.
        """
        log_probabilities: list[torch.Tensor] = []
        is_likeliest: list[torch.Tensor] = []
        starts = range(0, len(hidden), self._rows_at_once)
        edges = torch.tensor([*starts, len(hidden)], device=rows.device)
        borders = torch.searchsorted(rows, edges).tolist()
        for number, start in enumerate(starts):
            part = slice(borders[number], borders[number + 1])
            of_part = self._predict_at_once(
                hidden[start : start + self._rows_at_once], rows[part] - start, targets[part]
            )
            log_probabilities.append(of_part[0])
            is_likeliest.append(of_part[1])
        return torch.cat(log_probabilities), torch.cat(is_likeliest)

    def _predict_at_once(
        self, hidden: torch.Tensor, rows: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what `predict` returns, for few hidden states."""
        of_targets = torch.zeros(len(targets), device=hidden.device)
        largest = torch.full((len(hidden),), -torch.inf, device=hidden.device)
        largest_ids = torch.zeros(len(hidden), dtype=torch.int64, device=hidden.device)
        sums = torch.zeros(len(hidden), device=hidden.device)
        for first_id, logits in self._blocks(hidden):
            # Logits of the targets that are in this block.
            places = targets - first_id
            is_inside = (places >= 0) & (places < logits.shape[1])
            values = logits[rows, places.clamp(0, logits.shape[1] - 1)]
            of_targets = torch.where(is_inside, values, of_targets)

            # Sums of exponentials, in relation to the largest logit so far.
            of_block, ids = logits.max(dim=-1)
            largest_ids = torch.where(of_block > largest, ids + first_id, largest_ids)
            largest_now = torch.maximum(of_block, largest)
            sums = sums * (largest - largest_now).exp()
            sums += logits.sub_(largest_now[:, None]).exp_().sum(dim=-1)
            largest = largest_now
        return of_targets - (largest + sums.log())[rows], largest_ids[rows] == targets

    def _blocks(self, hidden: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield the first id of each block and its logits `(states, ids)` in fp32."""
        if type(self._head) is not torch.nn.Linear:
            yield 0, self._head(hidden).float()
            return
        weight = self._head.weight
        bias = self._head.bias
        for first_id in range(0, len(weight), self._ids_at_once):
            ids = slice(first_id, first_id + self._ids_at_once)
            of_block = None
            if bias is not None:
                of_block = bias[ids]
            yield first_id, functional.linear(hidden, weight[ids], of_block).float()
