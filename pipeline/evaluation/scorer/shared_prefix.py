"""Keys and values of prefixes, computed once and seen by the rows of one or more passes."""

from collections.abc import Sequence

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer


class SharedPrefixLayer(DynamicLayer):
    """A layer's keys and values of prefixes, each `(1 or rows, heads, prefix, head width)`.

    Shows them to a pass in front of its own and keeps nothing of the pass.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys = keys
        self.values = values

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *args: object,
        **kwargs: object,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the prefix's keys and values, then the pass's, for each of its rows."""
        assert self.keys is not None
        assert self.values is not None
        rows = len(key_states)
        keys = torch.cat([self.keys.expand(rows, -1, -1, -1), key_states], dim=-2)
        values = torch.cat([self.values.expand(rows, -1, -1, -1), value_states], dim=-2)
        return keys, values


def shared_prefix(layers: Sequence[DynamicLayer]) -> Cache:
    """Return a cache that shows what these layers hold to the rows of a pass."""
    shared: list[SharedPrefixLayer] = []
    for layer in layers:
        assert layer.keys is not None
        assert layer.values is not None
        shared.append(SharedPrefixLayer(layer.keys, layer.values))
    return Cache(layers=list(shared))


def read_prefixes(body: torch.nn.Module, tokens: torch.Tensor) -> Cache:
    """Return the cache of prefixes `(1 or rows, width)`; `body`: the model without its head.

    A prefix that is filled up at its end has keys and values of the filling, too.
    """
    cache = DynamicCache()
    body(input_ids=tokens, past_key_values=cache, use_cache=True)
    return shared_prefix([layer for layer in cache.layers if isinstance(layer, DynamicLayer)])
