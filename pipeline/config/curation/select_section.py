"""The section `select`: which documents a run reads, and which parts of them.

The docstring of a field is what `pipeline config --describe` prints.
"""

from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.curation.decontaminate_section import Decontaminate
from pipeline.config.curation.rules import Rules
from pipeline.config.values import Section

OTHER_REASONS = (
    "exact-duplicate",
    "listed-duplicate",
    "near-duplicate",
    "held-out-copy",
    "contaminated",
    "personal-data",
    "empty-after-cuts",
)
"""Reasons for which a document is removed, besides `rule:NAME`."""
DEFAULT = "default"
"""Entry of `select.max_removed` for the reasons that have none of their own."""
MOST_REMOVED = 0.3
"""Largest share of a source that one reason may take, unless the run file names another one."""

DuplicateKey = Literal["text_hash", "published", "url", "id"]


class NearDuplicates(Section):
    threshold: float = Field(ge=0.5, le=1)
    """Least Jaccard similarity of the sets of word shingles of two documents, exactly computed, of
    which one is removed. Documents are compared if they share a band of `annotate.minhash`."""


class ParagraphDuplicates(Section):
    fewest_characters: int = Field(ge=1)
    """Fewest characters of a paragraph (`annotate.paragraph_unit`: a line, or three sentences) that is
    cut. Short lines, such as brackets of code, are no copies of each other."""


class SpanCut(Section):
    column: str = Field(min_length=1)
    """Column of annotations with spans and scores: an attribute of a Dolma tree
    (`annotate.attributes`), or a signal of lines."""
    at_least: float | None = None
    """Least score of a span that is cut; by default all are."""
    replacement: str = ""
    """Text in its place."""


class Select(Section):
    rules: Rules = Field(default_factory=dict[str, str])
    """Comparisons that a document has to pass, each over a column of the annotations:
    `rps_doc_word_count >= 50`, `language == en`, or for a signal of lines
    `mean(rps_lines_start_with_bulletpoint) <= 0.9` (also `sum`, `count`). A value that is undefined
    passes no comparison. The name of a preset stands for all of its rules
    (`pipeline/config/presets/rules`). `{NAME: COMPARISON}`
    gives a rule a name of its own."""
    exact_duplicates: tuple[DuplicateKey, ...] = ()
    """What two documents must have in common to be copies: `text_hash`, all of the text; `id` or
    `url`, the value of that key of `meta`; `published`, removes what the list of duplicates of the
    corpus names. One copy stays: documents of files held out as a whole first, then by the order
    of `sources`, held-out before training, the longest text, the id."""
    near_duplicates: NearDuplicates | None = None
    """Remove documents that are almost the same as one that stays, in the order of priority of
    `exact_duplicates`; by default none."""
    paragraph_duplicates: ParagraphDuplicates | None = None
    """Cut paragraphs that stood before in the order of priority; by default none."""
    pii: Literal["keep", "replace", "remove"] = "keep"
    """E-mail addresses, IP addresses and phone numbers that `annotate.pii` has found. `replace`: by
    one of a range that is reserved for examples; which one depends on the document alone. `remove`:
    remove the documents that hold any."""
    cut_spans: tuple[SpanCut, ...] = ()
    """Parts of documents that are cut or replaced, as the spans in columns of annotations say."""
    decontaminate: Decontaminate | None = None
    """Questions of public tasks that no document may hold; by default none are searched for."""
    max_removed: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=lambda: {DEFAULT: MOST_REMOVED}
    )
    """Largest share of a source's documents that one reason may remove, by the reason as the table
    of the stage names it (`rule:NAME`, `exact-duplicate`, ...); `default` for all others (0.3 if it
    is not set). Above it the stage stops, for a wrong filter is found by how much it removes."""

    @property
    def reads_annotations(self) -> bool:
        """Whether annotations decide anything."""
        keys = {"text_hash", "published"} & {*self.exact_duplicates}
        others = (self.near_duplicates, self.paragraph_duplicates, self.decontaminate)
        return bool(self.rules or keys or self.pii != "keep" or self.cut_spans or any(others))

    def share_allowed(self, reason: str) -> float:
        """Return the largest share of a source that a reason may remove."""
        default = self.max_removed.get(DEFAULT, MOST_REMOVED)
        return self.max_removed.get(reason, default)


def unknown_reasons(section: Select) -> list[str]:
    """Return a message for each entry of `max_removed` that names no reason, with close names."""
    reasons = [DEFAULT, *OTHER_REASONS, *(f"rule:{name}" for name in section.rules)]
    problems: list[str] = []
    for name in section.max_removed:
        if name in reasons:
            continue
        close = get_close_matches(name, reasons, n=3)
        hint = f"did you mean {' or '.join(close)}?"
        if not close:
            hint = f"there are rule:NAME for each rule, {', '.join(OTHER_REASONS)} and {DEFAULT}"
        problems.append(
            f"select.max_removed.{name}: is not a reason that this run file can produce; {hint}"
        )
    return problems
