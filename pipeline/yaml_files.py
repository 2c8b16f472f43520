"""Plain YAML work below the config: reading strictly, overriding one value, merging layers."""

import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import ConfigError


class FromCommandLine(str):
    """A string given on the command line: a path in it is relative to the current folder."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 6e-4 as a number, 12:30:00 as text, and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]  # pyright: ignore[reportUnknownMemberType]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_SCIENTIFIC = re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _SCIENTIFIC, list("-+0123456789"))
_SEXAGESIMAL = re.compile(
    r"^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$"
)  # a number in YAML 1.1, not any more in 1.2
for _first in "-+0123456789":
    _Loader.yaml_implicit_resolvers[_first].insert(0, ("tag:yaml.org,2002:str", _SEXAGESIMAL))


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a YAML file's mapping; raises ConfigError for anything that is not one."""
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError([f"cannot read the file: {error.strerror}"], str(path)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([f"not valid YAML: {error}"], str(path)) from None
    if not isinstance(document, dict):
        raise ConfigError(["must be a YAML mapping of sections (paths, sources, model, ...)"], str(path))
    return document


def apply_override(document: dict[str, Any], override: str) -> None:
    """Set one `section.field=value` in place; the value is read as YAML."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError([f"{override!r}: an override is written section.field=value"], "the command line")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError([f"{override!r}: the value is not valid YAML: {error}"], "the command line") from None
    *parents, leaf = key.split(".")
    node = document
    for parent in parents:
        if node.get(parent) is None:
            node[parent] = {}
        node = node[parent]
        if not isinstance(node, dict):
            raise ConfigError([f"{override!r}: {parent} is a value, not a section"], "the command line")
    node[leaf] = _mark(value)


def _mark(value: Any) -> Any:
    if isinstance(value, str):
        return FromCommandLine(value)
    if isinstance(value, dict):
        return {key: _mark(inner) for key, inner in value.items()}
    return [_mark(inner) for inner in value] if isinstance(value, list) else value


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return the two mappings as one, recursively; the upper one wins."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged
