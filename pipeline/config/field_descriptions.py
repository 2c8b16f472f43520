"""Every setting of a run file in words: type, bounds, default and meaning.

The words are made from the definitions of the sections, so that a description cannot differ from
what is checked.
"""

import ast
import difflib
import inspect
import itertools
import textwrap
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from pipeline.config.kinds import KindName
from pipeline.config.run_config import RunConfig
from pipeline.config.values import InWords, Section, count_of_bytes
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import TypeForm

UNITS = ("steps", "seconds", "sequences")
"""Last words of field names that are the unit of the number."""
Annotation: TypeAlias = "TypeForm[Any] | None"
"""The annotation of a field: a type, a union, or `Literal[...]`."""
Rule: TypeAlias = "FieldInfo | InWords | KindName | annotated_types.BaseMetadata"
"""An item that stands beside the type in an annotation."""
NUMBER_TYPES: tuple[Annotation, ...] = (int, float)
"""Types whose unit may be the last word of the field's name."""
SIMPLE_TYPES: dict[Annotation, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    Any: "any value",
}
"""Words for the types of single values."""

DefaultValue: TypeAlias = (
    "bool | int | float | str | tuple[DefaultValue, ...] | dict[str, DefaultValue] | None"
)
"""Default of a field that is no section."""


@dataclass(frozen=True)
class FieldDescription:
    """One setting of the run file."""

    name: str
    """Name as in an override on the command line; `NAME` and `N` stand for parts of any text."""
    type_in_words: str
    """Type, choices, unit and bounds."""
    default: str
    """`required`, `optional`, or the default value as a run file writes it."""
    meaning: str
    """Docstring of the field, with the sources of its figures."""
    is_section: bool
    """Whether the setting holds further settings, which have descriptions of their own."""


def describe_settings(name: str = "") -> list[FieldDescription]:
    """Return the setting `name` and all settings below it; without a name, all settings.

    A free part, which is the name of a source or the number of an entry, may be left out. Raises
    ConfigError for an unknown name, with the nearest names or all names of that section.
    """
    # Each part of the name is a field of the section reached so far, or a free part.
    model: type[Section] = RunConfig
    field: FieldInfo | None = None
    meaning = ""
    full_name = ""
    below = ""
    may_be_free = False
    for part in filter(None, name.split(".")):
        if part in model.model_fields:
            field = model.model_fields[part]
            meaning = docstrings_of_fields(model).get(part, "")
            full_name = f"{below}{part}"
            below = f"{full_name}{_free_part(field.annotation)}."
            model = section_in(field.annotation) or Section
            may_be_free = _free_part(field.annotation) != ""
        elif may_be_free:
            may_be_free = False
        else:
            raise ConfigError([_unknown(name, part, list(model.model_fields))], "--describe")
    # Without a name, the whole run file is described.
    if field is None:
        return list(_below(RunConfig, ""))
    return [_describe(full_name, field, meaning), *_below(model, below)]


