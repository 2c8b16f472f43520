"""The run file: how it is loaded, overridden, checked and dumped.

A run file is YAML. Values come, later ones winning, from: the field's default, the preset
(`preset:`), the tokenizer recipe (`tokenizer.recipe`), the run file, `section.field=value` on the
command line. Relative paths in a run file are relative to that file; on the command line to the
current folder.
"""

import difflib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.config.field_descriptions import section_in
from pipeline.config.kinds import SOURCE_KINDS, TOKENIZER_KINDS
from pipeline.config.run_config import RunConfig
from pipeline.config.schedules import schedule_problems
from pipeline.config.sections import Evaluation
from pipeline.config.shipped_files import MIXTURES, PRESETS, resolve_recipe, shipped_file
from pipeline.config.values import Section
from pipeline.config.yaml_files import apply_override, merge, read_yaml, to_yaml
from pipeline.errors import (
    MOST_PROBLEMS,
    ConfigError,
    first_of,
    nearest_divisors,
    nearest_multiples,
)
from pipeline.logs import harmless

MOST_NAMES = 30
"""Shown in one line."""


def load(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run file, apply `section.field=value` overrides and check everything.

    Raises ConfigError with all problems found: unreadable file, unknown keys, wrong values, values
    that do not fit together.
    """
    document = read_yaml(path)
    for override in overrides:
        apply_override(document, override)
    layers = []
    if (preset := document.get("preset")) is not None:
        layers.append(read_preset(str(preset)))
    tokenizer = document.get("tokenizer")
    if isinstance(tokenizer, dict) and isinstance(recipe := tokenizer.get("recipe"), str):
        layers.append({"tokenizer": read_yaml(_recipe_path(recipe, path.absolute().parent))})
    merged: dict[str, Any] = {}
    for layer in [*layers, document]:
        merged = merge(merged, layer)
    _name_mixtures(merged.get("data"))
    _leave_out_cloze(merged)
    context = {"base": path.absolute().parent}
    try:
        config, problems = RunConfig.model_validate(merged, context=context), []
    except ValidationError as error:
        errors = error.errors()
        problems = [_explain(each) for each in errors[:MOST_PROBLEMS]]
        problems += [
            ".".join(map(str, each["loc"])) for each in errors[MOST_PROBLEMS:]
        ]  # counted, not shown
        try:  # without the unknown keys, so that what does not fit together is reported in the same message
            config = RunConfig.model_validate(merged, context=context, extra="ignore")
        except ValidationError:
            raise ConfigError(problems, str(path)) from None
    if problems := problems + _mismatches(config):
        raise ConfigError(problems, str(path))
    return config


def _recipe_path(recipe: str, base: Path) -> Path:
    try:
        return resolve_recipe(recipe, base)
    except ValueError as error:
        raise ConfigError([f"tokenizer.recipe = {recipe!r}: {error}"]) from None


def dump(config: RunConfig) -> str:
    """Return the resolved config as YAML, readable by `load`; what a terminal would act on is
    escaped in it."""
    settings = config.model_dump(mode="json")
    text = to_yaml(settings, is_ascii=False)
    return text if harmless(text) == text else to_yaml(settings, is_ascii=True)


def read_preset(name: str) -> dict[str, Any]:
    """Return a preset's settings, merged over those of the preset that it names as its base
    (`preset:`), if any.

    Raises ConfigError for an unknown name.
    """
    settings = read_yaml(_named_file("preset", name, PRESETS))
    base = settings.pop("preset", None)
    return settings if base is None else merge(read_preset(base), settings)


def _named_file(setting: str, name: str, folder: Path) -> Path:
    """Return a shipped file; never a path of the user's own: those could name each other without
    end."""
    try:
        return shipped_file(name, folder, "preset")
    except ValueError as error:
        raise ConfigError([f"{setting} = {_shown(name)}: {error}"]) from None


def _name_mixtures(data: Any) -> None:
    """Put the weights of a preset where `data.mixture`, or that of a stage, is a name."""
    if not isinstance(data, dict):
        return
    stages = data.get("stages")
    for part in [data, *(stages if isinstance(stages, list) else [])]:
        if isinstance(part, dict) and isinstance(name := part.get("mixture"), str):
            part["mixture"] = read_yaml(_named_file("data.mixture", name, MIXTURES))


def _leave_out_cloze(document: dict[str, Any]) -> None:
    """Where no source has text, and the run file names no tasks, leave out the one that is made of
    text."""
    sources = document.get("sources")
    evaluation = document.setdefault("evaluation", {})
    if not isinstance(sources, dict) or not isinstance(evaluation, dict) or "tasks" in evaluation:
        return
    if sources and not any(map(_may_have_text, sources.values())):
        default = Evaluation.model_fields["tasks"].default
        evaluation["tasks"] = [task for task in default if task != "heldout_cloze"]


def _may_have_text(source: Any) -> bool:
    """Tell whether a source of a run file that is not checked yet has documents, or is none."""
    kind = source.get("kind") if isinstance(source, dict) else None
    if not isinstance(kind, str) or kind not in SOURCE_KINDS:
        return True
    return SOURCE_KINDS[kind].has_documents


def _mismatches(config: RunConfig) -> list[str]:
    """Check what spans several fields; each problem is one line with its remedy."""
    problems = [
        problem
        for name, source in config.sources.items()
        for problem in SOURCE_KINDS[source.kind].wrong_settings(config, name)
    ]
    problems += TOKENIZER_KINDS[config.tokenizer.kind].wrong_settings(config.tokenizer)
    problems += _batch_mismatches(config)
    if (config.model.architecture is None) == (config.model.pretrained is None):
        problems.append(
            "model: takes either `architecture`, with its sizes in `config`, or `pretrained`; keep "
            "one"
        )
    problems += schedule_problems(config.schedule, config.train.train_tokens)
    problems += _proportion_mismatches(config)
    if config.model.mup and config.model.mup_base_width is None:
        problems.append(
            "model.mup_base_width: is required with model.mup = true; set the hidden size of the "
            "model on which "
            "optimizer.peak_learning_rate was tuned"
        )
    for setting in ("mup_base_width", "mup_base_head_dim"):
        if not config.model.mup and (value := getattr(config.model, setting)) is not None:
            problems.append(
                f"model.{setting} = {value}: is for model.mup = true; set that, or leave this out"
            )
    scored = "heldout_cloze" in config.evaluation.tasks and 0 in config.evaluation.shots
    if config.evaluation.require_cloze_standard_errors is not None and not scored:
        problems.append(
            "evaluation.require_cloze_standard_errors: needs heldout_cloze in evaluation.tasks "
            "and 0 in evaluation.shots"
        )
    return problems


def _batch_mismatches(config: RunConfig) -> list[str]:
    """Check the size of every step, and the lengths into which its sequences are cut."""
    problems, micro, sequence = [], config.batch.micro_batch_sequences, config.data.sequence_length
    for setting, tokens in config.batch_sizes:
        in_ramp = setting != "batch.global_batch_tokens"
        if tokens % sequence:
            problems.append(
                f"{setting} = {tokens}: must be a multiple of data.sequence_length = {sequence}; "
                f"set {nearest_multiples(tokens, micro * sequence if in_ramp else sequence)}"
            )
        elif tokens // sequence % micro and in_ramp:
            problems.append(
                f"{setting} = {tokens}: its {tokens // sequence} sequences must be a multiple of "
                f"batch.micro_batch_sequences = {micro}; set "
                f"{nearest_multiples(tokens, micro * sequence)}"
            )
        elif tokens // sequence % micro:
            problems.append(
                f"batch.micro_batch_sequences = {micro}: must divide the {tokens // sequence} "
                "sequences of a global batch "
                f"({setting} / data.sequence_length); set "
                f"{nearest_divisors(micro, tokens // sequence)}, "
                f"or {setting} to {nearest_multiples(tokens, micro * sequence)}"
            )
    for number, step in enumerate(config.data.length_ramp):
        if sequence % step.sequence_length:
            problems.append(
                f"data.length_ramp.{number}.sequence_length = {step.sequence_length}: must divide "
                "data.sequence_length = "
                f"{sequence}; set {nearest_divisors(step.sequence_length, sequence, least=2)}"
            )
    for setting, ramp in (
        ("batch.ramp", config.batch.ramp),
        ("data.length_ramp", config.data.length_ramp),
    ):
        until = [step.until_tokens for step in ramp]
        if any(later <= earlier for earlier, later in itertools.pairwise(until)):
            problems.append(f"{setting}: until_tokens must rise from entry to entry, not {until}")
    return problems


def _proportion_mismatches(config: RunConfig) -> list[str]:
    """Check what says in which proportions the sources come: `data` itself and each of its
    stages."""
    data, problems = config.data, []
    parts = [
        ("data", data),
        *((f"data.stages.{number}", stage) for number, stage in enumerate(data.stages)),
    ]
    for where, part in parts:
        if part.mixture is not None and part.epochs is not None:
            problems.append(f"{where}: `mixture` and `epochs` exclude each other; keep one")
        for kind, weights in (("mixture", part.mixture), ("epochs", part.epochs)):
            if weights is None:
                continue
            sources = first_of(list(config.sources), MOST_NAMES)
            for name in sorted(weights.keys() - config.sources.keys()):
                problems.append(f"{where}.{kind}.{name}: no such source; sources are {sources}")
            for name in [n for n in config.sources if n not in weights]:
                problems.append(
                    f"{where}.{kind}: says nothing of the source {name}; give it a weight, 0 to "
                    "leave it out"
                )
            if sum(weights.values()) <= 0:
                problems.append(f"{where}.{kind}: at least one weight must be above 0")
        if part is not data and part.mixture is None and part.epochs is None:
            problems.append(f"{where}: needs `mixture` or `epochs`")
    progress = [stage.from_progress for stage in data.stages]
    if any(later <= earlier for earlier, later in itertools.pairwise(progress)):
        problems.append(f"data.stages: from_progress must rise from stage to stage, not {progress}")
    if progress and progress[0] == 0 and (data.mixture is not None or data.epochs is not None):
        problems.append(
            "data.stages.0.from_progress = 0: takes the place of data.mixture and data.epochs; "
            "remove those"
        )
    return problems


def _explain(error: Any) -> str:
    """Turn one pydantic error into `setting = value: rule; remedy`."""
    location = [str(part) for part in error["loc"]]
    setting = ".".join(location)
    if error["type"] == "missing":
        return f"{setting}: is required and not set"
    if error["type"] == "extra_forbidden":
        known = _fields_at(location[:-1])
        close = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
        return f"{setting}: unknown key; {hint}"
    value = error.get("input")
    shown = f" = {_shown(value)}" if not isinstance(value, dict) else ""
    quotes = (
        "; put quotes around it"
        if error["type"] == "string_type" and not isinstance(value, (dict, list))
        else ""
    )
    return f"{setting}{shown}: {error['msg'][0].lower()}{error['msg'][1:]}{quotes}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _fields_at(location: Sequence[str]) -> list[str]:
    model: type[Section] = RunConfig
    for part in location:  # a part that is no field is a free key, as in sources.<name>
        if part in model.model_fields:
            model = section_in(model.model_fields[part].annotation) or RunConfig
    return list(model.model_fields)
