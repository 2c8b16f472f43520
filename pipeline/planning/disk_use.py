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
    document_bytes: float
    """Size of the documents' Parquet shards."""
    token_bytes: float
    """Size of the token files with their indices, without linked ones."""
    basis: Rate
    """What the sizes rest on; its value is the number of tokens."""


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
        return self.data.document_bytes + self.data.token_bytes + at_most


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
        document_bytes=text * rates.document_bytes_per_text_byte.value,
        token_bytes=made * width * (1 + rates.token_extra_share.value),
        basis=Rate(tokens, "assumed", f"every token of train.train_tokens is read once{basis}"),
    )
