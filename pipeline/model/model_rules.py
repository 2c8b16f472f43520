"""Rules for `model.architecture` and `model.config`: names that transformers has, heads that fit.

The rules check settings before a transformers config is made of them, so that a refusal names the
setting in the run file.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from pipeline.errors import nearest_divisors
from pipeline.store.records import Json

ATTENTION = "attn_implementation"
"""Entry of `model.config` for the attention implementation; not part of the exported config."""

OTHER_VALUES = (0.5, 12_345.0)
"""Values to try for an old name of a rotary setting: a share, and a base."""


def architecture_problems(name: str | None) -> list[str]:
    """Return a message if `model.architecture` is unknown or not a causal language model."""
    if name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return []
    close = difflib.get_close_matches(name or "", sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES), n=3)
    hint = "for example llama"
    if close:
        hint = f"did you mean {' or '.join(close)}?"
    reason = "transformers has no such model type"
    if name in CONFIG_MAPPING:
        reason = "is not a causal language model"
    return [f"model.architecture = {name!r}: {reason}; {hint}"]


def setting_problems(name: str, settings: Mapping[str, Json]) -> list[str]:
    """Name entries of `model.config` that the architecture lacks, or else heads that do not fit."""
    kind = CONFIG_MAPPING[name]
    names = {*kind().to_dict(), *kind.attribute_map, ATTENTION}
    problems = [
        _unknown(name, key, names)
        for key, value in settings.items()
        if key not in names and not _is_acted_on(kind, key, value)
    ]
    return problems or head_problems(kind, settings)


def _is_acted_on(kind: type[PretrainedConfig], key: str, value: Json) -> bool:
    """Tell whether an old name changes another entry of the config, as `rope_theta` does.

    A name that means nothing to an architecture changes no other entry, although its config keeps
    it. A value that is the default changes nothing either, so other values are tried too.
    """
    default = kind().to_dict()
    for tried in (value, *OTHER_VALUES):
        setting: dict[str, Any] = {key: tried}
        try:
            entries = kind(**setting).to_dict()
        except Exception:  # whatever the architecture's own checks raise: they refuse this value
            continue
        changed = [entry for entry, now in entries.items() if now != default.get(entry)]
        if any(entry != key for entry in changed):
            return True
    return False


def _unknown(architecture: str, key: str, names: set[str]) -> str:
    """Return what to report of an entry that is none of the architecture's names."""
    close = difflib.get_close_matches(key, sorted(names), n=1)
    hint = f"it has {', '.join(sorted(names))}"
    if close:
        hint = f"did you mean {close[0]}?"
    return f"model.config.{key}: {architecture} has no such setting; {hint}"


def head_problems(kind: type[PretrainedConfig], settings: Mapping[str, Json]) -> list[str]:
    """Name heads that do not divide the width, and key heads that do not divide the heads.

    Only whole numbers are compared; some architectures give one for each layer.
    """
    # The three settings, as the architecture spells them.
    width_name, width = _value(kind, settings, "hidden_size")
    heads_name, heads = _value(kind, settings, "num_attention_heads")
    groups_name, groups = _value(kind, settings, "num_key_value_heads")
    if heads is None:
        return []

    # Compare them.
    if heads < 1:
        return [f"model.config.{heads_name} = {heads}: must be at least 1"]
    problems: list[str] = []
    if width is not None and width % heads and not _has_own_head_width(kind, settings):
        problems.append(
            f"model.config.{heads_name} = {heads}: must divide model.config.{width_name} = "
            f"{width}; set {nearest_divisors(heads, width)}"
        )
    if groups is not None and (groups < 1 or heads % groups):
        problems.append(
            f"model.config.{groups_name} = {groups}: must divide model.config.{heads_name} = "
            f"{heads}; set {nearest_divisors(max(groups, 1), heads)}"
        )
    return problems


def _has_own_head_width(kind: type[PretrainedConfig], settings: Mapping[str, Json]) -> bool:
    """Tell whether the width of a head is set apart from the model's width, or by default."""
    if settings.get("head_dim", getattr(kind, "head_dim", None)) is not None:
        return True
    _, width = _value(kind, {}, "hidden_size")
    _, heads = _value(kind, {}, "num_attention_heads")
    return width is not None and heads is not None and width % heads != 0


def _value(
    kind: type[PretrainedConfig], settings: Mapping[str, Json], name: str
) -> tuple[str, int | None]:
    """Return the architecture's spelling of a setting, and the setting's value or default.

    The value is None where it is no whole number.
    """
    spelling = kind.attribute_map.get(name, name)
    value = settings.get(spelling, settings.get(name, getattr(kind, spelling, None)))
    if type(value) is not int:
        return spelling, None
    return spelling, value
