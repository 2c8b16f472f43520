"""Core-hours of the data stages, from the sizes of text and tokens. Pure arithmetic.

Rates are those of one core and of large corpora: starting workers and loading tokenizers, which
decides the time of a small corpus, is not in them.
"""

from dataclasses import dataclass, replace

from pipeline.config.run_config import RunConfig
from pipeline.config.sections import TokenizerSection
from pipeline.planning.disk_use import DataSize
from pipeline.planning.rates import PlanRates, Rate

TOKENIZE_BYTES_PER_SECOND = {
    "byte-level-bpe": 189e6,
    "sentencepiece-bpe": 42e6,
    "sentencepiece-unigram": 1.9e6,
}
"""Text a second that one worker of `tokenize` encodes, by kind: ten times the corpus of the table;
of unigram models, which only the reference encodes, twice.
Source: `pipeline/tokens/README.md`, section Speed."""
REFERENCE_BYTES_PER_SECOND = 2e6
"""The same with `tokens.encoder = reference`: 2.2 MB/s byte-level, 1.9 SentencePiece."""
LEARN_BYTES_PER_CORE_SECOND = {
    "byte-level-bpe": 50e6 / (2 * 28),
    "sentencepiece-bpe": 50e6 / (2 * 14),
    "sentencepiece-unigram": 50e6 / (2 * 103),
}
"""Text a second and core from which a vocabulary of 32,000 ids is learned: 50 MB on 2 cores in 28, 14
and 103 s. Source: `pipeline/tokens/README.md`, section Kinds of tokenizers."""


@dataclass(frozen=True)
class DataPlan:
    """Core-hours of each data stage; 0 where it has nothing to do."""

    prepare_core_hours: float
    train_tokenizer_core_hours: float
    tokenize_core_hours: float
    pack_core_hours: float
    annotate_core_hours: float = 0.0
    select_core_hours: float = 0.0

    def of_stages(self) -> dict[str, float]:
        """Return the core-hours of the stages that have something to do, by name, in order."""
        hours = {
            "prepare": self.prepare_core_hours,
            "annotate": self.annotate_core_hours,
            "select": self.select_core_hours,
            "train-tokenizer": self.train_tokenizer_core_hours,
            "tokenize": self.tokenize_core_hours,
            "pack": self.pack_core_hours,
        }
        return {name: value for name, value in hours.items() if value}


def with_tokenizer_rates(rates: PlanRates, config: RunConfig) -> PlanRates:
    """Return the rates with those of the run file's kind of tokenizer.

    Of an existing tokenizer the kind is not known: it is assumed to be a SentencePiece BPE model.
    """
    section = config.tokenizer
    learned = LEARN_BYTES_PER_CORE_SECOND.get(section.kind)
    if learned is not None:
        source = f"`train-tokenizer` of {section.kind} with 32,000 ids on two cores"
        rates = replace(rates, learn_bytes_per_core_second=Rate(learned, "assumed", source))
    return replace(rates, tokenize_bytes_per_core_second=_tokenize_rate(section, config))


def _tokenize_rate(section: TokenizerSection, config: RunConfig) -> Rate:
    encoded = TOKENIZE_BYTES_PER_SECOND.get(section.kind)
    source = f"`tokenize` on one core, {section.kind}"
    if encoded is None:
        encoded = TOKENIZE_BYTES_PER_SECOND["sentencepiece-bpe"]
        source = f"`tokenize` on one core, SentencePiece BPE (kind {section.kind}: not known)"
    if config.tokens.encoder == "reference" and encoded > REFERENCE_BYTES_PER_SECOND:
        encoded = REFERENCE_BYTES_PER_SECOND
        source = "`tokenize` on one core with tokens.encoder = reference"
    return Rate(encoded, "assumed", source)


def data_core_hours(config: RunConfig, data: DataSize, rates: PlanRates) -> DataPlan:
    """Return the core-hours of the data stages for a corpus of this size.

    A stage that the run file does not describe takes none.
    """
    # A vocabulary is learned from a sample, and not at all where the tokenizer exists.
    sample = 0.0
    encoded = 0.0
    if config.has("tokenizer"):
        encoded = data.kept_text_bytes
        if config.tokenizer.kind in LEARN_BYTES_PER_CORE_SECOND:
            sample = min(float(config.tokenizer.sample_bytes), encoded)
    packed = 0.0
    if config.has("tokenizer", "data") and config.data.packs_documents:
        packed = data.tokens

    # Documents are annotated and judged only where the run file says so.
    annotated = 0.0
    judged = 0.0
    if config.annotate is not None:
        annotated = data.text_bytes
    if config.select is not None:
        judged = data.text_bytes
    return DataPlan(
        prepare_core_hours=data.text_bytes / rates.prepare_bytes_per_core_second.value / 3600,
        train_tokenizer_core_hours=sample / rates.learn_bytes_per_core_second.value / 3600,
        tokenize_core_hours=encoded / rates.tokenize_bytes_per_core_second.value / 3600,
        pack_core_hours=packed / rates.pack_tokens_per_core_second.value / 3600,
        annotate_core_hours=annotated / rates.annotate_bytes_per_core_second.value / 3600,
        select_core_hours=judged / rates.select_bytes_per_core_second.value / 3600,
    )
