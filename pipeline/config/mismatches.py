"""Checks of a run file that involve several settings: whether they fit together.

Each problem is one line: setting = value: rule; remedy. Pure functions of the config.
"""

import itertools
from collections.abc import Callable, Sequence

from pipeline.config.curation.annotated_columns import annotation_problems
from pipeline.config.curation.select_section import unknown_reasons
from pipeline.config.kinds import MIXTURE_RULES, SOURCE_KINDS, TOKENIZER_KINDS
from pipeline.config.run_config import RunConfig
from pipeline.config.schedules import schedule_problems
from pipeline.config.sections import Proportions
from pipeline.config.suites import load_suite
from pipeline.errors import first_of, nearest_divisors, nearest_multiples

CLOZE = "heldout_cloze"
"""The built-in task whose score a run file may require."""
MOST_NAMES = 30
"""Maximum number of source names in one message."""


def settings_that_do_not_fit(config: RunConfig) -> list[str]:
    """Return a message for each combination of settings that cannot work."""
    problems: list[str] = []
    for name, source in config.sources.items():
        problems += SOURCE_KINDS[source.kind].wrong_settings(config, name)
    # A rule about a section that the run file does not have cannot be broken.
    for sections, problems_of in RULES:
        if config.has(*sections):
            problems += problems_of(config)
    return problems


def _tokenizer_problems(config: RunConfig) -> list[str]:
    """Check that the section fits its kind of tokenizer."""
    kind = TOKENIZER_KINDS[config.tokenizer.kind]
    return kind.wrong_settings(config.tokenizer)


def _reason_problems(config: RunConfig) -> list[str]:
    """Check that `select.max_removed` names reasons that there are."""
    if config.select is None:
        return []
    return unknown_reasons(config.select)


def _schedule_problems(config: RunConfig) -> list[str]:
    """Check that the schedule fits the length of the run."""
    return schedule_problems(config.schedule, config.train.train_tokens)


def _batch_problems(config: RunConfig) -> list[str]:
    """Check that each global batch is a whole number of micro-batches."""
    messages = [_batch_problem(config, *setting) for setting in config.batch_sizes]
    return [message for message in messages if message is not None]


def _batch_problem(config: RunConfig, setting: str, tokens: int) -> str | None:
    micro = config.batch.micro_batch_sequences
    length = config.data.sequence_length
    sequences = tokens // length
    is_in_ramp = setting != "batch.global_batch_tokens"
    # A batch of no whole number of sequences is reported first: the other rules count sequences.
    if tokens % length:
        unit = length
        if is_in_ramp:
            unit = micro * length
        return (
            f"{setting} = {tokens}: must be a multiple of data.sequence_length = {length}; "
            f"set {nearest_multiples(tokens, unit)}"
        )
    if sequences % micro == 0:
        return None
    # An entry of a ramp has to change itself; for the full batch the micro-batch may, too.
    if is_in_ramp:
        return (
            f"{setting} = {tokens}: its {sequences} sequences must be a multiple of "
            f"batch.micro_batch_sequences = {micro}; set "
            f"{nearest_multiples(tokens, micro * length)}"
        )
    return (
        f"batch.micro_batch_sequences = {micro}: must divide the {sequences} sequences of a global "
        f"batch ({setting} / data.sequence_length); set {nearest_divisors(micro, sequences)}, "
        f"or {setting} to {nearest_multiples(tokens, micro * length)}"
    )


def _length_ramp_problems(config: RunConfig) -> list[str]:
    """Check that the lengths of the ramp divide a sample."""
    full = config.data.sequence_length
    return [
        f"data.length_ramp.{number}.sequence_length = {entry.sequence_length}: must divide "
        f"data.sequence_length = {full}; set "
        f"{nearest_divisors(entry.sequence_length, full, least=2)}"
        for number, entry in enumerate(config.data.length_ramp)
        if full % entry.sequence_length
    ]


def _small_sample_problems(config: RunConfig) -> list[str]:
    """Check that a small sample is taken from windows that may come in any order."""
    if config.data.small_sample is None:
        return []
    needed = {"data.packing": "concatenate", "data.shuffle": "full"}
    values = {"data.packing": config.data.packing, "data.shuffle": config.data.shuffle}
    return [
        f"{setting} = {values[setting]}: data.small_sample needs {value}; set that, or remove "
        "data.small_sample"
        for setting, value in needed.items()
        if values[setting] != value
    ]


def _order_problems(config: RunConfig) -> list[str]:
    """Check that the entries of both ramps are in order."""
    ends = {
        "batch.ramp": [entry.until_tokens for entry in config.batch.ramp],
        "data.length_ramp": [entry.until_tokens for entry in config.data.length_ramp],
    }
    return [
        f"{setting}: until_tokens must rise from entry to entry, not {until}"
        for setting, until in ends.items()
        if not _rises(until)
    ]