@cache
def docstrings_of_fields(model: type[Section]) -> dict[str, str]:
    """Return field -> docstring, of a section's own fields and of inherited ones.

    Read from the source when asked for: pydantic would read it whenever a program imports the
    sections, which takes a third of loading a run file.
    """
    docstrings: dict[str, str] = {}
    for base in model.__bases__:
        if issubclass(base, Section):
            docstrings |= docstrings_of_fields(base)
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)
    for field, below in itertools.pairwise(definition.body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            docstrings[field.target.id] = inspect.cleandoc(str(below.value.value))
    return docstrings


def section_in(annotation: Annotation) -> type[Section] | None:
    """Return the section in an annotation: alone, in a list or mapping, or in a union."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(section_in, get_args(annotation))), None)


def _below(model: type[Section], prefix: str) -> Iterator[FieldDescription]:
    docstrings = docstrings_of_fields(model)
    for name, field in model.model_fields.items():
        yield _describe(f"{prefix}{name}", field, docstrings.get(name, ""))
        inner = section_in(field.annotation)
        if inner is not None:
            yield from _below(inner, f"{prefix}{name}{_free_part(field.annotation)}.")


def _free_part(annotation: Annotation) -> str:
    """Return the part of a name between a field and the fields of the sections in it."""
    if section_in(annotation) is None:
        return ""
    if get_origin(annotation) is dict:
        return ".NAME"
    if get_origin(annotation) is tuple:
        return ".N"
    return ""


def _unknown(name: str, part: str, fields: Sequence[str]) -> str:
    close = difflib.get_close_matches(part, fields, n=3)
    if close:
        return f"{name}: no such setting; did you mean {' or '.join(close)}?"
    if fields:
        return f"{name}: no such setting; known settings are {', '.join(fields)}"
    return f"{name}: no such setting; the setting above {part} holds no settings"


def _describe(name: str, field: FieldInfo, meaning: str) -> FieldDescription:
    return FieldDescription(
        name=name,
        type_in_words=_type_in_words(field.annotation, field.metadata, name.rpartition("_")[2]),
        default=_default_in_words(field),
        meaning=meaning,
        is_section=section_in(field.annotation) is not None,
    )


def _type_in_words(
    annotation: Annotation, metadata: Sequence[Rule] = (), last_word: str = ""
) -> str:
    """Describe a type with its unit and bounds: `whole number of steps, at least 1`.

    `last_word` is the last word of the field's name, which may be the unit.
    """
    rules = list(itertools.chain.from_iterable(map(_rules, metadata)))
    words = next((rule.words for rule in rules if isinstance(rule, InWords | KindName)), None)
    if words is None:
        words = _without_bounds(annotation, last_word)
    bounds = [_bound_in_words(rule, _are_bytes(rules)) for rule in rules]
    return ", ".join([words, *filter(None, bounds)])


def _rules(metadata: Rule) -> Sequence[Rule]:
    """Return the rules in one item of an annotation: those of a `Field(...)`, or the item itself."""
    if isinstance(metadata, FieldInfo):
        return metadata.metadata
    return [metadata]


def _without_bounds(annotation: Annotation, last_word: str) -> str:
    # None is left out of unions: the default shows it.
    origin = get_origin(annotation)
    arguments = [each for each in get_args(annotation) if each not in (Ellipsis, types.NoneType)]
    if origin is Annotated:
        return _type_in_words(arguments[0], arguments[1:], last_word)
    if origin in (Union, types.UnionType):
        return ", or ".join(_type_in_words(each, (), last_word) for each in arguments)
    if origin is Literal and len(arguments) == 1:
        return str(arguments[0])
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    # Sections are described one by one, below the field that holds them.
    if origin is dict and section_in(annotation) is not None:
        return "sections by name"
    if origin is tuple and section_in(annotation) is not None:
        return "list of sections"
    if section_in(annotation) is not None:
        return "section"
    # Mappings and lists of plain values, and the plain values themselves.
    if origin is dict:
        return f"mapping of names to: {_type_in_words(arguments[1])}"
    if origin is tuple:
        entries = "; ".join(_type_in_words(each, (), last_word) for each in arguments)
        if Ellipsis in get_args(annotation):
            return f"list of: {entries}"
        return f"[{entries}]"
    if last_word in UNITS and annotation in NUMBER_TYPES:
        return f"{SIMPLE_TYPES[annotation]} of {last_word}"
    return SIMPLE_TYPES[annotation]


def _bound_in_words(bound: Rule, is_bytes: bool) -> str:
    kinds: dict[type, tuple[str, str]] = {
        annotated_types.Ge: ("at least", "ge"),
        annotated_types.Gt: ("above", "gt"),
        annotated_types.Le: ("at most", "le"),
        annotated_types.Lt: ("below", "lt"),
    }
    if isinstance(bound, annotated_types.MinLen):
        return "not empty"
    if type(bound) not in kinds:
        return ""
    words, attribute = kinds[type(bound)]
    return f"{words} {_written(getattr(bound, attribute), is_bytes)}"


def _default_in_words(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.validate_default is False:
        return "required by the stages that read it"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, Section):
        return "optional"
    return f"default {_written(default, _are_bytes(field.metadata))}"


def _are_bytes(rules: Sequence[Rule]) -> bool:
    return any(isinstance(rule, InWords) and rule.are_bytes for rule in rules)


def _written(value: DefaultValue, is_bytes: bool = False) -> str:
    """Return a value as a run file would write it."""
    if is_bytes and isinstance(value, int):
        return count_of_bytes(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:_}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, str) and value != value.strip():
        return f'"{value}"'
    return str(value)
