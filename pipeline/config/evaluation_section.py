"""The section of a run file that decides which models are scored, and on which tasks.

The docstring of a field is what `pipeline config --describe` prints.
"""

import json
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from pipeline.config.shipped_files import SuiteName
from pipeline.config.values import (
    ByteCount,
    GivenLocation,
    InWords,
    Location,
    Section,
    located_by,
    resolve_location,
)
from pipeline.config.yaml_files import YamlValue

MODEL_WORDS = ("last", "all")
"""Entries of `evaluation.models` that are no locations."""

MergeWeights = Literal["uniform", "linear", "minus-sqrt"]
OWN_SHOTS = (0, 1, 5)
"""Numbers of solved examples where neither the run file nor a suite names any."""


def _resolve_model(location: str | Path, base: Path) -> Path:
    """Return `last` and `all` as they are, anything else as an absolute path."""
    if str(location) in MODEL_WORDS:
        return Path(location)
    return resolve_location(location, base)


ModelLocation = Annotated[Path, located_by(_resolve_model)]
"""`last`, `all`, `RUN@STEP` or a transformers folder; locations are absolute after loading."""


def _locate_questions(name: GivenLocation, info: ValidationInfo) -> GivenLocation:
    """Return the name of a task as it is, a JSONL file as an absolute path."""
    if not isinstance(name, str) or not name.endswith(QUESTIONS_SUFFIX):
        return name
    context: dict[str, Path] = info.context or {}
    try:
        return str(resolve_location(name, context.get("base", Path.cwd())))
    except ValueError as error:
        raise PydanticCustomError("location", "{why}", {"why": str(error)}) from None


QUESTIONS_SUFFIX = ".jsonl"
TaskName = Annotated[str, BeforeValidator(_locate_questions), InWords("name or path")]
"""The name of a task, or a JSONL file of questions; absolute after loading."""


class EverySteps(Section):
    every: int = Field(ge=1)
    """Score the checkpoints at multiples of this number of steps."""


class Merge(Section):
    run: Location | None = None
    """Folder of the run whose checkpoints are averaged; by default this run."""
    last: int | None = Field(default=None, ge=1)
    """Number of newest checkpoints to average."""
    steps: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Steps of the checkpoints to average, instead of `last`."""
    weights: MergeWeights = "uniform"
    """`uniform`: the mean. `linear`, `minus-sqrt`: the checkpoint that a decay of the learning rate
    from the first of these checkpoints to the last would have led to, in first order: linear, or as
    one minus the square root."""


class MergedModel(Section):
    merge: Merge
    """Average these checkpoints' weights, and score the result."""


ModelChoice: TypeAlias = int | Path | EverySteps | MergedModel
"""An entry of `evaluation.models`."""
GivenModel: TypeAlias = "YamlValue | ModelChoice"
"""What a run file or a default gives where such an entry is expected."""
FORMS_OF_MODELS = (
    "an entry is `last`, `all`, a step, {every: N}, RUN@STEP, a transformers folder, or "
    "{merge: {last: N}}; for example evaluation.models=[last, {every: 1000}]"
)
"""What may stand in `evaluation.models`, with an example."""
FORMS_BY_KEY: dict[str, type[Section]] = {"every": EverySteps, "merge": MergedModel}
"""Key of an entry that is a mapping -> the form that it names."""
RULES = {"extra_forbidden": "unknown key", "model_type": "must be a mapping, as {last: 3}"}
"""Kind of a problem -> what is said of it, where the library speaks of its types."""


def _model_in_one_line(entry: GivenModel, handler: ValidatorFunctionWrapHandler) -> ModelChoice:
    """Return a valid entry of `evaluation.models`; of a wrong one, say what is wrong in one line."""
    try:
        return handler(entry)
    except ValidationError as error:
        reasons = [*_reasons_of_form(entry, error), FORMS_OF_MODELS]
    # A problem of a mapping is printed without its value.
    if isinstance(entry, dict):
        reasons[0] = f"{json.dumps(entry, default=str)}: {reasons[0]}"
    raise PydanticCustomError("model", "{why}", {"why": "; ".join(reasons)})


def _reasons_of_form(entry: GivenModel, error: ValidationError) -> list[str]:
    """Return what is wrong with the form that an entry seems to have; nothing where it has none."""
    details = error.errors()
    if not isinstance(entry, dict):
        return [problem["msg"] for problem in details if problem["type"] == "location"]
    forms = [form for key, form in FORMS_BY_KEY.items() if key in entry]
    reasons: list[str] = []
    for problem in details:
        kind, *place = problem["loc"]
        if forms and kind == forms[0].__name__:
            message = RULES.get(problem["type"], problem["msg"])
            rule = f"{message[0].lower()}{message[1:]}"
            reasons.append(f"{'.'.join(map(str, place))}: {rule}")
    return reasons


