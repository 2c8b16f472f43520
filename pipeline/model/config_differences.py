"""The settings of a transformers config that decide the function of its weights. Free of torch."""

import re
from collections.abc import Mapping

from pipeline.store.manifests.recorded_settings import differences
from pipeline.store.records import Json

RUN_TIME_SETTINGS = re.compile(
    r"attn_implementation|.*(dropout|pdrop).*|use_cache|max_position_embeddings|rope_.*|.*aux_loss_coef"
)
"""Names of settings that can be changed without other weights.

They say how the model is run or trained, or how many positions it sees.
"""
BOOKKEEPING = re.compile(
    r"_.*|dtype|torch_dtype|transformers_version|architectures|(bos|eos|pad)_token_id"
)
"""Names of entries of a transformers config that have no influence on the function."""


def model_differences(before: Mapping[str, Json], after: Mapping[str, Json]) -> list[str]:
    """Name the entries in which two transformers configs differ and change the model's function."""
    return differences(_decisive(before), _decisive(after))


def _decisive(settings: Mapping[str, Json]) -> dict[str, Json]:
    """Return the entries of a config that decide the model's function."""
    return {
        name: value
        for name, value in settings.items()
        if not RUN_TIME_SETTINGS.fullmatch(name) and not BOOKKEEPING.fullmatch(name)
    }
