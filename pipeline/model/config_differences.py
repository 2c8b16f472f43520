"""Which settings of a transformers config decide the function that its weights compute. Free of
torch."""

import re
from collections.abc import Mapping

from pipeline.store.artifacts import differences
from pipeline.store.records import Json

RUN_TIME_SETTINGS = re.compile(
    r"attn_implementation|.*(dropout|pdrop).*|use_cache|max_position_embeddings|rope_.*|.*aux_loss_coef"
)
"""Settings of a model that say how it is run or trained, or how far it sees: its weights fit with
other values too."""
BOOKKEEPING = re.compile(
    r"_.*|dtype|torch_dtype|transformers_version|architectures|(bos|eos|pad)_token_id"
)
"""Entries of a transformers config that say nothing of the function."""


def model_differences(before: Mapping[str, Json], after: Mapping[str, Json]) -> list[str]:
    """Name the entries of two transformers configs between which the same weights are another
    function."""
    return differences(_decisive(before), _decisive(after))


def _decisive(settings: Mapping[str, Json]) -> dict[str, Json]:
    return {
        name: value
        for name, value in settings.items()
        if not RUN_TIME_SETTINGS.fullmatch(name) and not BOOKKEEPING.fullmatch(name)
    }
