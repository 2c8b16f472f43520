"""Plain YAML and JSON work below the config: reading strictly and within bounds, overriding one
value, merging layers.

What a person writes is small. A file that is larger, deeper, or grows when its aliases are expanded
is refused before it takes time or memory.
"""

import json
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from pipeline.errors import ConfigError

MOST_BYTES = 2_000_000
"""Size of a file or an override, at most."""
MOST_VALUES = 20_000
"""Keys and values of a YAML file, those that aliases repeat counted each time."""
DEEPEST = 50
"""Levels of lists and mappings within each other."""


class FromCommandLine(str):
    """A string given on the command line: a path in it is relative to the current folder."""


@dataclass(frozen=True)
class _Extent:
    """What a node of YAML holds with its aliases expanded."""

    values: int
    levels: int


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 6e-4 as a number, 12:30:00 as text; refuses a key that is no text or
    stands twice."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._values = 0
        self._level = 0
        self._extents: dict[int, _Extent] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose one node within the bounds; an alias counts as much as what it stands for."""
        event = self.peek_event()
        self._level += 1
        self._values += 1
        self._refuse_beyond_bounds(0, event.start_mark)
        if getattr(event, "tag", None) is not None:
            _refuse(
                "a tag (!...): values are written as they are, text that looks like a number in "
                "quotes",
                event.start_mark,
            )
        before = self._values
        node = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            extent = self._extents.get(id(node))
            if extent is None:
                _refuse("an alias within what it stands for", event.start_mark)
            self._values += extent.values
            self._refuse_beyond_bounds(extent.levels, event.start_mark)
        elif isinstance(node, yaml.CollectionNode):
            inner = [self._extents[id(child)].levels for child in _children(node)]
            self._extents[id(node)] = _Extent(self._values - before, 1 + max(inner, default=0))
        else:
            self._extents[id(node)] = _Extent(0, 0)
        self._level -= 1
        return node

    def _refuse_beyond_bounds(self, levels: int, mark: yaml.Mark | None) -> None:
        if self._values > MOST_VALUES:
            _refuse(
                f"more than {MOST_VALUES:,} keys and values, aliases expanded; name many files by "
                "a glob",
                mark,
            )
        if self._level + levels > DEEPEST:
            _refuse(f"more than {DEEPEST} lists and mappings within each other", mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # pyright: ignore[reportUnknownMemberType]
            if not isinstance(key, str):
                written = (
                    key_node.value if isinstance(key_node, yaml.ScalarNode) else "a list or mapping"
                )
                quoted = (
                    f': put quotes around it, "{written}"'
                    if isinstance(key_node, yaml.ScalarNode)
                    else ""
                )
                _refuse(
                    f"the key {written} is read as {_kind(key)}, and keys are text{quoted}",
                    key_node.start_mark,
                )
            if key in seen:
                _refuse(f"the key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """Return a finite number: no setting is anything else."""
        value = super().construct_yaml_float(node)
        if value - value != 0:  # infinite, or no number
            _refuse(
                f"{node.value} is no finite number; put quotes around it where text is meant",
                node.start_mark,
            )
        return value


def _children(node: yaml.CollectionNode) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return node.value


def _kind(value: Any) -> str:
    kinds = {bool: str(value).lower(), type(None): "nothing", list: "a list", dict: "a mapping"}
    return kinds.get(
        type(value), f"the {'number' if isinstance(value, (int, float)) else 'date'} {value}"
    )


def _refuse(why: str, mark: yaml.Mark | None) -> NoReturn:
    raise yaml.constructor.ConstructorError(None, None, why, mark)


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
_SCIENTIFIC = re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _SCIENTIFIC, list("-+0123456789"))
_SEXAGESIMAL = re.compile(
    r"^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$"
)  # a number in YAML 1.1, not any more in 1.2
for _first in "-+0123456789":
    _Loader.yaml_implicit_resolvers[_first].insert(0, ("tag:yaml.org,2002:str", _SEXAGESIMAL))


class _Dumper(yaml.SafeDumper):
    """Safe YAML that puts quotes around text which the loader would read as a number."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _SCIENTIFIC, list("-+0123456789"))


def to_yaml(value: Any, *, is_ascii: bool) -> str:
    """Return YAML that `read_yaml` reads back as the same."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=not is_ascii)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a YAML file's mapping; raises ConfigError for anything that is not one, or exceeds the
    bounds."""
    document = _read(path, _yaml, "YAML")
    if not isinstance(document, dict):
        raise ConfigError(
            ["must be a YAML mapping of sections (paths, sources, model, ...)"], str(path)
        )
    return document


def read_strict_json(path: Path) -> dict[str, Any]:
    """Return a JSON file's object; raises ConfigError for anything else, a key given twice, NaN, or
    beyond the bounds."""
    value = _read(path, _json, "JSON")
    if not isinstance(value, dict):
        raise ConfigError(["must be a JSON object"], str(path))
    return value


def _read(path: Path, parse: Callable[[str], Any], language: str) -> Any:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"cannot read the file: {error.strerror}"], str(path)) from None
    if len(content) > MOST_BYTES:
        raise ConfigError(
            [f"holds more than {MOST_BYTES:,} bytes, so it is no file of settings"], str(path)
        )
    try:
        return parse(content.decode("utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError([f"not valid {language}: {error}"], str(path)) from None
    except RecursionError:
        raise ConfigError(
            [f"not valid {language}: too many lists and objects within each other"], str(path)
        ) from None


def _yaml(text: str) -> Any:
    return yaml.load(text, _Loader)


def _json(text: str) -> Any:
    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is no finite number")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key, inner in pairs:
            if key in value:
                raise ValueError(f"the key {key!r} stands twice")
            value[key] = inner
        return value

    def finite(number: str) -> float:
        value = float(number)
        return value if value - value == 0 else refuse(number)

    value = json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_float=finite)
    level = [value]
    for _ in range(DEEPEST):
        inner = [each for each in level if isinstance(each, (dict, list))]
        level = [
            child for each in inner for child in (each.values() if isinstance(each, dict) else each)
        ]
    if level:
        raise ValueError(f"more than {DEEPEST} lists and objects within each other")
    return value


def apply_override(document: dict[str, Any], override: str) -> None:
    """Set one `section.field=value` in place; the value is read as YAML."""
    key, separator, text = override.partition("=")
    shown = override if len(override) <= 200 else f"{override[:200]}..."
    if not separator or not key:
        raise ConfigError(
            [f"{shown!r}: an override is written section.field=value"], "the command line"
        )
    try:
        value = _yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(
            [f"{shown!r}: the value is not valid YAML: {error}"], "the command line"
        ) from None
    *parents, leaf = key.split(".")
    if len(parents) > DEEPEST:
        raise ConfigError(
            [f"{shown!r}: names more than {DEEPEST} sections within each other"], "the command line"
        )
    node = document
    for parent in parents:
        if node.get(parent) is None:
            node[parent] = {}
        node = node[parent]
        if not isinstance(node, dict):
            raise ConfigError(
                [f"{shown!r}: {parent} is a value, not a section"], "the command line"
            )
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
