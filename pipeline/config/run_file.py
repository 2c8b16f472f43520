"""Loading, checking and writing run files.

A run file is YAML. Each setting takes the last of these values that is given: the default of its
field, the preset (`preset:`), the tokenizer recipe (`tokenizer.recipe`), the run file,
`section.field=value` on the command line. Relative paths in a run file start at its folder, those
on the command line at the current folder.
"""

import difflib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pipeline.config.evaluation_section import Evaluation
from pipeline.config.field_descriptions import section_in
from pipeline.config.kinds import SOURCE_KINDS
from pipeline.config.mismatches import settings_that_do_not_fit
from pipeline.config.run_config import RUN_SECTIONS, RunConfig, section_problems
from pipeline.config.shipped_files import MIXTURES, PRESETS, resolve_recipe, shipped_file
from pipeline.config.values import Section
from pipeline.config.yaml_files import (
    Document,
    YamlValue,
    apply_override,
    merge,
    read_yaml,
    to_yaml,
)
from pipeline.errors import MOST_PROBLEMS, ConfigError
from pipeline.harmless_text import harmless

MOST_VALUE_CHARACTERS = 200
"""Maximum number of characters of a wrong value that a message quotes."""

REPLACED = {"evaluation.items": "evaluation.limit"}
"""Setting of an earlier version -> the setting that has taken its place."""


def load(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    needs: Collection[str] = RUN_SECTIONS,
    reader: str = "",
) -> RunConfig:
    """Read a run file, apply `section.field=value` overrides and check all settings.

    `needs`: the RUN_SECTIONS that must be there. `reader`: who reads them, for the message.

    Raises ConfigError with all problems: unreadable file, missing sections, unknown keys, wrong
    values, settings that do not fit together.
    """
    if _is_setting(path):
        raise ConfigError(
            [
                f"{path}: is a setting, and stands in the place of the run file; name the run file "
                "before it, as in `pipeline COMMAND run.yaml section.field=value`"
            ],
            "the command",
        )
    # Preset and recipe come below the run file, whose settings win.
    base = path.absolute().parent
    document: Document = read_yaml(path)
    for override in overrides:
        apply_override(document, override)
    merged: Document = {}
    for layer in [*_lower_layers(document, base), document]:
        merged = merge(merged, layer)

    # Names of mixtures are replaced and a default is adapted before the sections are checked.
    _replace_mixture_names(merged.get("data"))
    _leave_out_cloze(merged)

    # A section may be left out, or be null on the command line.
    absent = [name for name in RUN_SECTIONS if merged.get(name) is None]
    for name in absent:
        merged.pop(name, None)
    missing = section_problems([name for name in absent if name in needs], reader)

    # One message reports missing sections and unknown keys together with settings that do not fit.
    config, problems = _validated(merged, base, str(path), missing)
    problems += settings_that_do_not_fit(config)
    if problems:
        raise ConfigError(problems, str(path))
    return config


def _is_setting(path: Path) -> bool:
    """Tell whether `section.field=value` stands where the name of a run file is expected."""
    if "=" not in path.name:
        return False
    try:
        return not path.exists()
    except OSError:
        # Too long for the name of a file.
        return True


def _lower_layers(document: Document, base: Path) -> list[Document]:
    """Return the settings of the preset and of the tokenizer recipe that a run file names."""
    layers: list[Document] = []
    preset = document.get("preset")
    if preset is not None:
        layers.append(read_preset(str(preset)))
    tokenizer = document.get("tokenizer")
    if isinstance(tokenizer, dict):
        recipe = tokenizer.get("recipe")
        if isinstance(recipe, str):
            layers.append({"tokenizer": read_yaml(_recipe_path(recipe, base))})
    return layers


def _recipe_path(recipe: str, base: Path) -> Path:
    try:
        return resolve_recipe(recipe, base)
    except ValueError as error:
        raise ConfigError([f"tokenizer.recipe = {recipe!r}: {error}"]) from None


def _validated(
    settings: Document, base: Path, where: str, missing: Sequence[str]
) -> tuple[RunConfig, list[str]]:
    """Return the config, and `missing` with a message for each unknown key.

    Raises ConfigError if a value is wrong, for then there is no config.
    """
    context = {"base": base}
    try:
        return RunConfig.model_validate(settings, context=context), list(missing)
    except ValidationError as error:
        problems = [*missing, *problems_in(error, RunConfig)]
    # Without its unknown keys the file may make a config, whose other problems can be found, too.
    try:
        config = RunConfig.model_validate(settings, context=context, extra="ignore")
    except ValidationError:
        raise ConfigError(problems, where) from None
    return config, problems


