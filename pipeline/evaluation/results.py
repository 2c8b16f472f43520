"""The types of result files: what the harness returns, with `provenance` and `chance` added."""

from typing import NotRequired, TypedDict

from pipeline.store.records import Environment


class SampleCount(TypedDict):
    """The questions of one task."""

    original: int
    """All questions of the task."""
    effective: int
    """Questions that were scored."""


class Provenance(TypedDict):
    """Versions and settings with which a result file was made."""

    fingerprint: str
    """Hash of the weights, config and tokenizer, the questions, the tasks' names and the shots."""
    weights: dict[str, str]
    """File of weights -> checksum."""
    world_size: int
    batch_sequences: int
    """`evaluation.batch_sequences`."""
    device: str
    task_seed: int
    cut_requests: dict[str, int]
    """Task -> sequences that were too long for the model and lost their beginning."""
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
        # Task -> share of questions that guessing gets right; None for tasks without choices.
        "chance": dict[str, float | None],
        "provenance": NotRequired[Provenance],
    },
)
"""The entries of a result file that are read here; the harness writes more of them."""
