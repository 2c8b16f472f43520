"""The section of a run file that decides how a model is scored.

The docstring of a field is what `pipeline config --describe` prints.
"""

from typing import Annotated

from pydantic import Field

from pipeline.config.shipped_files import SuiteName
from pipeline.config.values import ByteCount, Location, Section


class Evaluation(Section):
    tasks: tuple[str, ...] = ("heldout_cloze", "patterns", "arithmetic")
    """Built-in few-shot tasks, or lm-eval tasks found in `task_paths`. If no source holds text, the
    default leaves out `heldout_cloze`."""
    suite: SuiteName | None = None
    """Published list of tasks to score besides `tasks`, each with the numbers of examples that its
    source publishes: a shipped suite (`pipeline tasks list` shows them)."""
    shots: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 5)
    """Numbers of solved examples (k) before each question; each task is run once with each."""
    items: int = Field(default=200, ge=1)
    """Maximum number of questions per task."""
    heldout_bytes: ByteCount = Field(default=50_000, ge=0)
    """Maximum size of the held-out text per source that is scored for bits per byte."""
    task_paths: tuple[Location, ...] = ()
    """Folders with lm-eval task files."""
    tasks_dir: Location | None = None
    """Folder of the questions of public tasks, as `pipeline tasks fetch` writes it. Without it, tasks
    come from `task_paths` and lm-eval's own collection only."""
    batch_sequences: int = Field(default=16, ge=1)
    """Sequences that the model scores in one pass. Recorded with the scores, because it can change
    them by rounding."""
    prompt: str = "The "
    """Text that the exported model continues, as a first impression of it."""
    require_gain_over_unigram: float | None = None
    """`pipeline run` fails unless the validation loss is at least this fraction below the unigram
    entropy of the same tokens."""
    require_cloze_standard_errors: float | None = None
    """`pipeline run` fails unless held-out cloze at k=0 (acc_mutual_info) is more than this many
    standard errors above chance."""