def dump(config: RunConfig) -> str:
    """Return the config as YAML that `load` reads back as the same config.

    Characters on which a terminal would act are escaped.
    """
    settings = config.model_dump(mode="json")
    text = to_yaml(settings, is_ascii=False)
    if harmless(text) == text:
        return text
    return to_yaml(settings, is_ascii=True)


def read_preset(name: str) -> dict[str, Any]:
    """Return the settings of a preset, merged over those of its base preset if it names one.

    Raises ConfigError for an unknown name.
    """
    settings = read_yaml(_preset_file("preset", name, PRESETS))
    base = settings.pop("preset", None)
    if base is None:
        return settings
    return merge(read_preset(str(base)), settings)


def _preset_file(setting: str, name: str, folder: Path) -> Path:
    """Return a shipped file.

    Files of the user are not accepted here: two of them could name each other without end.
    """
    try:
        return shipped_file(name, folder, "preset")
    except ValueError as error:
        raise ConfigError([f"{setting} = {_shortened(name)}: {error}"]) from None


def _replace_mixture_names(data: YamlValue) -> None:
    """Replace a mixture that is a name by the weights in the file of that name, in place.

    `data` is the section of that name; its stages may name mixtures, too.
    """
    if not isinstance(data, dict):
        return
    parts: list[YamlValue] = [data]
    stages = data.get("stages")
    if isinstance(stages, list):
        parts += stages
    for part in parts:
        if isinstance(part, dict):
            name = part.get("mixture")
            if isinstance(name, str):
                part["mixture"] = read_yaml(_preset_file("data.mixture", name, MIXTURES))


def _leave_out_cloze(document: Document) -> None:
    """Remove `heldout_cloze` from the default tasks if no source holds text, in place."""
    sources = document.get("sources")
    evaluation = document.setdefault("evaluation", {})
    if not isinstance(sources, dict) or not isinstance(evaluation, dict) or "tasks" in evaluation:
        return
    if sources and not any(map(_may_have_text, sources.values())):
        default = Evaluation.model_fields["tasks"].default
        evaluation["tasks"] = [task for task in default if task != "heldout_cloze"]


def _may_have_text(source: YamlValue) -> bool:
    """Tell whether a source holds text, or is wrong in a way that is reported later."""
    if not isinstance(source, dict):
        return True
    kind = source.get("kind")
    if not isinstance(kind, str) or kind not in SOURCE_KINDS:
        return True
    return SOURCE_KINDS[kind].has_documents


def problems_in(error: ValidationError, root: type[Section]) -> list[str]:
    """Return a line for each wrong setting below `root`, the type that was validated."""
    details = error.errors()
    explained = [_explain(problem, root) for problem in details[:MOST_PROBLEMS]]
    # ConfigError counts the others without printing them.
    counted = [_setting_name(problem) for problem in details[MOST_PROBLEMS:]]
    return explained + counted


def _explain(problem: ErrorDetails, root: type[Section]) -> str:
    """Return one error of pydantic as `setting = value: rule; remedy`."""
    setting = _setting_name(problem)
    if problem["type"] == "missing":
        return f"{setting}: is required and not set"
    if problem["type"] == "extra_forbidden":
        return f"{setting}: unknown key; {_hint_for_key(problem, root)}"
    value: YamlValue = problem["input"]
    rule = f"{problem['msg'][0].lower()}{problem['msg'][1:]}"
    if problem["type"] == "string_type" and not isinstance(value, (dict, list)):
        rule += "; put quotes around it"
    # A whole section is not repeated.
    if isinstance(value, dict):
        return f"{setting}: {rule}"
    return f"{setting} = {_shortened(value)}: {rule}"


def _setting_name(problem: ErrorDetails) -> str:
    return ".".join(map(str, problem["loc"]))


def _hint_for_key(problem: ErrorDetails, root: type[Section]) -> str:
    """Return the key that is nearest to an unknown one, or all keys that its section has."""
    name = _setting_name(problem)
    if name in REPLACED:
        return f"{REPLACED[name]} has taken its place"
    *section, key = map(str, problem["loc"])
    names = _fields_at(section, root)
    close = difflib.get_close_matches(key, names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"known keys are {', '.join(names)}"


def _shortened(value: YamlValue) -> str:
    text = repr(value)
    if len(text) <= MOST_VALUE_CHARACTERS:
        return text
    return f"{text[:MOST_VALUE_CHARACTERS]}..."


def _fields_at(location: Sequence[str], root: type[Section]) -> list[str]:
    """Return the fields of the section at a location below `root`."""
    model = root
    for part in location:
        # A part that is no field is a free key, as NAME in sources.NAME.
        if part in model.model_fields:
            model = section_in(model.model_fields[part].annotation) or root
    return list(model.model_fields)
