"""What `model.architecture` and `model.config` may say: names that transformers knows, heads that
fit the width.

The rules look at the settings before a config is made of them, so that a refusal names the run
file's own setting.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from pipeline.errors import nearest_divisors

ATTENTION = "attn_implementation"
"""Entry of `model.config` that says how the model is run, not what it is: no part of the config
that is exported."""

OTHER_VALUES = (0.5, 12_345.0)
"""A share and a base: what rotary settings with older names may be."""


def architecture_problems(name: str | None) -> list[str]:
    """Name what is wrong with `model.architecture`: unknown to transformers, or no causal language
    model."""
    if name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return []
    close = difflib.get_close_matches(name or "", sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES), n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "for example llama"
    reason = (
        "is no causal language model"
        if name in CONFIG_MAPPING
        else "transformers knows no such model type"
    )
    return [f"model.architecture = {name!r}: {reason}; {hint}"]


def setting_problems(name: str, settings: Mapping[str, Any]) -> list[str]:
    """Name every entry of `model.config` that the architecture does not have, and heads that do not
    fit."""
    kind = CONFIG_MAPPING[name]
    names = {*kind().to_dict(), *kind.attribute_map, ATTENTION}
    problems = [
        _unknown(name, key, names)
        for key, value in settings.items()
        if key not in names and not _is_acted_on(kind, key, value)
    ]
    return problems or head_problems(kind, settings)


def _is_acted_on(kind: type[PretrainedConfig], key: str, value: Any) -> bool:
    """Tell whether an older name changes another entry of the config, as `rope_theta` and
    `rotary_pct` do.

    Names that mean nothing to an architecture are kept by its config like any other, and change
    nothing else. A value that is the default changes nothing either: so others are tried.
    """
    plain = kind().to_dict()
    for tried in (value, *OTHER_VALUES):
        setting: dict[str, Any] = {key: tried}
        try:
            entries = kind(**setting).to_dict()
        except Exception:  # whatever the architecture's own checks raise: not for this value
            continue
        if any(
            entry != key and value_now != plain.get(entry) for entry, value_now in entries.items()
        ):
            return True
    return False


def _unknown(architecture: str, key: str, names: set[str]) -> str:
    close = difflib.get_close_matches(key, sorted(names), n=1)
    hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(sorted(names))}"
    return f"model.config.{key}: {architecture} has no such setting; {hint}"


def head_problems(kind: type[PretrainedConfig], settings: Mapping[str, Any]) -> list[str]:
    """Compare heads with the width, and key heads with heads, where both are numbers that can be
    compared."""
    width_name, width = _value(kind, settings, "hidden_size")
    heads_name, heads = _value(kind, settings, "num_attention_heads")
    groups_name, groups = _value(kind, settings, "num_key_value_heads")
    if heads is None:
        return []
    if heads < 1:
        return [f"model.config.{heads_name} = {heads}: must be at least 1"]
    problems = []
    if width is not None and width % heads and not _has_own_head_width(kind, settings):
        problems.append(
            f"model.config.{heads_name} = {heads}: must divide model.config.{width_name} = "
            f"{width}; "
            f"set {nearest_divisors(heads, width)}"
        )
    if groups is not None and (groups < 1 or heads % groups):
        problems.append(
            f"model.config.{groups_name} = {groups}: must divide model.config.{heads_name} = "
            f"{heads}; "
            f"set {nearest_divisors(max(groups, 1), heads)}"
        )
    return problems


def _has_own_head_width(kind: type[PretrainedConfig], settings: Mapping[str, Any]) -> bool:
    """Tell whether a head is as wide as a setting says, or the architecture has it, whatever the
    model's width."""
    if settings.get("head_dim", getattr(kind, "head_dim", None)) is not None:
        return True
    _, width = _value(kind, {}, "hidden_size")
    _, heads = _value(kind, {}, "num_attention_heads")
    return width is not None and heads is not None and width % heads != 0


def _value(
    kind: type[PretrainedConfig], settings: Mapping[str, Any], name: str
) -> tuple[str, int | None]:
    """Return a setting as the architecture spells it, and its value: given, else the architecture's
    own."""
    own = kind.attribute_map.get(name, name)
    value = settings.get(own, settings.get(name, getattr(kind, own, None)))
    return own, value if type(value) is int else None