def _refuse_no_model(
    models: tuple[ModelChoice, ...],
) -> tuple[ModelChoice, ...]:
    if not models:
        raise PydanticCustomError("models", "names no model; {forms}", {"forms": FORMS_OF_MODELS})
    return models


NamedModel = Annotated[
    Annotated[int, Field(ge=1)] | EverySteps | MergedModel | ModelLocation,
    WrapValidator(_model_in_one_line),
]
NamedModels = Annotated[
    tuple[NamedModel, ...],
    AfterValidator(_refuse_no_model),
    InWords("list of models, not empty"),
]


class Evaluation(Section):
    models: NamedModels = (Path("last"),)
    """Models to score. `last`: the exported model. `all`: every complete checkpoint. `{every: N}`:
    those at multiples of N steps. A number: the checkpoint of that step. `RUN@STEP`: a checkpoint
    of another run. A folder: a transformers model, anybody's, whose own code is never run.
    `{merge: {last: N}}`: the mean of checkpoints."""
    tasks: tuple[TaskName, ...] = ("heldout_cloze", "patterns", "arithmetic")
    """Built-in few-shot tasks, tasks of lm-eval, and JSONL files of questions (`questions.jsonl`; its
    three shapes are in `pipeline/evaluation/task_data/README.md`). If no source holds text, the
    default leaves out `heldout_cloze`."""
    suite: SuiteName | None = None
    """Published list of tasks to score besides `tasks`, each with the numbers of examples that its
    source publishes: a shipped suite (`pipeline tasks list` shows them)."""
    shots: Literal["published"] | tuple[Annotated[int, Field(ge=0)], ...] = "published"
    """Numbers of solved examples (k) before each question; each task is run once with each.
    `published`: those of the suite for its tasks, and 0, 1, 5 for all others."""
    shots_seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(1234,), min_length=1)
    """Seeds of the choice of examples. With several, each task is run once with each, and the
    report shows their spread. lm-eval's own seed is the default."""
    limit: int | None = Field(default=None, ge=1)
    """Maximum number of questions per task, the first ones; by default all, of built-in tasks 200. Of
    these there are up to 2,000. Scores of more questions that are there already are kept and
    shown."""
    heldout_bytes: ByteCount = Field(default=50_000, ge=0)
    """Maximum size of the held-out text per source that is scored for bits per byte."""
    task_paths: tuple[Location, ...] = ()
    """Folders with lm-eval task files."""
    tasks_dir: Location | None = None
    """Folder of the questions of public tasks, as `pipeline tasks fetch` writes it. Without it, tasks
    of lm-eval read Hugging Face's cache."""
    contamination: bool = True
    """Find the questions of tasks in `tasks_dir` that the run has read in its training documents, and
    score without them too. All documents are searched once for each task, on `executor.workers`, at
    about 20 MB/s a core."""
    scorer: Literal["sharing", "harness"] = "sharing"
    """`sharing`: read each context once for all of its answers; equal to `harness` but for rounding.
    `harness`: as lm-eval's own transformers model does, to the last digit, several times slower. An
    architecture that cannot share is scored by the harness, and the scores say so. Applies to cells
    that are not there yet: those that the other scorer has made are kept, and a line says so."""
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Processes that score. `auto`: one for each GPU that is visible; without GPUs, this process.
    Without GPUs each has one core. In an srun step with `executor.kind` slurm, the step's tasks."""
    batch_sequences: int = Field(default=16, ge=1)
    """Sequences that the harness scores in one pass. Recorded with the scores, because it can change
    them by rounding."""
    prompt: str = "The "
    """Text that the exported model continues, as a first impression of it."""
    require_gain_over_unigram: float | None = None
    """`pipeline run` fails unless the validation loss is at least this fraction below the unigram
    entropy of the same tokens."""
    require_cloze_standard_errors: float | None = None
    """`pipeline run` fails unless held-out cloze at k=0 (acc_mutual_info) is more than this many
    standard errors above chance."""

    @property
    def own_shots(self) -> tuple[int, ...]:
        """Numbers of solved examples for tasks that no suite names."""
        if self.shots == "published":
            return OWN_SHOTS
        return self.shots
