"""The part `contamination` of the annotations: where a document holds questions of public tasks.

The part is there if the run file has `select.decontaminate`. Which of these passages count is for
`select` to say. Reads the tasks' questions in `evaluation.tasks_dir`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.part import AnnotationPart, Value, list_of
from pipeline.corpus.decontaminating.question_index import question_index
from pipeline.corpus.decontaminating.searched_tasks import SearchedTasks, searched_tasks
from pipeline.store.records import Json

HITS = pa.field(
    "contamination",
    list_of(
        pa.struct(
            [
                ("task", pa.string()),
                ("item", pa.int64()),
                ("kind", pa.string()),
                ("start", pa.int64()),
                ("end", pa.int64()),
            ]
        )
    ),
)
"""The passages of a document that consist of n-grams of a question; `QuestionPassage` describes them."""


@dataclass(frozen=True)
class Contamination(AnnotationPart):
    """Passages that consist of 13-grams of a question, or of all of a shorter one."""

    tasks: SearchedTasks

    name = "contamination"
    version = 2

    @classmethod
    def asked_for(cls, config: RunConfig) -> Self | None:
        """Return the part if `select.decontaminate` is set.

        Raises ConfigError where the questions are not in `evaluation.tasks_dir`.
        """
        if config.select is None or config.select.decontaminate is None:
            return None
        tasks = searched_tasks(config.select.decontaminate, config.evaluation.tasks_dir)
        return cls(tasks)

    def settings(self) -> Json:
        """Return the tasks, the hash of their questions, and which are too short where that is set."""
        return [*self.tasks.tasks, *self.tasks.decides]

    def fields(self) -> Sequence[pa.Field]:
        """Return the column `contamination`."""
        return [HITS]

    def values(self, document: DocumentText) -> Sequence[Value]:
        """Return tasks, items, kinds, starts and ends of the passages."""
        passages = question_index(self.tasks).passages(document.text)
        numbers = [(passage.item, passage.start, passage.end) for passage in passages]
        item, start, end = np.array(numbers, np.int64).reshape(-1, 3).T
        tasks = [passage.task for passage in passages]
        kinds = [passage.kind for passage in passages]
        return [(tasks, item, kinds, start, end)]
