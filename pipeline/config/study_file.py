"""Study files: many runs from one run file, as `pipeline study` reads them. Imports no torch.

Relative paths in a study file start at its folder.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from pipeline.config.kinds import STUDY_KINDS, KindName
from pipeline.config.run_file import problems_in
from pipeline.config.run_sections import SLURM_TIME_PATTERN, SlurmTime
from pipeline.config.shipped_files import PRESETS, shipped_files
from pipeline.config.values import Location, Section, TokenCount
from pipeline.config.yaml_files import Document, apply_override, read_yaml
from pipeline.errors import ConfigError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
ScalingRule = Literal["none", "linear", "square-root"]
Variants = dict[str, dict[str, Any]]
"""Name of a variant -> sections of the run file with the settings that it changes."""
VARIANT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+]*(-[A-Za-z0-9_.+]+)*")
"""Names that can be part of the name of a folder."""
RULES_OF_AXES = {
    "batch_tokens": "batch",
    "learning_rate_scaling": "learning_rate",
    "warmup": "warmup",
}
"""Axis -> the field of `rules` that decides the same for all runs."""


class Sizes(Section):
    """The models of a study: widths of the base's architecture, or shipped presets."""

    widths: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Hidden sizes. The feed-forward width keeps the base's ratio to the hidden size, in multiples
    of 8."""
    width_per_layer: Positive = 16
    """Hidden size / number of layers; layers are rounded, to at least one."""
    layers: Annotated[int, Field(ge=1)] | None = None
    """Layers of every width. Default: by `width_per_layer`."""
    head_dim: Annotated[int, Field(ge=1)] = 16
    """Width of an attention head; it divides every hidden size. A model has hidden size / head_dim
    heads, and as many key and value heads in proportion as the base."""
    presets: tuple[str, ...] = ()
    """Instead of widths: names of shipped presets. Each gives its section `model`, and without muP
    its peak learning rate."""


class Budgets(Section):
    """How long each size is trained; exactly one of the three is given."""

    flops: tuple[Positive, ...] = ()
    """FLOPs of a training, 6 N + 12 L d T a token: one run of each size for each of them (isoFLOP)."""
    tokens_per_parameter: tuple[Positive, ...] = ()
    """Tokens of a training for each multiplying parameter of its model."""
    tokens: tuple[Annotated[TokenCount, Field(ge=1)], ...] = ()
    """Tokens of a training, the same ones for each size."""


class BatchRule(Section):
    """Batch over the length of the training: tokens x (D / at_tokens) ^ exponent."""

    tokens: TokenCount = Field(ge=1)
    """Tokens of a batch in a training of `at_tokens` tokens."""
    at_tokens: TokenCount = Field(ge=1)
    """Length of a training, in tokens, at which a batch has `tokens`."""
    exponent: Annotated[float, Field(ge=0, le=1)] = 0.383
    """Growth of the batch with the training's length D. Default: that of the batch with the lowest
    loss (Bergsma et al. 2025, arXiv:2505.13738)."""


class Rules(Section):
    """What follows from size and budget of a run."""

    mup_base_width: Annotated[int, Field(ge=1)] | None = None
    """Use muP: the base's learning rate is that of this width. Default: the base's own setting."""
    batch: BatchRule | None = None
    """Batch over the length of a training. Default: the base's batch for all runs."""
    learning_rate: ScalingRule = "none"
    """How the peak learning rate changes with the batch (`optimizer.learning_rate_scaling`)."""
    reference_batch_tokens: Annotated[TokenCount, Field(ge=1)] | None = None
    """Batch for which the base's learning rate was tuned, by which `learning_rate` scales it. Default:
    `batch.tokens`, or the base's batch."""
    warmup: Share = 0.1
    """Warm-up as a share of the training's tokens; with `branches`, of the shortest training of a
    size."""
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of a training's tokens over which `wsd` decays, at its end."""
    cooldown: Literal["branches", "each"] = "each"
    """`branches`: the longest training of a size is the trunk of a WSD schedule, and each shorter one
    branches off it where its own decay begins (Hägele et al. 2024, arXiv:2405.18392); the batch is
    that of the geometric mean of their lengths. `each`: each run is trained from its beginning."""
    validations: Annotated[int, Field(ge=1)] = 1
    """Validations of a run, evenly spaced, the last one at its end."""