def _rises(numbers: Sequence[float]) -> bool:
    return all(earlier < later for earlier, later in itertools.pairwise(numbers))


def _model_source_problems(config: RunConfig) -> list[str]:
    """Check that the model is either a new one or a pretrained one."""
    if (config.model.architecture is None) != (config.model.pretrained is None):
        return []
    return [
        "model: takes either `architecture`, with its sizes in `config`, or `pretrained`; keep one"
    ]


def _mup_problems(config: RunConfig) -> list[str]:
    """Check that the settings of muP are set if, and only if, muP is on."""
    if config.model.mup and config.model.mup_base_width is None:
        return [
            "model.mup_base_width: is required with model.mup = true; set the hidden size of the "
            "model on which optimizer.peak_learning_rate was tuned"
        ]
    if config.model.mup:
        return []
    values = {
        "mup_base_width": config.model.mup_base_width,
        "mup_base_head_dim": config.model.mup_base_head_dim,
    }
    return [
        f"model.{setting} = {value}: is used with model.mup = true only; set that, or leave this "
        "out"
        for setting, value in values.items()
        if value is not None
    ]


def _requirement_problems(config: RunConfig) -> list[str]:
    """Check that a required score is measured."""
    settings = config.evaluation
    shots: set[int] = set()
    if CLOZE in settings.tasks:
        shots.update(settings.own_shots)
    if settings.suite is not None and config.sources_with_text:
        in_suite = [task for task in load_suite(settings.suite).tasks if task.name == CLOZE]
        for task in in_suite:
            asked = settings.shots
            if asked == "published":
                asked = task.shots
            shots.update(asked)
    if settings.require_cloze_standard_errors is None or 0 in shots:
        return []
    return [
        f"evaluation.require_cloze_standard_errors: needs {CLOZE} in evaluation.tasks or in the "
        "suite, and 0 in evaluation.shots"
    ]


def _proportion_problems(config: RunConfig) -> list[str]:
    """Check the proportions of the sources, in `data` itself and in each of its stages."""
    data = config.data
    problems = _weights_problems(config, "data", data)
    for number, stage in enumerate(data.stages):
        setting = f"data.stages.{number}"
        problems += _weights_problems(config, setting, stage)
        if not stage.stated:
            rules = " or ".join(f"`{rule}`" for rule in MIXTURE_RULES.paths)
            problems.append(f"{setting}: needs {rules}")
    progress = [stage.from_progress for stage in data.stages]
    if not _rises(progress):
        problems.append(f"data.stages: from_progress must rise from stage to stage, not {progress}")
    if progress and progress[0] == 0 and data.stated:
        replaced = " and ".join(f"data.{rule}" for rule in MIXTURE_RULES.paths)
        problems.append(f"data.stages.0.from_progress = 0: replaces {replaced}; remove {replaced}")
    return problems


def _weights_problems(config: RunConfig, setting: str, proportions: Proportions) -> list[str]:
    """Check that weights name each source exactly once, and are not all 0."""
    problems: list[str] = []
    if len(proportions.stated) > 1:
        rules = " and ".join(f"`{rule}`" for rule in proportions.stated)
        problems.append(f"{setting}: {rules} exclude each other; keep one")
    sources = first_of(list(config.sources), MOST_NAMES)
    for field, weights in proportions.stated.items():
        for name in sorted(weights.keys() - config.sources.keys()):
            problems.append(f"{setting}.{field}.{name}: no such source; sources are {sources}")
        for name in config.sources:
            if name not in weights:
                problems.append(
                    f"{setting}.{field}: has no weight for the source {name}; give it one, 0 to "
                    "leave it out"
                )
        if sum(weights.values()) <= 0:
            problems.append(f"{setting}.{field}: at least one weight must be above 0")
    return problems


RULES: tuple[tuple[tuple[str, ...], Callable[[RunConfig], list[str]]], ...] = (
    (("tokenizer",), _tokenizer_problems),
    (("batch", "data"), _batch_problems),
    (("data",), _length_ramp_problems),
    (("data",), _small_sample_problems),
    (("batch", "data"), _order_problems),
    (("model",), _model_source_problems),
    (("schedule", "train"), _schedule_problems),
    (("data",), _proportion_problems),
    (("model",), _mup_problems),
    ((), _requirement_problems),
    ((), annotation_problems),
    ((), _reason_problems),
)
"""The sections that a rule is about, and the function that reports where it is broken."""
