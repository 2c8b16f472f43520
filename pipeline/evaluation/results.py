"""The types of result files: what the harness returns, with `provenance` and `chance` added."""

from typing import (
    Any,
    Literal,
    NotRequired,
    TypeAlias,
    TypedDict,
    get_args,
    get_type_hints,
    is_typeddict,
)

from pipeline.store.records import Environment

TaskKind: TypeAlias = Literal[
    "multiple_choice", "loglikelihood", "loglikelihood_rolling", "generate_until"
]
"""How a task asks: answers to choose from, one answer, whole texts, or written answers."""


class SampleCount(TypedDict):
    """The questions of one task."""

    original: int
    """All questions of the task."""
    effective: int
    """Questions that were scored."""


class MergeParts(TypedDict):
    """What a model is the weighted sum of."""

    coefficients: dict[str, float]
    """Run and step of a checkpoint -> its coefficient; empty for a model that is no merge."""


class Provenance(TypedDict):
    """What a cell was made from, and how."""

    key: str
    """Hash of everything that decides the scores: the entries from `weights` to `harness`."""
    weights: str
    """Hash of the model's weights, its config and number format."""
    tokenizer: str
    """Hash of the model's tokenizer."""
    task: str
    """Hash of the task's definition, its code and its data."""
    shots: int
    """Solved examples before each question."""
    seed: int
    """Seed of the choice of examples."""
    limit: int | None
    """Maximum number of questions; None for all."""
    harness: str
    """Version of lm-eval."""
    dtype: str
    """Number format of the weights while they were scored."""
    model: str
    """Name of the folder of the model's cells."""
    title: str
    """The model for people: a run and step, or a folder."""
    step: int | None
    """Step of the checkpoint; None for a model from elsewhere."""
    tokens: int | None
    """Tokens that the checkpoint was trained on; None for a model from elsewhere."""
    merge: NotRequired[MergeParts]
    """The checkpoints of which the model is the mean, where it is one; cells of before have none."""
    parameters: int
    vocabulary: int
    """Tokens among which the model predicts."""
    context_tokens: int
    """Tokens that the model can read at once."""
    items: int
    """Questions that were scored."""
    text_bytes: int
    """Bytes of all answers."""
    scorer: str
    """What computed the log-likelihoods."""
    batch_sequences: int
    """`evaluation.batch_sequences`."""
    device: str
    requests: int
    """Sequences that the questions needed."""
    cut_requests: int
    """Sequences that were too long for the model and lost their beginning."""
    environment: Environment


HarnessResult = TypedDict(
    "HarnessResult",
    {
        # Task or group -> `metric,filter` or `metric_stderr,filter` -> number, and further entries.
        "results": dict[str, dict[str, float | str]],
        # Group -> its tasks.
        "group_subtasks": NotRequired[dict[str, list[str]]],
        # Task -> solved examples before each question.
        "n-shot": dict[str, int],
        "n-samples": dict[str, SampleCount],
    },
)
"""The entries of lm-eval's result that are read here; it has more of them."""


class CellResult(HarnessResult):
    """lm-eval's result for one task, as a cell holds it."""

    kind: TaskKind
    chance: float | None
    """Share of questions that guessing gets right; None for a task without choices."""
    uniform: dict[str, float]
    """Metric -> score of a model that gives every token the same probability."""
    provenance: Provenance


def is_result_of(task: str, content: dict[str, Any]) -> bool:
    """Tell whether the JSON of a cell has the entries that are read, with values of their types."""
    try:
        provenance = content["provenance"]
        is_typed = all(
            isinstance(provenance[name], dict if is_typeddict(kind) else kind)
            for name, kind in get_type_hints(Provenance).items()
            if name in Provenance.__required_keys__
        )
        return (
            is_typed
            and isinstance(content["results"][task], dict)
            and isinstance(content["n-samples"][task]["effective"], int)
            and isinstance(content["n-shot"], dict)
            and content["kind"] in get_args(TaskKind)
            and isinstance(content["chance"], float | None)
            and isinstance(content["uniform"], dict)
        )
    except (LookupError, TypeError):
        return False
