"""Reading YAML and JSON strictly and within bounds; overriding one value; merging layers.

Files that people write are small. A file that is larger or deeper, or becomes so when its aliases
are expanded, is refused before it takes time or memory.
"""

# PyYAML's stubs give no types to the loader's events and to resolvers.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import datetime
import json
import math
import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeAlias

import yaml

from pipeline.errors import ConfigError

YamlValue: TypeAlias = (
    "bool | int | float | str | datetime.date | list[YamlValue] | dict[str, YamlValue] | None"
)
"""A value in a YAML or JSON file."""
Document: TypeAlias = dict[str, YamlValue]
"""A YAML or JSON file, or a mapping in it."""

MOST_BYTES = 2_000_000
"""Maximum size of a file of settings."""
MOST_VALUES = 20_000
"""Maximum number of keys and values of a YAML file; an alias counts as all that it stands for."""
DEEPEST = 50
"""Maximum number of levels of nested lists and mappings."""
MOST_OVERRIDE_CHARACTERS = 200
"""Maximum number of characters of an override that a message quotes."""


class FromCommandLine(str):
    """Text given on the command line; as a path it is relative to the current folder."""


@dataclass(frozen=True)
class _Extent:
    """Size of the content of a YAML node, with its aliases expanded."""

    values: int
    """Keys and values in the node."""
    levels: int
    """Levels of lists and mappings, the node's own one included."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 6e-4 as a number and 12:30:00 as text, and refuses unclear keys.

    Raises ConstructorError for a key that is no text or is given twice, for tags, for numbers that
    are not finite, and beyond the bounds.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._values = 0
        self._level = 0
        self._extents: dict[int, _Extent] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one node within the bounds; an alias counts as much as the node it repeats."""
        # The bounds hold before the node is read, so that nothing large is built first.
        event: yaml.Event = self.peek_event()
        self._level += 1
        self._values += 1
        self._refuse_beyond_bounds(0, event.start_mark)
        if getattr(event, "tag", None) is not None:
            _refuse(
                "tags (!...) are not allowed; write the value alone, in quotes if it is text that "
                "looks like a number",
                event.start_mark,
            )
        before = self._values
        node = super().compose_node(parent, index)

        # The extent of each node is kept, for the aliases that repeat it.
        if isinstance(event, yaml.AliasEvent):
            extent = self._extents.get(id(node))
            if extent is None:
                _refuse("an alias inside the value that it repeats", event.start_mark)
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
                f"more than {MOST_VALUES:,} keys and values with aliases expanded; to list many "
                "files, use a glob",
                mark,
            )
        if self._level + levels > DEEPEST:
            _refuse(f"more than {DEEPEST} levels of lists and mappings", mark)

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Hashable, YamlValue]:
        """Return a mapping whose keys are text, each given once."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            key: YamlValue = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                _refuse(_message_for_key(key_node, key), key_node.start_mark)
            if key in seen:
                _refuse(f"the key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """Return a finite number; no setting takes infinity or NaN."""
        value = super().construct_yaml_float(node)
        if not math.isfinite(value):
            _refuse(
                f"{node.value} is not a finite number; put quotes around it if it is text",
                node.start_mark,
            )
        return value


def _children(node: yaml.CollectionNode) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return node.value


def _message_for_key(node: yaml.Node, key: YamlValue) -> str:
    """Return the reason why a key is refused that is not text."""
    if not isinstance(node, yaml.ScalarNode):
        return f"a key is {_value_in_words(key)}, and keys must be text"
    return (
        f"the key {node.value} is read as {_value_in_words(key)}, and keys must be text: put "
        f'quotes around it, "{node.value}"'
    )


def _value_in_words(value: YamlValue) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"the date {value}"


def _refuse(why: str, mark: yaml.Mark | None) -> NoReturn:
    raise yaml.constructor.ConstructorError(None, None, why, mark)


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
_SCIENTIFIC = re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _SCIENTIFIC, list("-+0123456789"))
# A number to base 60 in YAML 1.1; text in YAML 1.2, and here.
_SEXAGESIMAL = re.compile(r"^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$")
for _first in "-+0123456789":
    _Loader.yaml_implicit_resolvers[_first].insert(0, ("tag:yaml.org,2002:str", _SEXAGESIMAL))


class _Dumper(yaml.SafeDumper):
    """Safe YAML that puts quotes around text which `_Loader` would read as a number."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _SCIENTIFIC, list("-+0123456789"))


