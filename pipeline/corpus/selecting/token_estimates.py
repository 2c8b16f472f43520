"""Tokens of removed documents, which nothing ever tokenizes: estimates from their bytes.

They take as many bytes a token as what is kept of the source.

Reads the manifest of `tokenize`, which has the exact counts of what is kept.
"""

from collections.abc import Mapping

from pipeline.config.run_config import RunConfig
from pipeline.store.artifacts import read_manifest
from pipeline.store.counts import TokenizeCounts
from pipeline.store.layout import data_folder
from pipeline.store.records import Manifest


def bytes_per_token(counts: TokenizeCounts) -> dict[str, float]:
    """Return the bytes of text per token of each source that has both."""
    ratios: dict[str, float] = {}
    for source, splits in counts["sources"].items():
        tokens = sum(split["tokens"] for split in splits.values())
        text_bytes = sum(split["text_bytes"] for split in splits.values())
        if tokens and text_bytes:
            ratios[source] = text_bytes / tokens
    return ratios


def earlier_bytes_per_token(config: RunConfig) -> Mapping[str, float]:
    """Return the bytes per token of the token files that are there; empty before `tokenize`."""
    manifest: Manifest[TokenizeCounts] | None = read_manifest(data_folder(config).tokens_manifest)
    if manifest is None:
        return {}
    return bytes_per_token(manifest["counts"])


def estimated_tokens(text_bytes: int, ratio: float | None) -> str:
    """Return `about 1,230,000`, to three digits; "" without a ratio."""
    if ratio is None:
        return ""
    tokens = text_bytes / ratio
    return f"about {int(float(f'{tokens:.3g}')):,}"
