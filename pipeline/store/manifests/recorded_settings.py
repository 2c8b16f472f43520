"""Settings as a manifest records them: by dotted names, without places, and how two records differ."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from pipeline.config.urls import UrlText
from pipeline.errors import first_items
from pipeline.store.files import MOST_NAMED
from pipeline.store.records import Json

_Plain: TypeAlias = Path | str | int | float | bool | None
SettingValue: TypeAlias = "Mapping[str, SettingValue] | Sequence[SettingValue] | _Plain"
"""The value of a setting or of a section: JSON that may also hold paths."""

SECTION_WITH_OUTPUT = {"output of annotate": "annotate", "output of select": "select"}
"""Inputs that are there only where the run file has a section, with the section."""

PROBLEM = "problem: "
"""Begins an input that could not be read, followed by the error for the user."""


def differences(before: Mapping[str, Json], after: Mapping[str, Json]) -> list[str]:
    """Describe each entry that differs; of mappings, such as files by name, the first of theirs."""
    changed: list[str] = []
    for name in sorted({*before, *after}):
        old = before.get(name)
        new = after.get(name)
        if old == new and name in before and name in after:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            inner = differences(old, new)
            changed += first_items([f"{name}, {each}" for each in inner], MOST_NAMED, "of them")
        elif isinstance(new, str) and new.startswith(PROBLEM):
            changed.append(f"{name}: {new.removeprefix(PROBLEM)}")
        elif name in SECTION_WITH_OUTPUT and not (name in before and name in after):
            verb = "removed from" if name in before else "added to"
            changed.append(f"the section {SECTION_WITH_OUTPUT[name]} was {verb} the run file")
        else:
            changed.append(f"{name}: {_shortened(before, name)} -> {_shortened(after, name)}")
    return changed


def _shortened(settings: Mapping[str, Json], name: str) -> str:
    if name not in settings:
        return "not set"
    text = json.dumps(settings[name])
    if len(text) > 40:
        return text[:37] + "..."
    return text


def setting_named(settings: Mapping[str, SettingValue], dotted: str) -> SettingValue:
    """Return the setting or section with a dotted name."""
    value: SettingValue = settings
    for part in dotted.split("."):
        assert isinstance(value, Mapping), f"{dotted} is no setting"
        value = value[part]
    return value


def flatten(value: SettingValue, prefix: str) -> dict[str, SettingValue]:
    """Return nested mappings as one mapping with dotted names.

    File locations are left out, so that folders can be moved. An empty sequence is left out too: it
    may be a list of locations, and adding its first one must not make output stale.
    """
    if isinstance(value, Mapping):
        flat: dict[str, SettingValue] = {}
        for key, inner in value.items():
            flat |= flatten(inner, f"{prefix}.{key}")
        return flat
    if _is_location(value):
        return {}
    return {prefix: value}


def _is_location(value: SettingValue) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(part, Path | UrlText) for part in value)
    return isinstance(value, Path)
