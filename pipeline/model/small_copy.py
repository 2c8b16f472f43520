"""A transformers config scaled down, so that a copy of a model that takes milliseconds can be tried
before the model is built.

Which numbers are widths and which are counts is told by their names, as transformers' configs have
no other rule. What no name tells makes a copy that cannot be built: then the model itself is asked,
on the ranks.
"""

import copy
import re
from typing import Any

from transformers import PretrainedConfig

LAYERS = 4
"""Enough for the patterns of layers that configs have: every second, third or fourth one attends to
all positions."""
HEADS = 4
HEAD_WIDTH = 16
VOCABULARY = 64
WINDOW = 8
"""Tokens that attention with a window sees: fewer than the texts have that a copy is tried on."""
POSITIONS = 64
"""The fewest positions: a copy is tried on texts of a length of its own."""
EXPERTS = 4
EXPERTS_A_TOKEN = 2

_IDS = re.compile(r"(.*_)?vocab_size|n_vocab")
_LAYER_COUNT = re.compile(r"n_layers?|num_layers|(.*_)?(hidden|encoder|decoder)_layers")
_HEAD_COUNT = re.compile(r"(.*_)?n_heads?|num_heads|n_head_kv|(.*_)?(attention|key_value|kv)_heads")
_EXPERT_COUNT = re.compile(r"(.*_)?(local|routed|num|n)_experts|moe_num_experts")
_EXPERTS_A_TOKEN = re.compile(r"num_experts_per_tok(en)?|moe_(top)?_?k")
_GROUPS = re.compile(r"(.*_)?n_?groups?|topk_group|num_expert_group")
_POSITIONS = re.compile(r"max_position_embeddings|n_positions|max_seq_len|n_ctx")
_WINDOW = re.compile(r"(.*_)?(sliding_window|window_size)|attention_chunk_size|local_attention")
_HEAD_WIDTH = re.compile(r".*(head_dim|d_kv|headdim|attention_head_size|d_head|dim_head)")
_WIDTH = re.compile(
    r".*(hidden_size|intermediate|n_inner|_size|_dim|d_model|d_ff|n_embd|width|_rank|ffn).*"
)
_OTHER_SIZE = re.compile(
    r".*(kernel|conv|patch|chunk|image|block|position|token|factor|interval|spectrogram|type_|state|ssm|window).*"
)


def small_copy(config: PretrainedConfig) -> PretrainedConfig:
    """Return a config of the same kind and settings with few layers, heads and ids, all widths in
    proportion."""
    settings = copy.deepcopy(config.to_dict())
    _scale_down(settings, config)
    settings.pop("model_type", None)
    return type(config)(**settings)


def _scale_down(settings: dict[str, Any], config: PretrainedConfig) -> None:
    """Divide the numbers of a config's dictionary, those of its parts (text, images) by their own
    widths."""
    heads = (
        _number(settings, config, "num_attention_heads")
        or _number(settings, config, "num_heads")
        or 1
    )
    width = _number(settings, config, "hidden_size") or HEADS * HEAD_WIDTH
    of_head = max(1, (_number(settings, config, "head_dim") or width // heads) // HEAD_WIDTH)
    of_heads = heads // max(count for count in range(1, HEADS + 1) if heads % count == 0)
    layers = _number(settings, config, "num_hidden_layers")
    for name, value in settings.items():
        part = (
            getattr(config, name)
            if isinstance(value, dict) and name in config.sub_configs
            else None
        )
        if isinstance(value, dict) and isinstance(part, PretrainedConfig):
            _scale_down(value, part)
        elif isinstance(value, list) and layers and len(value) == layers:
            settings[name] = value[:LAYERS]
        elif type(value) is int:
            settings[name] = _scaled(name, value, of_head, of_heads)


def _scaled(name: str, value: int, of_head: int, of_heads: int) -> int:
    """Return one number of a config, divided by what its name says that it is."""
    limits = (
        (_IDS, VOCABULARY), (_LAYER_COUNT, LAYERS), (_EXPERTS_A_TOKEN, EXPERTS_A_TOKEN),
        (_EXPERT_COUNT, EXPERTS), (_GROUPS, 1), (_WINDOW, WINDOW),
    )  # fmt: skip
    for pattern, most in limits:
        if pattern.fullmatch(name):
            return min(value, most)
    if _POSITIONS.fullmatch(name):
        return max(value, POSITIONS)
    if name.endswith("token_id"):
        return value if value < VOCABULARY else 1
    if _HEAD_COUNT.fullmatch(name):
        return max(1, value // of_heads)
    if _HEAD_WIDTH.fullmatch(name):
        return max(1, value // of_head)
    if _WIDTH.fullmatch(name) and not _OTHER_SIZE.fullmatch(name) and value > HEAD_WIDTH:
        return max(1, value // (of_head * of_heads) // HEAD_WIDTH) * HEAD_WIDTH
    return value


def _number(settings: dict[str, Any], config: PretrainedConfig, name: str) -> int | None:
    """Return a number of a config by its usual name, None where it has none, or one for each
    layer."""
    value = settings.get(config.attribute_map.get(name, name))
    return value if type(value) is int else None
