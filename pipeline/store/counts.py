"""Types of the counts that each stage writes into its manifest.

`status`, the summary, the report and later stages read them. Reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NotRequired, TypedDict, cast


class Counts(TypedDict):
    """The entry that the counts of every stage may have."""

    headline: NotRequired[str]
    """The last line that the stage prints: what it made, held out, rejected."""


class RejectedInFiles(TypedDict):
    """Files with rows that were rejected for one reason."""

    count: int
    """Number of these files."""
    first: list[str]
    """Names of the first ones."""


class LossCounts(TypedDict):
    """Rows and values of raw files that did not become documents."""

    rejected: dict[str, int]
    """Reason -> rows."""
    rejected_in_files: dict[str, RejectedInFiles]
    """Reason -> files."""
    keys_without_text: dict[str, int]
    """Key -> rows that have it and no text."""
    null_values: dict[str, int]
    """Column of meta -> rows in which a value became null."""
    blank_fields: NotRequired[dict[str, int]]
    """Field of several that make the text -> documents in which it is missing or blank."""


class DocumentCounts(LossCounts):
    """Documents made of raw rows, by one task or of one source."""

    documents: dict[str, int]
    """Split -> documents."""
    text_bytes: dict[str, int]
    """Split -> bytes of text in UTF-8."""
    broken_files: dict[str, str]
    """File that could be read only in part -> reason."""
    smallest_hash: float
    """Smallest hash of a document, 0 to 1, which decides its split."""
    largest_hash: float
    """Largest hash of a document, 0 to 1."""
    crlf_line_ends: int
    """Line ends CRLF that became LF."""
    held_out_elsewhere: NotRequired[int]
    """Documents of training files that are held out only because their text is, by name or in another
    source."""


class PreparedSource(DocumentCounts):
    """Documents of one source."""

    input_files: int
    """Files that were read."""
    empty_files: int
    """Files without content."""
    left_out: dict[str, int]
    """Reason why files in the searched folders are no input -> files."""


class PrepareCounts(Counts):
    """Counts of the stage `prepare`."""

    sources: dict[str, PreparedSource]


class AnnotatedSource(TypedDict):
    """Documents of one source that are annotated."""

    documents: int
    text_bytes: int
    """Bytes of text in UTF-8."""


class AnnotateCounts(Counts):
    """What `annotate` has made."""

    sources: dict[str, AnnotatedSource]
    """Source -> its documents."""
    columns: dict[str, list[str]]
    """Part of the annotations -> names of its columns."""


class TokenCounts(TypedDict):
    """Token ids of one split of one source, or of one shard."""

    documents: int
    tokens: int
    text_bytes: int
    """Bytes of the text that was encoded; 0 where the ids existed already."""


class TokenizeCounts(Counts):
    """Counts of the stage `tokenize`."""

    dtypes: dict[str, str]
    """Source -> numpy's name of the type of its ids."""
    vocab_size: int
    """Ids of the tokenizer."""
    sources: dict[str, dict[str, TokenCounts]]
    """Source -> split -> counts."""
    encoders: dict[str, int]
    """Encoder -> shards that it has encoded."""


class RowCounts(TypedDict):
    """Rows that the documents of one shard or one source are packed into."""

    documents: int
    cut_documents: int
    """Documents that are in more than one row."""
    positions: int
    """Positions with a token to predict."""
    pieces: int
    """Parts of documents, each in one row."""
    rows: int


class PaddedRowCounts(RowCounts):
    """Rows of one source."""

    padding_positions: int
    """Positions without a token."""


class PackCounts(Counts):
    """Counts of the stage `pack`."""

    sequence_length: int
    """Positions of a row."""
    sources: dict[str, PaddedRowCounts]


class LineageEntry(TypedDict):
    """Origin of a run's weights: another run's checkpoint, or a pretrained model."""

    run: NotRequired[str]
    """Folder of the other run."""
    step: NotRequired[int]
    """Step of its checkpoint."""
    checkpoint: NotRequired[str]
    """Checksum of the checkpoint's manifest."""
    pretrained: NotRequired[str]
    """Transformers folder."""
    content: NotRequired[str | None]
    """Hash of the folder's config and weights."""


class SampledSource(TypedDict):
    """The part of one source in the text that a vocabulary was learned from."""

    bytes: int
    documents: int
    document_bound_bytes: int
    """Limit on the bytes of one document."""
    largest_document_bytes: int
    """Bytes of the longest document, at most the limit."""


class GigatokenProof(TypedDict):
    """Result of comparing gigatoken's ids with the ids of the reference."""

    version: str
    """Version of gigatoken."""
    strings_compared: int
    knows_it: NotRequired[bool]
    """Whether gigatoken can encode for this kind of tokenizer."""
    strings_that_differ: NotRequired[int]
    strings_that_differ_with_special_tokens_parsed: NotRequired[int]


class ExactnessProof(TypedDict):
    """How an exported tokenizer compares with its reference."""

    strings_compared: int
    strings_that_differ: int
    strings_decoded_to_themselves: int
    strings_with_the_end_of_a_document_inside: int
    strings_with_the_space_symbol: int


class LearnedFrom(TypedDict, total=False):
    """Text that a vocabulary was learned from; empty for a pretrained tokenizer."""

    training_bytes: int
    """Bytes of text."""
    sample: dict[str, SampledSource]
    """Source -> its part."""