def to_yaml(value: YamlValue, *, is_ascii: bool) -> str:
    """Return YAML that `read_yaml` reads back as the same value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=not is_ascii)


def read_yaml(path: Path) -> Document:
    """Return the mapping in a YAML file.

    Raises ConfigError for a file that cannot be read, is not valid YAML, holds no mapping or
    exceeds the bounds.
    """
    document = _read(path, _yaml, "YAML")
    if not isinstance(document, dict):
        raise ConfigError(
            ["must be a YAML mapping of sections (paths, sources, model, ...)"], str(path)
        )
    return document


def read_strict_json(path: Path) -> Document:
    """Return the object in a JSON file.

    Raises ConfigError for a file that cannot be read, is not valid JSON, holds no object, gives a
    key twice, holds NaN or an infinite number, or exceeds the bounds.
    """
    value = _read(path, _json, "JSON")
    if not isinstance(value, dict):
        raise ConfigError(["must be a JSON object"], str(path))
    return value


def _read(path: Path, parse: Callable[[str], YamlValue], language: str) -> YamlValue:
    """Return the content of a file that `parse` reads; `language` names it in messages."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"cannot read the file: {error.strerror}"], str(path)) from None
    if len(content) > MOST_BYTES:
        raise ConfigError(
            [
                f"is larger than {MOST_BYTES:,} bytes, the maximum for a file of settings; "
                "check that this is the right file"
            ],
            str(path),
        )
    try:
        return parse(content.decode("utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError([f"not valid {language}: {error}"], str(path)) from None
    except RecursionError:
        raise ConfigError(
            [f"not valid {language}: more than {DEEPEST} levels of lists and objects"], str(path)
        ) from None


def _yaml(text: str) -> YamlValue:
    return yaml.load(text, _Loader)


def _json(text: str) -> YamlValue:
    """Parse JSON. Raises ValueError for what `read_strict_json` refuses."""
    value: YamlValue = json.loads(
        text,
        object_pairs_hook=_object_of_unique_keys,
        parse_constant=_refuse_constant,
        parse_float=_finite_number,
    )
    # The values of each level are the children of the level above.
    level = [value]
    for _ in range(DEEPEST):
        level = [child for parent in level for child in _children_of_value(parent)]
    if level:
        raise ValueError(f"more than {DEEPEST} levels of lists and objects")
    return value


def _object_of_unique_keys(pairs: list[tuple[str, YamlValue]]) -> Document:
    unique: Document = {}
    for key, value in pairs:
        if key in unique:
            raise ValueError(f"the key {key!r} is given twice")
        unique[key] = value
    return unique


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _refuse_constant(text)
    return number


def _children_of_value(value: YamlValue) -> Iterable[YamlValue]:
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, list):
        return value
    return ()


def apply_override(document: Document, override: str) -> None:
    """Set one `section.field=value` in place; the value is read as YAML.

    Raises ConfigError for text of another form, a value that is not valid YAML, and a name that
    leads through a value or through too many sections.
    """
    # The text is divided into a name and a value.
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise _wrong_override(override, "an override is written section.field=value")
    try:
        value = _yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise _wrong_override(override, f"the value is not valid YAML: {error}") from None
    *parents, leaf = key.split(".")
    if len(parents) > DEEPEST:
        raise _wrong_override(override, f"names more than {DEEPEST} nested sections")

    # Sections that the file does not have are made on the way to the setting.
    section = document
    for parent in parents:
        if section.get(parent) is None:
            section[parent] = {}
        inner = section[parent]
        if not isinstance(inner, dict):
            raise _wrong_override(override, f"{parent} is a value, not a section")
        section = inner
    section[leaf] = _marked(value)


def _wrong_override(override: str, problem: str) -> ConfigError:
    repeated = override
    if len(override) > MOST_OVERRIDE_CHARACTERS:
        repeated = f"{override[:MOST_OVERRIDE_CHARACTERS]}..."
    return ConfigError([f"{repeated!r}: {problem}"], "the command line")


def _marked(value: YamlValue) -> YamlValue:
    """Return a value with all its texts marked as given on the command line."""
    if isinstance(value, str):
        return FromCommandLine(value)
    if isinstance(value, dict):
        return {key: _marked(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_marked(inner) for inner in value]
    return value


def merge(below: Document, above: Document) -> Document:
    """Return both mappings as one, recursively; where both have a value, `above` wins."""
    merged = dict(below)
    for key, value in above.items():
        lower = merged.get(key)
        if isinstance(value, dict) and isinstance(lower, dict):
            merged[key] = merge(lower, value)
        else:
            merged[key] = value
    return merged