class Axes(Section):
    """What the runs of a study differ in beside size, budget and seed: a run for each combination."""

    batch_tokens: tuple[Annotated[TokenCount, Field(ge=1)], ...] = ()
    """Batches, instead of `rules.batch`."""
    learning_rate_factors: tuple[Positive, ...] = ()
    """Multiples of the peak learning rate."""
    learning_rate_scaling: tuple[ScalingRule, ...] = ()
    """How the peak learning rate changes with the batch, instead of `rules.learning_rate`."""
    warmup: tuple[Share, ...] = ()
    """Warm-ups, instead of `rules.warmup`."""
    ranks: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Data-parallel ranks, whatever `executor.ranks` says."""
    variants: dict[str, Variants] = Field(default_factory=dict)
    """Any other settings: name of an axis -> name of a variant -> sections of the run file with the
    settings that it changes. A later axis overrides an earlier one."""


class StudyExecutor(Section):
    """Where the runs of a study are trained."""

    kind: Literal["local", "slurm", "none"] = "local"
    """`local`: on this machine, `jobs` runs at a time. `slurm`: one job array. `none`: print the
    commands."""
    jobs: Annotated[int, Field(ge=1)] = 1
    """Runs at a time: each has its share of this machine's cores or GPUs, or is an element of the
    array."""
    launch: Literal["local", "slurm"] = "local"
    """`local` executor only: how the ranks of a run are started. `slurm`: as the tasks of the job in
    which the command runs; set by the array's own script."""
    nodes: Annotated[int, Field(ge=1)] = 1
    """`slurm` executor only: nodes of an element of the array. With `axes.ranks` an element has those
    that its ranks fill, and runs on the same number of nodes are one array."""
    ranks: Annotated[int, Field(ge=1)] | None = None
    """Ranks of each run. Default: on GPUs the share of a run, else one."""
    site: str | None = None
    """`slurm` only: a shipped site or a YAML file, as for `pipeline submit`."""
    time_limit: SlurmTime | None = Field(default=None, pattern=SLURM_TIME_PATTERN)
    """`slurm` only: time limit of an element; a run that reaches it saves and is requeued. Default:
    the site's longest."""


class StudyFile(Section):
    """A family of runs from one run file."""

    kind: Annotated[str, KindName(STUDY_KINDS)]
    """What the runs vary, and what is made of them."""
    base: Location
    """Run file that all runs start from. Its data must be there (`pipeline tokenize`); no stage of
    a study makes or changes them."""
    folder: Location
    """Folder of the study: runs, table of points, fits, figures, page."""
    sizes: Sizes = Sizes()
    """The models. Default: the base's own."""
    budgets: Budgets
    """The lengths of the trainings."""
    rules: Rules = Rules()
    """What follows from size and budget."""
    axes: Axes = Axes()
    """What else the runs differ in."""
    question: Any = Field(default_factory=dict)
    """Settings that only this kind of study has; once read, an object of the kind's
    `question_section`. See `pipeline/planning/study/README.md`."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(1,), min_length=1)
    """Values of `train.seed`; each size and budget is trained with every one."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Sections of the run file whose settings differ from the base in all runs. Relative paths start
    at the base's folder."""
    executor: StudyExecutor = StudyExecutor()
    """Where the runs are trained."""


def read_study(path: Path, overrides: Sequence[str] = ()) -> StudyFile:
    """Read a study file, apply `section.field=value` overrides and check all settings.

    Raises ConfigError with all problems.
    """
    document: Document = read_yaml(path)
    for override in overrides:
        apply_override(document, override)
    try:
        study = StudyFile.model_validate(document, context={"base": path.absolute().parent})
    except ValidationError as error:
        raise ConfigError(problems_in(error, StudyFile), str(path)) from None
    problems = [
        *_size_problems(study.sizes),
        *_budget_problems(study),
        *_axis_problems(study),
        *_repeated(study),
    ]
    question = study.question
    try:
        question = _question(study, path)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems, str(path))
    return study.model_copy(update={"question": question})


def _size_problems(sizes: Sizes) -> list[str]:
    """Return what is wrong about the models."""
    if sizes.widths and sizes.presets:
        return ["sizes: has widths and presets; give one of them"]
    problems = [
        f"sizes.widths: {width} is no multiple of sizes.head_dim = {sizes.head_dim}; change one of "
        "them"
        for width in sizes.widths
        if width % sizes.head_dim
    ]
    known = shipped_files(PRESETS)
    problems += [
        f"sizes.presets: {name} is no shipped preset; `pipeline presets` lists them"
        for name in sizes.presets
        if name not in known
    ]
    return problems


