"""Scale a transformers config down, to try a small copy of a model before the model is built.

A copy takes milliseconds. Names decide which numbers are widths and which are counts, since
transformers' configs have no other rule. Where names mislead, the copy cannot be built, and the
ranks examine the model itself instead.
"""

import copy
import re

from transformers import PretrainedConfig

from pipeline.store.records import Json

LAYERS = 4
"""Layers of a copy: enough for patterns in which every 2nd, 3rd or 4th layer has full attention."""
HEADS = 4
"""Maximum number of attention heads of a copy."""
HEAD_WIDTH = 16
VOCABULARY = 64
WINDOW = 8
"""Tokens in an attention window of a copy: fewer than `objective.LENGTH`, so that it has effect."""
POSITIONS = 64
"""Minimum number of positions of a copy: enough for the texts that it is tested with."""
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
    """Return a config of the same kind with few layers, heads and ids, and widths in proportion."""
    settings = copy.deepcopy(config.to_dict())
    _scale_down(settings, config)
    settings.pop("model_type", None)
    return type(config)(**settings)


def _scale_down(settings: dict[str, Json], config: PretrainedConfig) -> None:
    """Scale the numbers of a config's dictionary down; parts (text, images) by their own widths."""
    # By how much, from the usual names of heads and widths.
    heads = (
        _number(settings, config, "num_attention_heads")
        or _number(settings, config, "num_heads")
        or 1
    )
    width = _number(settings, config, "hidden_size") or HEADS * HEAD_WIDTH
    head_width = _number(settings, config, "head_dim") or width // heads
    width_divisor = max(1, head_width // HEAD_WIDTH)
    heads_divisor = heads // max(count for count in range(1, HEADS + 1) if heads % count == 0)
    layers = _number(settings, config, "num_hidden_layers")

    # Parts, lists with an entry for each layer, and numbers.
    for name, value in settings.items():
        part = None
        if name in config.sub_configs:
            part = getattr(config, name, None)
        if isinstance(value, dict) and isinstance(part, PretrainedConfig):
            _scale_down(value, part)
        elif isinstance(value, list) and layers and len(value) == layers:
            settings[name] = value[:LAYERS]
        elif type(value) is int:
            settings[name] = _scaled(name, value, width_divisor, heads_divisor)


def _scaled(name: str, value: int, width_divisor: int, heads_divisor: int) -> int:
    """Return one number of a config, scaled down as its name suggests."""
    # Counts with a limit.
    limits = (
        (_IDS, VOCABULARY), (_LAYER_COUNT, LAYERS), (_EXPERTS_A_TOKEN, EXPERTS_A_TOKEN),
        (_EXPERT_COUNT, EXPERTS), (_GROUPS, 1), (_WINDOW, WINDOW),
    )  # fmt: skip
    for pattern, limit in limits:
        if pattern.fullmatch(name):
            return min(value, limit)

    # Positions, special ids, heads and widths.
    if _POSITIONS.fullmatch(name):
        return max(value, POSITIONS)
    if name.endswith("token_id"):
        return value if value < VOCABULARY else 1
    if _HEAD_COUNT.fullmatch(name):
        return max(1, value // heads_divisor)
    if _HEAD_WIDTH.fullmatch(name):
        return max(1, value // width_divisor)
    if _WIDTH.fullmatch(name) and not _OTHER_SIZE.fullmatch(name) and value > HEAD_WIDTH:
        return max(1, value // (width_divisor * heads_divisor) // HEAD_WIDTH) * HEAD_WIDTH
    return value


def _number(settings: dict[str, Json], config: PretrainedConfig, name: str) -> int | None:
    """Return a number of a config by its usual name; None where there is no single number."""
    value = settings.get(config.attribute_map.get(name, name))
    if type(value) is not int:
        return None
    return value