class TokenizerCounts(Counts, ExactnessProof):
    """Counts of the stage `train-tokenizer`, which `report.json` holds without the headline."""

    kind: str
    """`tokenizer.kind`."""
    vocab_size: int
    """One more than the largest id."""
    end_of_document_id: int
    training_bytes: int
    """Bytes of text that the vocabulary was learned from; 0 for a pretrained tokenizer."""
    sample: NotRequired[dict[str, SampledSource]]
    """Source -> its part; missing where no vocabulary was learned."""
    gigatoken: NotRequired[GigatokenProof]
    strings_that_sentencepiece_cuts_differently: NotRequired[int]
    lost_text: NotRequired[dict[str, dict[str, int]]]
    """Source -> text that a pretrained tokenizer loses, in pieces, ids and characters."""


class SourceOutlook(TypedDict):
    """The part of one source in the samples of a run."""

    tokens: int
    rows: int
    """Rows in one epoch."""
    samples: int
    """Rows that the run consumes, in all epochs."""
    epochs: float
    share: float
    """Fraction of the run's samples."""
    cut_documents: float | None
    """Fraction of the source's documents that are in more than one row; None without documents."""
    padding: float
    """Fraction of the positions in its rows that are without a token."""


class DataOutlook(TypedDict):
    """The samples of a run, known before it trains."""

    packing: str
    """`data.packing`."""
    sources: dict[str, SourceOutlook]


class ParameterCounts(TypedDict):
    """Sizes of a model, each tensor counted once."""

    parameters: int
    embedding_parameters: int
    non_embedding_parameters: int


class ResultOfRun(Counts, ParameterCounts):
    """Counts of a finished run, by its ranks. Losses are means over the targets."""

    step: int
    """Completed optimizer steps."""
    tokens: int
    """Tokens trained on."""
    loss: float | None
    """Nats per token, of the last step; None where it was not finite."""
    validation_loss: float | None
    """Nats per token; None where nothing is held out."""
    validation_loss_by_source: Mapping[str, float]
    """Source -> nats per token."""
    validation_targets_by_source: NotRequired[Mapping[str, int]]
    """Source -> targets of a validation; runs of older versions lack it."""
    validation_bits_per_byte: float | None
    """Bits per byte of text; None where the number of bytes is unknown."""
    validation_bits_per_byte_by_source: Mapping[str, float]
    """Source -> bits per byte of its text."""
    unigram_entropy: float | None
    """Nats per token, of the validated targets."""
    unigram_entropy_by_source: Mapping[str, float]
    """Source -> nats per token."""
    ranks: int
    zero_stage: int
    device: str
    """Name of the device."""
    tokens_per_second: float
    """Median over the steps, for all ranks together."""
    mfu: float | None
    """Model FLOPs utilisation: median over the steps, a fraction of the devices' peak FLOPs.

    None where that peak is unknown."""
    checkpoint: str
    """Folder of the last checkpoint."""
    lineage: list[LineageEntry]
    compiled_graphs: NotRequired[int]
    """Graphs that PyTorch's compiler has made, with `train.compile`."""


class TrainCounts(ResultOfRun):
    """Counts of the stage `train`."""

    data: DataOutlook


class ExportCounts(Counts):
    """Counts of the stage `export`."""

    step: int
    """Step of the exported checkpoint."""
    folder: str
    """Folder of the exported model."""
    parameters: int
    dtype: str
    """`precision.dtype`."""
    max_logit_difference: float
    """Maximum difference between the logits of the exported model and those of the engine."""
    prompt: str
    """`evaluation.prompt`."""
    continuation: str
    """Text that the exported model writes after the prompt."""
    tokens: NotRequired[int]
    """Tokens that the checkpoint was trained on; missing in older exports."""
    identity: NotRequired[dict[str, str]]
    """Hashes of the checkpoint's `weights` and `tokenizer`; missing in older exports."""


class TaskScore(TypedDict):
    """One metric of one task at one number of shots."""

    task: str
    shots: int
    seed: int
    """Seed of the choice of examples."""
    metric: str
    value: float
    standard_error: float | None
    items: int
    """Questions that were asked."""
    chance: float | None
    """Score of guessing; None where questions have no choices."""
    uniform: float | None
    """Score of a model that gives every token the same probability; None where it is not known."""


class ModelScore(TaskScore):
    """A line of the table of all scores of a run: a score, and the model that has it."""

    model: str
    """Name of the folder of the model's cells."""
    title: str
    """The model for people: a run and step, or a folder."""
    step: int | None
    """Step of the checkpoint; None for a model from elsewhere."""
    tokens: int | None
    """Tokens that the checkpoint was trained on; None for a model from elsewhere."""
    parameters: int


def scores_with_values(lines: Iterable[ModelScore]) -> list[ModelScore]:
    """Return the lines of the table of scores that have a value.

    The value is null where a model's log-likelihoods give no number.
    """
    return [line for line in lines if cast("float | None", line["value"]) is not None]


class BitsPerByte(TypedDict):
    """Compression of one source's held-out text."""

    value: float
    """Bits per byte of text."""
    bytes: int
    """Bytes of text."""


class EvaluateCounts(Counts):
    """Counts of the stage `evaluate`."""

    model: str
    """The model whose scores follow: that of the last step. `scores.jsonl` has those of all."""
    models: list[str]
    """All models that were asked for."""
    scores: list[TaskScore]
    bits_per_byte: dict[str, BitsPerByte]
    """Source -> compression."""
    harness: str
    """Version of lm-eval."""
