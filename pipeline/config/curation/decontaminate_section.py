"""The section `select.decontaminate`: which questions no document may hold.

The docstring of a field is what `pipeline config --describe` prints.
"""

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from pipeline.config.shipped_files import SuiteName
from pipeline.config.values import Section

COMMON_DOCUMENTS = 10
"""Source: Brown et al. 2020 (arXiv:2005.14165), appendix C, ignore 13-grams that more than 10 training
documents hold."""
FEWEST_WORDS = 8
"""Source: Brown et al. 2020, appendix C: the smallest n, because shorter n-grams match by accident."""
LONGEST_GRAM = 13
"""Source: Brown et al. 2020, appendix C: the largest n."""


class Decontaminate(Section):
    fields_left_out_unused = ("fewest_words",)

    suites: tuple[SuiteName, ...] = ()
    """Suites whose tasks' questions are searched for, as in `evaluation.suite`. Left out are tasks
    that are made here, and those of which the suite says that they cannot be fetched."""
    tasks: tuple[str, ...] = ()
    """Tasks whose questions are searched for, besides those of `suites`. Their questions are read from
    `evaluation.tasks_dir`, where `pipeline tasks fetch` writes them. A task that is scored and not
    named here is reported; it makes no data stale."""
    action: Literal["remove", "cut", "report"] = "remove"
    """`remove`: remove documents that hold a question. `cut`: cut the words in common, with 200
    characters around them; remove the document where more than 10 pieces are left. `report`: keep
    them, and list what was found."""
    common_documents: int = Field(default=COMMON_DOCUMENTS, ge=1)
    """n-grams that more than this number of different texts of a source hold are no evidence there:
    common phrases. Copies of a text count once, so that a page which was copied often is no common
    phrase. They are listed."""

    fewest_words: int = Field(default=FEWEST_WORDS, ge=1, le=LONGEST_GRAM)
    """Questions (with their right answer) of fewer words are not searched for; those below 13 words are
    found as a whole. By default 8, the smallest n of Brown et al. 2020, appendix C: shorter ones match by
    accident. 1 searches for all; what many texts hold is still left out (`common_documents`)."""

    @model_validator(mode="after")
    def _names_tasks(self) -> Self:
        """Refuse a section that names no task."""
        if not self.suites and not self.tasks:
            raise PydanticCustomError(
                "decontaminate",
                "names no tasks; set suites or tasks, for example suites: [small], or leave the "
                "section out",
                {},
            )
        return self
