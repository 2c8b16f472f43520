"""The section `annotate`: what is computed of each document.

The docstring of a field is what `pipeline config --describe` prints.
"""

from difflib import get_close_matches
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from pipeline.config.curation.signal_names import SIGNAL_SETS
from pipeline.config.values import Section
from pipeline.config.yaml_files import YamlValue

ParagraphUnit = Literal["lines", "three-sentences"]
LINES: ParagraphUnit = "lines"
NONE = "none"
"""Written in a run file where nothing is to be computed."""


def _as_names(value: YamlValue) -> YamlValue:
    """Return a single name as a list of it, and `none` as an empty one."""
    if value == NONE:
        return []
    if isinstance(value, str):
        return [value]
    return value


def _known_signals(names: tuple[str, ...]) -> tuple[str, ...]:
    """Raise an error that names each unknown signal with the closest names that exist."""
    known = {*SIGNAL_SETS}.union(*SIGNAL_SETS.values())
    problems: list[str] = []
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, 3) or sorted(SIGNAL_SETS)
            problems.append(f"there is no signal {name}; close names: {', '.join(close)}")
    if problems:
        raise PydanticCustomError("signals", "{why}", {"why": "; ".join(problems)})
    return names


def _none_is_null(value: YamlValue) -> YamlValue:
    """Return `none` as null."""
    if value == NONE:
        return None
    return value


class MinHash(Section):
    scheme: Literal["own", "redpajama-v2"] = "own"
    """How signatures are made. `own`: xxh3 of the words, `bands` x `rows` hashes of 32 bits.
    `redpajama-v2`: the published signatures, byte for byte (sha1 of 13 words, 128 permutations), with
    the bands and rows of `similarity`."""
    words: int = Field(default=5, ge=1, le=64)
    """Words in a shingle, after RedPajama-v2's normalisation. Only scheme `own`."""
    bands: int = Field(default=14, ge=1, le=128)
    """Bands of a signature: two documents are compared if one band agrees. Only scheme `own`."""
    rows: int = Field(default=8, ge=1, le=128)
    """Hashes in a band. Documents of Jaccard similarity s are compared with probability
    `1 - (1 - s^rows)^bands`: 0.92 at s = 0.8 for 14 x 8. Only scheme `own`."""
    similarity: Literal["0.7", "0.8", "0.9", "1.0"] = "0.8"
    """Which of the published signatures to make: 0.7 has 14 bands x 9 rows, 0.8 has 9 x 13, 0.9 has
    5 x 25, 1.0 has 1 x 128. Only scheme `redpajama-v2`."""

    @model_validator(mode="after")
    def _settings_belong_to_the_scheme(self) -> Self:
        others = {"words", "bands", "rows"}
        if self.scheme == "own":
            others = {"similarity"}
        # A run file that `pipeline config` has written names all settings, with their defaults.
        wrong = [
            name
            for name in sorted(others & self.model_fields_set)
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if wrong:
            raise PydanticCustomError(
                "minhash",
                "{fields}: scheme {scheme} has no such settings; leave them out",
                {"fields": ", ".join(wrong), "scheme": self.scheme},
            )
        return self


class Annotate(Section):
    fields_left_out_unused = ("paragraph_unit",)

    signals: Annotated[
        tuple[str, ...], BeforeValidator(_as_names), AfterValidator(_known_signals)
    ] = ("redpajama-v2",)
    """Quality signals to compute: names of sets (`redpajama-v2`, `gopher`, `c4`, `fineweb`;
    `redpajama-v2-published`, which only its tree has) and of single signals; `none` computes none.
    `pipeline/corpus/annotating/signals/README.md` defines
    each."""
    published_signals: Literal["use", "recompute", "check"] = "use"
    """Signals, and signatures of `minhash.scheme: redpajama-v2`, that a published tree has beside its
    documents. `use`: take them; what is not published is computed. `recompute`: compute all. `check`:
    compute all, and stop where a published signal differs."""
    attributes: tuple[str, ...] = ()
    """Keys of the attributes of a Dolma tree to take as columns: spans with scores."""
    stop_words: Literal["en", "de", "es", "fr", "it"] = "en"
    """Language of the list of stop words behind `rps_doc_stop_word_fraction`."""
    language: bool = True
    """Identify the language by fastText's lid.176; needs the extra `curate`."""
    pii: bool = True
    """Find e-mail addresses, IP addresses and phone numbers."""
    minhash: Annotated[MinHash | None, BeforeValidator(_none_is_null)] = MinHash()
    """Bands of MinHash, by which `select` finds near-duplicates; `none` makes none."""
    paragraphs: bool = True
    """Hash the words of each paragraph, by which `select` finds repeated paragraphs."""
    paragraph_unit: ParagraphUnit = LINES
    """What a paragraph is. `lines`: a line. `three-sentences`: every three sentences in a row, which
    overlap, as in the deduplication of C4 (Raffel et al. 2020, section 2.2); lines that end in no
    sentence's mark, such as headings and code, are none."""

    @property
    def signal_columns(self) -> tuple[str, ...]:
        """Names of all signals asked for, sets expanded, each once, in the order of the sets."""
        names: dict[str, None] = {}
        for name in self.signals:
            names |= dict.fromkeys(SIGNAL_SETS.get(name, (name,)))
        return tuple(names)
