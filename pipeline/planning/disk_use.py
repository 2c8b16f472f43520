"""Disk space of a run and of its data. Pure arithmetic."""

from dataclasses import dataclass

from pipeline.planning.rates import PlanRates, Rate
from pipeline.tokens.indexed_dataset import token_dtype


@dataclass(frozen=True)
class DataSize:
    """Text and tokens of a corpus."""

    tokens: float
    text_tokens: float
    """Those made from text here; the others existed already."""
    text_bytes: float
    """All text, also of documents that `select` removes."""
    kept_text_bytes: float
    """Text that is tokenized: of the documents that stay."""
    document_bytes: float
    """Size of the documents' Parquet shards."""
    token_bytes: float
    """Size of the token files with their indices, without linked ones."""
    basis: Rate
    """What the sizes rest on; its value is the number of tokens."""
    documents: float
    annotation_bytes: float = 0.0
    """Size of the files of `annotate`; 0 where nothing is annotated."""
    selection_bytes: float = 0.0
    """Size of the files of `select`; 0 where nothing is selected."""

    @property
    def data_bytes(self) -> float:
        """All files of the corpus."""
        made = self.document_bytes + self.token_bytes
        return made + self.annotation_bytes + self.selection_bytes


@dataclass(frozen=True)
class DiskUse:
    """Bytes on disk."""

    data: DataSize
    checkpoint: float
    """One checkpoint."""
    kept_checkpoints: int
    """Checkpoints at the end of the run."""
    most_checkpoints: int
    """Checkpoints at a time while the run trains."""
    export: float
    """The exported transformers folder."""

    @property
    def run_at_the_end(self) -> float:
        """Checkpoints and export of the finished run."""
        return self.kept_checkpoints * self.checkpoint + self.export

    @property
    def most(self) -> float:
        """The most that data and run take together."""
        at_most = max(self.kept_checkpoints, self.most_checkpoints) * self.checkpoint + self.export
        return self.data.data_bytes + at_most


def data_size(
    tokens: float, vocabulary: int, rates: PlanRates, text_share: float = 1.0, basis: str = ""
) -> DataSize:
    """Return the size of a corpus of this number of tokens.

    `text_share`: share of the tokens that are made from text here; other ids exist already, and are
    only linked. `basis`: why this share is assumed.
    """
    made = tokens * text_share
    text = made * rates.text_bytes_per_token.value
    width = token_dtype(vocabulary).itemsize
    return DataSize(
        tokens=tokens,
        text_tokens=made,
        text_bytes=text,
        kept_text_bytes=text,
        document_bytes=text * rates.document_bytes_per_text_byte.value,
        token_bytes=made * width * (1 + rates.token_extra_share.value),
        basis=Rate(tokens, "assumed", f"every token of train.train_tokens is read once{basis}"),
        documents=text / rates.text_bytes_per_document.value,
    )