def _budget_problems(study: StudyFile) -> list[str]:
    """Return what is wrong about the lengths of the trainings."""
    budgets = study.budgets
    given = [
        name
        for name, values in (
            ("flops", budgets.flops),
            ("tokens_per_parameter", budgets.tokens_per_parameter),
            ("tokens", budgets.tokens),
        )
        if values
    ]
    problems: list[str] = []
    if len(given) != 1:
        problems.append(
            "budgets: needs one of flops, tokens_per_parameter, tokens; "
            + (f"it has {' and '.join(given)}" if given else "it has none")
        )
    rules = study.rules
    if rules.warmup + rules.decay > 1:
        problems.append(
            f"rules.warmup = {rules.warmup:g}, rules.decay = {rules.decay:g}: together they are more "
            "than the training; lower one of them"
        )
    return problems


def _axis_problems(study: StudyFile) -> list[str]:
    """Return what is wrong about the axes: those that the kind does not read, and impossible names."""
    # Axes that the kind does not read would multiply its runs without a use.
    allowed: Sequence[str] = STUDY_KINDS[study.kind].axes
    axes = study.axes
    given = [name for name in Axes.model_fields if getattr(axes, name)]
    takes = f"takes {', '.join(allowed)}" if allowed else "has none"
    problems = [
        f"axes.{name}: a study of kind {study.kind} {takes}; remove it"
        for name in given
        if name not in allowed
    ]

    # Names become parts of the names of runs, and columns of their table.
    for axis, variants in axes.variants.items():
        if not variants:
            problems.append(f"axes.variants.{axis}: has no variants; add some")
        if axis in Axes.model_fields:
            problems.append(f"axes.variants.{axis}: is the name of another axis; rename it")
        problems += [
            f"axes.variants.{axis}.{name}: a name has letters, digits, dots, and single hyphens "
            "between them, since it becomes part of a folder's name; rename it"
            for name in variants
            if not VARIANT_NAME.fullmatch(name)
        ]

    # A rule and an axis that decide the same.
    problems += [
        f"axes.{name}: rules.{rule} decides the same for all runs; remove one of them"
        for name, rule in RULES_OF_AXES.items()
        if name in given and rule in study.rules.model_fields_set
    ]
    return problems


def _question(study: StudyFile, path: Path) -> Section:
    """Return the settings that only this kind of study has. Raises ConfigError for wrong ones."""
    section: type[Section] = STUDY_KINDS[study.kind].question_section
    if study.question and not section.model_fields:
        raise ConfigError(
            [f"question: a study of kind {study.kind} has no settings of its own; remove it"]
        )
    try:
        question = section.model_validate(study.question, context={"base": path.absolute().parent})
    except ValidationError as error:
        problems = problems_in(error, section)
        raise ConfigError([f"question.{problem}" for problem in problems]) from None
    values: dict[str, Any] = dict(question)
    lists: dict[str, Sequence[object]] = {
        f"question.{name}": value for name, value in values.items() if isinstance(value, tuple)
    }
    problems = _named_twice(lists)
    if problems:
        raise ConfigError(problems)
    return question


def _repeated(study: StudyFile) -> list[str]:
    """Return the lists that name a value twice: the second run would be the first."""
    lists = {
        "sizes.widths": study.sizes.widths,
        "sizes.presets": study.sizes.presets,
        "budgets.flops": study.budgets.flops,
        "budgets.tokens_per_parameter": study.budgets.tokens_per_parameter,
        "budgets.tokens": study.budgets.tokens,
        "axes.batch_tokens": study.axes.batch_tokens,
        "axes.learning_rate_factors": study.axes.learning_rate_factors,
        "axes.learning_rate_scaling": study.axes.learning_rate_scaling,
        "axes.warmup": study.axes.warmup,
        "axes.ranks": study.axes.ranks,
        "seeds": study.seeds,
    }
    # Six digits of a number are part of a run's name.
    return _named_twice(lists)


def _named_twice(lists: Mapping[str, Sequence[object]]) -> list[str]:
    """Return a problem for each list, by its name, that holds a value twice."""
    return [
        f"{name}: holds a value twice, to six digits; remove one"
        for name, values in lists.items()
        if len({_six_digits(value) for value in values}) < len(values)
    ]


def _six_digits(value: object) -> str:
    if isinstance(value, (int, float)):
        return f"{value:g}"
    return str(value)
